"""The locations that masks are learned from."""
from __future__ import annotations

import numpy as np
import pytest

from panoptic_baselines.condinst.positives import (
    best_positives,
    best_positives_per_object,
    random_positives,
)

OBJECTS = np.array([[-1, 0, 0, 0, 1, -1], [2, -1, -1, -1, -1, 2]])
SCORES = np.array([[.9, .1, .3, .2, .0, .9], [.1, .9, .9, .9, .9, .2]])


def test_random_ones():
    everything = random_positives(OBJECTS, 6, np.random.default_rng(0))
    assert everything.tolist() == [[0, 0, 0, 0, 1, 1], [1, 2, 3, 4, 0, 5]]
    drawn = {tuple(map(tuple, random_positives(OBJECTS, 2, np.random.default_rng(i))))
             for i in range(40)}
    assert 8 < len(drawn) <= 15 and all(len(images) == 2 for images, _ in drawn)
    assert {pair for images, cells in drawn for pair in zip(images, cells)} == set(
        zip(*everything))
    again = [random_positives(OBJECTS, 3, np.random.default_rng(5)) for _ in range(2)]
    assert (again[0] == again[1]).all()


@pytest.mark.parametrize('limit', [1, 3, 4, 6, 64])
def test_the_best_ones_of_each_image(limit):
    for scores in (SCORES, SCORES[:, ::-1], 1 - SCORES):
        expected = []
        for image, (owners, row) in enumerate(zip(OBJECTS, scores)):
            found = sorted(np.flatnonzero(owners >= 0), key=lambda cell: (-row[cell], cell))
            expected += [(image, cell) for cell in sorted(found[:limit])]
        assert list(zip(*best_positives(OBJECTS, scores, limit))) == expected


def test_the_best_ones_of_each_object():
    def chosen(limit):
        return sorted(zip(*best_positives_per_object(OBJECTS, SCORES, limit).tolist()))
    assert chosen(1) == [(0, 2), (0, 4), (1, 5)]     # each object has one in any case
    assert chosen(3) == [(0, 2), (0, 4), (1, 0), (1, 5)]
    assert chosen(4) == [(0, 2), (0, 3), (0, 4), (1, 0), (1, 5)]
    assert len(chosen(64)) == 6


def test_nothing_found():
    nothing = np.full((2, 3), -1)
    assert random_positives(nothing, 5, np.random).shape == (2, 0)
    for best in (best_positives, best_positives_per_object):
        assert best(nothing, np.zeros((2, 3)), 5).shape == (2, 0)
        some = best(np.array([[-1, -1], [0, -1]]), np.zeros((2, 2)), 5)
        assert some.tolist() == [[1], [0]]
