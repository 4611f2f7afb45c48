"""Greedy non-maximum suppression based on the overlap of masks instead of boxes (section 3.5)."""
from __future__ import annotations

from typing import Callable, Optional

import numpy as np

from panoptic_baselines.layers.nms import greedy_nms

CHUNK_SIZE = 256
"""Number of masks that are compared at once, in addition to the remaining earlier ones."""

STRIP_VALUES = 2 ** 22
"""Number of pixels, over all masks, that are converted to floats at a time."""


def mask_nms(masks: Callable[[np.ndarray], np.ndarray], scores: np.ndarray, threshold: float,
             classes: Optional[np.ndarray] = None, limit: Optional[int] = None) -> np.ndarray:
    """Return the indices of the masks that remain, by descending score; ties keep their order.

    A mask is removed if its IoU with a remaining mask of the same class is above ``threshold``; the
    IoU of an empty mask is 0.

    Parameters
    ----------
    masks : a function that returns bool (n, H, W) for n indices.  It is called for ``CHUNK_SIZE``
        masks at a time, best first; only these and up to ``limit`` others are kept in memory
    scores : (N,)
    classes : (N,); None = all masks have the same class
    limit : maximum number of masks to return
    """
    order = np.argsort(-scores, kind='stable')
    keep, kept = order[:0], None
    for begin in range(0, len(order), CHUNK_SIZE):
        rows = order[begin:begin + CHUNK_SIZE]
        found = masks(rows) if kept is None else np.concatenate([kept, masks(rows)])
        rows = np.concatenate([keep, rows])
        overlaps = mask_ious(found) > threshold
        if classes is not None:
            overlaps &= classes[rows, None] == classes[rows]
        alive = greedy_nms(overlaps)
        keep, kept = rows[alive], found[alive]
        if limit is not None and len(keep) >= limit:
            break
    return keep[:limit]


def mask_ious(masks: np.ndarray) -> np.ndarray:
    """Return float32 (N, N): the IoU of bool masks (N, H, W), exact for up to 2**24 pixels."""
    flat = masks.reshape(len(masks), int(np.prod(masks.shape[1:])))
    shared = np.zeros((len(masks),) * 2, np.float32)
    step = max(1, STRIP_VALUES // max(1, len(masks)))
    for begin in range(0, flat.shape[1], step):
        part = flat[:, begin:begin + step].astype(np.float32)
        shared += part @ part.T
    areas = shared.diagonal()
    return shared / np.maximum(areas[:, None] + areas - shared, 1)
