"""Anchors near objects get the same labels as when every pair is compared."""
from __future__ import annotations

import numpy as np
import pytest

from panoptic_baselines.layers.boxes import pairwise_iou
from panoptic_baselines.rcnn.anchors import pyramid_anchors
from panoptic_baselines.rcnn.matcher import match
from panoptic_baselines.rcnn.nearby import (
    anchor_grids,
    label_anchors,
    match_anchors,
    sample_anchors,
    take_anchors,
)

SHAPES, SIZES = [(25, 40), (13, 20), (7, 10), (4, 5), (2, 3)], (32, 64, 128, 256, 512)


def objects(seed: int, count: int = 8) -> np.ndarray:
    """Boxes of every size in an image of 100 x 160 pixels."""
    rng = np.random.default_rng(seed)
    low, high = rng.uniform(0, (150, 90), (count, 2)), rng.uniform(1, 160, (count, 2))
    high = np.minimum(low + high ** rng.uniform(0.2, 1, (count, 1)), (160, 100))
    return np.round(np.concatenate([low, np.maximum(high, low + 1)], axis=1)).astype(np.float32)


@pytest.mark.parametrize('seed', range(12))
def test_equal_to_a_look_at_every_pair(seed):
    """Large objects, and some of a pixel, whose best anchor overlaps them little."""
    gt, grids = objects(seed), anchor_grids(SHAPES, SIZES)
    if seed % 3 == 0:   # twice the same, and one that is far better covered by another
        gt = np.concatenate([gt, gt[:2], np.float32([[3, 3, 4, 4], [0, 0, 160, 100]])])
    anchors = np.concatenate(pyramid_anchors(SHAPES, SIZES))
    index, labels = match(pairwise_iou(gt, anchors), 0.7, 0.3, keep_best=True)
    np.testing.assert_array_equal(label_anchors(grids, gt), labels)
    every = np.arange(len(anchors))
    np.testing.assert_array_equal(take_anchors(grids, every), anchors)
    np.testing.assert_array_equal(match_anchors(grids, every, gt), gt[index])


def test_the_seed_decides():
    grids, gt = anchor_grids(SHAPES, SIZES), objects(1)
    index = [sample_anchors(grids, gt, np.random.default_rng(seed), 64).index for seed in (3, 3, 4)]
    np.testing.assert_array_equal(index[0], index[1])
    assert (index[0] != index[2]).any() and len(set(index[0])) == 64
    assert (np.diff(index[0]) > 0).all()


def test_anchors_learn_the_way_to_their_object():
    targets = sample_anchors(anchor_grids([(1, 1)], [10]), np.float32([[-4, -5, 6, 5]]),
                             np.random.default_rng(0))
    assert targets.index.tolist() == targets.labels.tolist() == [1]   # the others overlap it a bit
    np.testing.assert_allclose(targets.deltas, [[0.1, 0, 0, 0]], atol=1e-7)


def test_images_without_objects_are_background():
    targets = sample_anchors(anchor_grids([(1, 1)], [10]), np.zeros((0, 4), np.float32),
                             np.random.default_rng(0))
    assert targets.labels.tolist() == [0] * 3 and not targets.deltas.any()
