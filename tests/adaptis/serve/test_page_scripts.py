"""The scripts of the page without a server, in Node.js, against the Python that they repeat."""
from __future__ import annotations

import dataclasses
import json
import random
import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest

from adaptis.inference.encoded_image import EncodedImage
from adaptis.inference.likeness import ImageStatistics
from adaptis.inference.merge import to_panoptic
from adaptis.inference.panoptic import segment
from adaptis.inference.proposals import find_proposals
from adaptis.inference.rescale import network_size, resize, scale_points
from adaptis.inference.settings import AdaptISSettings
from adaptis.inference.upsample import upsample
from adaptis.serve import static_page
from adaptis.serve.networks import ServedNetwork
from adaptis.types import Category, Taxonomy

pytestmark = pytest.mark.skipif(shutil.which('node') is None, reason='Node.js is not installed')

SIZE = 40, 33
SIZES = [(77, 90), (17, 13), (40, 20), (80, 66), (41, 34)]
TAXONOMY = Taxonomy([Category(i, str(i), i > 2, (i, i, i)) for i in range(1, 6)])


@pytest.fixture(scope='module')
def ask(tmp_path_factory):
    """``ask((name, question), ...)``: the answers of ``scripts.mjs``."""
    folder = tmp_path_factory.mktemp('scripts')
    for script in (Path(static_page.__file__).parent / 'web').glob('*.js'):
        shutil.copy(script, folder)
    shutil.copy(Path(__file__).with_name('scripts.mjs'), folder)
    (folder / 'package.json').write_text('{"type": "module"}')

    def ask(*questions):
        (folder / 'questions.json').write_text(json.dumps(questions, default=plain))
        done = subprocess.run(['node', 'scripts.mjs', 'questions.json'], cwd=folder,
                              capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return ask


def plain(value):
    return value.ravel().tolist() if isinstance(value, np.ndarray) else value.item()


def size_json(size):
    return {'height': size[0], 'width': size[1]}


def hills(seed, size=SIZE):
    """A map in [0, 1] with maxima and a plateau."""
    prob = cv2.GaussianBlur(np.random.default_rng(seed).random(size).astype(np.float32), (0, 0), 2)
    prob = (prob - prob.min()) / (prob.max() - prob.min()) * np.float32(0.98)
    prob[5:9, 5:9] = prob[5, 5]
    return prob


def test_random_numbers_are_those_of_python(ask):
    pairs = [(100, 7), (5, 5), (30, 3), (22, 7), (9216, 7), (2000000, 7), (1, 1)]
    for seed in (0, 7, 2 ** 40 + 3):
        generator = random.Random(seed)
        expected = [generator.sample(range(count), wanted) for count, wanted in pairs]
        assert ask(('samples', {'seed': seed, 'pairs': pairs})) == [expected]


def test_candidates_are_the_same(ask):
    prob, size = hills(0), size_json(SIZE)
    settings = {'threshold': 0.1, 'climb': 0.003, 'step': 0.025}
    *blurred, found = ask(*(('blur', {'map': prob, 'size': size, 'side': side}) for side in (2, 5)),
                          ('proposals', {'map': prob, 'size': size, 'settings': settings}))
    for side, values in zip((2, 5), blurred):
        np.testing.assert_allclose(np.reshape(values, SIZE), cv2.blur(prob, (side, side)),
                                   atol=1e-6)
    expected = find_proposals(prob, **settings).candidates
    assert len(expected) > 5 and found == expected.tolist()


def test_images_and_maps_are_resized_in_the_same_way(ask):
    prob = np.random.default_rng(1).random(SIZE).astype(np.float32)
    pixels = np.random.default_rng(2).integers(0, 256, SIZE).astype(np.uint8)
    questions = [(name, {'map': values, 'from': size_json(SIZE), 'to': size_json(size)})
                 for size in SIZES
                 for name, values in (
                     ('upsample', prob), ('resize', prob), ('resizeBytes', pixels))]
    found = iter(ask(*questions))
    for size in SIZES:
        if min(size[0] - SIZE[0], size[1] - SIZE[1]) >= 0:
            np.testing.assert_array_equal(np.reshape(next(found), size).astype(np.float32),
                                          upsample(prob, size))
        else:
            next(found)   # maps are never made smaller in this way
        np.testing.assert_allclose(np.reshape(next(found), size), resize(prob, size), atol=1e-6)
        np.testing.assert_array_equal(np.reshape(next(found), size), resize(pixels, size))


def test_bytes_between_two_values_are_rounded_like_there(ask):
    size, to = (81, 256), (192, 607)
    pixels = np.random.default_rng(3).integers(0, 256, size).astype(np.uint8)
    found, = ask(('resizeBytes', {'map': pixels, 'from': size_json(size), 'to': size_json(to)}))
    np.testing.assert_array_equal(np.reshape(found, to), resize(pixels, to))


def test_sizes_and_points(ask):
    sizes = [(96, 96), (81, 96), (1, 1), (700, 60), (333, 1000), (25, 30)]
    settings = AdaptISSettings(short_side=65, max_side=128)
    limits = {'short_side': settings.short_side, 'max_side': settings.max_side}
    points = [[6, 81], [0, 0], [12.5, 95]]
    found, moved = ask(
        ('sizes', {'sizes': [size_json(s) for s in sizes], 'settings': limits, 'maxSide': 512}),
        ('points', {'points': points, 'from': size_json((81, 96)), 'to': size_json((64, 76))}))
    for size, (network, limited) in zip(sizes, found):
        assert network == size_json(network_size(size, settings))
        scale = min(1, 512 / max(size))
        assert limited == size_json([max(1, round(side * scale)) for side in size])
    expected = scale_points(np.array(points, np.float32), (81, 96), (64, 76))
    np.testing.assert_allclose(moved, expected, rtol=1e-6)


def test_the_same_pictures_are_warned_of_in_the_same_words(ask):
    app = pytest.importorskip('adaptis.serve.app', exc_type=ImportError)
    rng = np.random.default_rng(4)
    usual = [rng.integers(0, 256, (90, 120, 3)).astype(np.uint8) // 2 for _ in range(3)]
    pictures = [*usual, 255 - usual[0], usual[0].repeat(5, axis=0).repeat(5, axis=1)]
    statistics = ImageStatistics.of(usual)
    found, = ask(('warnings', {
        'pictures': [{'planes': [*picture.transpose(2, 0, 1)], 'size': size_json(picture.shape)}
                     for picture in pictures],
        'statistics': statistics.to_sidecar()['images'],
        'settings': {'short_side': None, 'max_side': None}}))
    network = ServedNetwork('net', 'A net', 'sticks', lambda: None, None, statistics)
    expected = [app._warning(network, picture, AdaptISSettings()) for picture in pictures]
    assert found == expected and [bool(sentence) for sentence in found] == [False] * 3 + [True] * 2


class Drawn(EncodedImage):
    """Maps and masks at random, but the same ones for both languages."""

    def __init__(self):
        rng = np.random.default_rng(5)
        scores = np.stack([hills(seed) for seed in range(5)]) ** 2
        prob = (scores / scores.sum(axis=0)).astype(np.float32)
        self.stuff_prob, self.things_prob = prob[:2], prob[2:]
        self.proposals_prob = hills(9)
        self.masks = [cv2.GaussianBlur(rng.random(SIZE).astype(np.float32), (0, 0), 4) * 1.4 - 0.2
                      for _ in range(23)]

    def masks_at(self, points):
        return np.stack([self.masks[int(row * 7 + col) % len(self.masks)] for row, col in points])


@pytest.mark.parametrize('changes', [
    {}, {'sampling': 'random', 'num_candidates': 3, 'num_iterations': 9, 'seed': 3},
    {'cut_radius': 6, 'min_area': 40, 'proposal_blur': 3},
    {'min_things_prob': 0.55, 'min_stuff_prob': 0.5, 'stuff_prob_mult': 0.7, 'max_candidates': 5}])
def test_everything_is_segmented_in_the_same_way(ask, changes):
    settings = AdaptISSettings(mask_threshold=0.5, things_threshold=0.25, overlap_threshold=0.6
                               ).replace(**changes)
    drawn, to = Drawn(), (53, 44)
    told = []
    found, = ask(('segment', {
        'size': size_json(SIZE), 'to': size_json(to), 'stuff': list(drawn.stuff_prob),
        'things': list(drawn.things_prob), 'proposals': drawn.proposals_prob,
        'masks': drawn.masks, 'settings': dataclasses.asdict(settings)}))
    result = segment(drawn, settings, size=to, watch=lambda *step: told.append(list(step[:2])))
    merged = to_panoptic(result.merged, result.stuff_prob, TAXONOMY)
    assert found['told'] == told
    assert len(found['segments']) == len(merged.segments) > 2
    for mine, expected in zip(found['segments'], merged.segments):
        assert TAXONOMY.categories[mine['categoryIndex']].id == expected.category_id
        assert mine['isthing'] == expected.isthing
        assert mine['score'] == pytest.approx(expected.score, abs=1e-5)
        np.testing.assert_array_equal(np.reshape(mine['pixels'], to) > 0,
                                      merged.segment_map == expected.id)
