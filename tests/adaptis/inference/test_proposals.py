from __future__ import annotations

import json
import time
from collections import deque

import cv2
import numpy as np
import pytest

from adaptis.errors import AdaptisError
from adaptis.inference import proposals
from adaptis.inference.proposals import find_proposals

NAMES = ('bumps_40x60', 'clipped_40x40', 'column_50x1', 'constant_12x17', 'fine_80x96',
         'noise_33x31', 'plateaus_48x56', 'row_1x60', 'smooth_64x64')


@pytest.mark.parametrize('name', NAMES)
@pytest.mark.parametrize('params', ['p10', 'p35', 'e02'])
def test_equals_the_official_search(parity, name, params):
    case = np.load(parity / 'proposals' / f'{name}.npz')
    p = json.loads(str(case['params']))[params]
    found = find_proposals(case['map'], p['prob_thresh'], p['eps'], p['step_size'],
                           with_colors=True)
    np.testing.assert_array_equal(found.candidates, case[f'candidates_{params}'])
    np.testing.assert_array_equal(found.colors, case[f'colors_{params}'])


NEIGHBOURS = [(a, b) for a in (-1, 0, 1) for b in (-1, 0, 1) if a or b]


def search_by_definition(prob, threshold, climb, step):
    """The definition, pixel by pixel."""
    threshold, climb, step = map(np.float32, (threshold, climb, step))
    height, width = prob.shape
    colors = np.full(prob.shape, -1, np.int32)
    candidates = []

    def around(y, x):
        return [(y + a, x + b) for a, b in NEIGHBOURS
                if 0 <= y + a < height and 0 <= x + b < width]

    level = np.float32(0.99)
    while level > threshold:
        for seed in np.argwhere(prob >= level):
            values = [prob[u] for u in around(*seed)]
            if colors[tuple(seed)] >= 0 or any(v > prob[tuple(seed)] or v < threshold
                                               for v in values):
                continue
            colors[tuple(seed)] = len(candidates)
            queue = deque([tuple(seed)])
            while queue:
                v = queue.popleft()
                for u in around(*v):
                    if colors[u] < 0 and prob[v] + climb > prob[u]:
                        colors[u] = len(candidates)
                        queue.append(u)
            candidates.append(seed)
        level = np.float32(level - step)
    return np.array(candidates, np.int32).reshape(-1, 2), colors


def random_map(kind: str, rng) -> np.ndarray:
    prob = rng.random_sample(rng.randint(1, 20, 2)).astype(np.float32)
    if kind == 'smooth':
        return cv2.blur(prob, (3, 3))
    if kind == 'quantised':
        return np.round(prob * 20) / np.float32(20)
    if kind == 'steps of the climb':  # v + climb and u differ by rounding alone
        walk = np.cumsum(rng.randint(-3, 4, prob.shape), axis=1) * np.float32(0.003)
        return np.clip(walk + np.float32(0.5), 0, 1).astype(np.float32)
    return prob


@pytest.mark.parametrize('kind', ['noise', 'smooth', 'quantised', 'steps of the climb'])
def test_equals_the_definition_on_random_maps(kind):
    rng = np.random.RandomState(5)
    for _ in range(25):
        prob = random_map(kind, rng)
        settings = [rng.choice([0.05, 0.1, 0.35]), rng.choice([0.003, 0.02, 0.05]),
                    rng.choice([0.025, 0.1])]
        found = find_proposals(prob, *settings, with_colors=True)
        candidates, colors = search_by_definition(prob, *settings)
        np.testing.assert_array_equal(found.candidates, candidates)
        np.testing.assert_array_equal(found.colors, colors)


def test_steps_that_opencv_rounds_otherwise_occur_in_these_tests():
    rng = np.random.RandomState(5)
    missed = [len(proposals._missed_steps(random_map('steps of the climb', rng),
                                          np.float32(0.003))[0]) for _ in range(5)]
    assert sum(missed) > 0


def test_more_than_254_floods():
    prob = np.full((64, 64), 0.2, np.float32)
    prob[1::2, 1::2] = np.linspace(0.5, 0.9, 32 * 32).reshape(32, 32)
    found = find_proposals(prob, 0.1, 0.003, 0.025, with_colors=True)
    candidates, colors = search_by_definition(prob, 0.1, 0.003, 0.025)
    assert len(candidates) == 1024
    np.testing.assert_array_equal(found.candidates, candidates)
    np.testing.assert_array_equal(found.colors, colors)


def test_a_peak_beside_a_low_pixel_does_not_count():
    prob = np.zeros((5, 9), np.float32)
    prob[:, :4] = 0.2
    prob[2, 2] = 0.9
    prob[2, 7] = 0.95  # beside zeros
    assert find_proposals(prob, 0.1).candidates.tolist() == [[2, 2]]


def test_one_pixel_and_nothing_at_all():
    assert find_proposals(np.array([[0.5]]), 0.1).candidates.tolist() == [[0, 0]]
    assert find_proposals(np.zeros((3, 4)), 0.1).candidates.shape == (0, 2)
    assert find_proposals(np.ones((3, 4)), 0.995).candidates.shape == (0, 2)


@pytest.mark.parametrize('prob', [np.zeros((0, 3)), np.zeros(3), np.full((2, 2), np.nan),
                                  np.full((2, 2), 1.5), np.full((2, 2), -0.1)])
def test_refuses_what_is_no_probability_map(prob):
    with pytest.raises(AdaptisError, match='probabilities'):
        find_proposals(prob, 0.1)


def test_refuses_settings_without_sense():
    with pytest.raises(AdaptisError, match='climb'):
        find_proposals(np.ones((2, 2)), 0.1, climb=0)
    for step in (0, 1e-9, float('nan')):  # the second would never end
        with pytest.raises(AdaptisError, match='step'):
            find_proposals(np.ones((2, 2)), 0.1, step=step)


def test_is_fast_on_a_large_map():
    rng = np.random.RandomState(0)
    prob = cv2.resize(cv2.blur(rng.random_sample((32, 64)).astype(np.float32), (3, 3)),
                      (1024, 512), interpolation=cv2.INTER_CUBIC).clip(0, 1)
    start = time.process_time()
    assert len(find_proposals(prob, 0.1).candidates) > 20
    assert time.process_time() - start < 5.0  # a loop over pixels takes minutes
