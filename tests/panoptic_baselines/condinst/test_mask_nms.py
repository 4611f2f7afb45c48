"""Non-maximum suppression of masks."""
from __future__ import annotations

import numpy as np
import pytest

from panoptic_baselines.condinst import mask_nms as module
from panoptic_baselines.condinst.mask_nms import mask_ious, mask_nms
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
@pytest.mark.parametrize('strip, step', [(2 ** 22, 256), (1000, 7)])
def test_masks_that_fill_their_boxes_go_as_the_boxes_do(threshold, classes, strip, step,
                                                        monkeypatch):
    monkeypatch.setattr(module, 'STRIP_VALUES', strip)
    monkeypatch.setattr(module, 'CHUNK_SIZE', step)
    masks, boxes, scores = rectangles(80)
    kinds = None if classes is None else np.arange(80) % classes
    pick = masks.__getitem__
    keep = mask_nms(pick, scores, threshold, kinds)
    assert 0 < len(keep) < 80
    np.testing.assert_array_equal(keep, nms(boxes, scores, threshold, kinds))
    np.testing.assert_array_equal(mask_nms(pick, scores, threshold, kinds, limit=5), keep[:5])


def test_overlaps_by_hand():
    masks = np.zeros((3, 2, 4), bool)
    masks[0, 0], masks[1, :, :2] = True, True
    np.testing.assert_allclose(mask_ious(masks), [[1, 1 / 3, 0], [1 / 3, 1, 0], [0, 0, 0]])


def test_masks_whose_boxes_agree_may_both_stay():
    upper = np.triu(np.ones((8, 8), bool))
    masks, scores = np.stack([upper, ~upper, upper]), np.array([0.5, 0.9, 0.5])
    # Of two equals the first stays.
    assert mask_nms(masks.__getitem__, scores, 0.5).tolist() == [1, 0]


def test_no_masks():
    assert mask_nms(None, np.zeros(0), 0.5).tolist() == []
    empty = np.zeros((2, 4, 4), bool)
    assert mask_nms(empty.__getitem__, np.ones(2), 0.5).tolist() == [0, 1]


def test_no_more_masks_are_asked_for_than_needed(monkeypatch):
    monkeypatch.setattr(module, 'CHUNK_SIZE', 10)
    masks, _, scores = rectangles(80)
    asked = []

    def some(rows):
        asked.extend(rows)
        return masks[rows]
    assert len(mask_nms(some, scores, 0.9, limit=15)) == 15
    assert asked == np.argsort(-scores).tolist()[:20]
