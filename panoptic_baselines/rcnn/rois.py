"""Choose the pyramid level that a box pools from, and pool level by level, without MXNet."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Callable, Optional

import numpy as np

STRIDES = (4, 8, 16, 32)
"""Of p2, ..., p5."""

FINEST, COARSEST = 2, 5
CANONICAL_LEVEL, CANONICAL_SIZE = 4, 224


def roi_levels(boxes: np.ndarray) -> np.ndarray:
    """Return indices into p2, ..., p5 for boxes (N, 4); a box of 224 x 224 pixels uses p4."""
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    level = CANONICAL_LEVEL + np.log2(np.sqrt(area) / CANONICAL_SIZE + np.float32(1e-8))
    return np.clip(np.floor(level), FINEST, COARSEST).astype(np.int64) - FINEST


def boxes_to_rois(boxes: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return float32 (R, 5), image, x0, y0, x1, y1, and the levels (R,) of the boxes of all images.

    ``boxes`` has one array (N, 4) per image.
    """
    image = np.repeat(np.arange(len(boxes)), [len(b) for b in boxes])
    everything = np.concatenate([np.zeros((0, 4), np.float32), *boxes])
    rois = np.concatenate([image[:, None].astype(np.float32), everything], axis=1)
    return rois, roi_levels(everything)


def replace_empty_boxes(rois: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Replace RoIs (R, 5) without width or height, which some operators do not support.

    Returns the RoIs, and bool (R,): which of them were replaced.  Their features must become 0.
    """
    flat = (rois[:, 3:] <= rois[:, 1:3]).any(axis=1)
    return np.where(flat[:, None], np.float32([0, 0, 0, 1, 1]), rois), flat


def pool_by_level(features: Sequence[Any], boxes: Sequence[np.ndarray],
                  align: Callable[[Any, np.ndarray], np.ndarray]) -> np.ndarray:
    """Pool the features of each box from the level that suits its size: (R, C, size, size).

    Parameters
    ----------
    features : p2, ..., p5 (B, C, h, w)
    boxes : float32 (N, 4) in image pixels for each image; R >= 1 is the number of all boxes
    align : RoIAlign on one level, called with its features and RoIs (N, 5) in pixels of that level
    """
    rois, levels = boxes_to_rois(boxes)
    rois, flat = replace_empty_boxes(rois)
    pooled: Optional[np.ndarray] = None
    for level in np.unique(levels):
        rows = np.flatnonzero(levels == level)
        part = align(features[level], rois[rows] / np.float32([1, *[STRIDES[level]] * 4]))
        if pooled is None:
            pooled = np.empty((len(rois), *part.shape[1:]), part.dtype)
        pooled[rows] = part
    assert pooled is not None, 'there are no boxes'
    pooled[flat] = 0
    return pooled
