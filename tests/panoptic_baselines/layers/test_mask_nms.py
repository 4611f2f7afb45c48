"""Suppression of masks by masks."""
from __future__ import annotations

import numpy as np
import pytest

from panoptic_baselines.layers import mask_nms as module
from panoptic_baselines.layers.mask_nms import mask_ious, mask_nms
from panoptic_baselines.layers.nms import nms


def rectangles(count, size=64, seed=0):
    rng = np.random.default_rng(seed)
    low = rng.integers(0, size // 2, (count, 2))
    high = np.minimum(low + rng.integers(4, size // 2, (count, 2)), size)
    boxes = np.concatenate([low, high], axis=1)
    masks = np.zeros((count, size, size), bool)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes):
        mask[y0:y1, x0:x1] = True
    return masks, boxes.astype(np.float32), rng.random(count).astype(np.float32)


@pytest.mark.parametrize('threshold', [0.3, 0.6])
@pytest.mark.parametrize('classes', [None, 3])
@pytest.mark.parametrize('strip', [2 ** 22, 1000])
def test_masks_that_fill_their_boxes_go_as_the_boxes_do(threshold, classes, strip, monkeypatch):
    monkeypatch.setattr(module, 'STRIP_VALUES', strip)
    masks, boxes, scores = rectangles(80)
    kinds = None if classes is None else np.arange(80) % classes
    keep = mask_nms(masks, scores, threshold, kinds)
    assert 0 < len(keep) < 80
    np.testing.assert_array_equal(keep, nms(boxes, scores, threshold, kinds))
    np.testing.assert_array_equal(mask_nms(masks, scores, threshold, kinds, limit=5), keep[:5])


def test_overlaps_by_hand():
    masks = np.zeros((3, 2, 4), bool)
    masks[0, 0], masks[1, :, :2] = True, True
    np.testing.assert_allclose(mask_ious(masks), [[1, 1 / 3, 0], [1 / 3, 1, 0], [0, 0, 0]])


def test_masks_whose_boxes_agree_may_both_stay():
    upper = np.triu(np.ones((8, 8), bool))
    masks, scores = np.stack([upper, ~upper, upper]), np.array([0.5, 0.9, 0.5])
    assert mask_nms(masks, scores, 0.5).tolist() == [1, 0]   # the first of two equals stays


def test_no_masks():
    assert mask_nms(np.zeros((0, 4, 4), bool), np.zeros(0), 0.5).tolist() == []
    assert mask_nms(np.zeros((2, 4, 4), bool), np.ones(2), 0.5).tolist() == [0, 1]
