"""Paste mask probabilities of boxes into the image."""
from __future__ import annotations

import numpy as np

Size = tuple[int, int]


def paste_masks(masks: np.ndarray, boxes: np.ndarray, size: Size,
                threshold: float = 0.5) -> np.ndarray:
    """Return bool (N, H, W): where each mask is at least ``threshold``, which must be above 0.

    ``masks`` (N, m, m) are probabilities that fill ``boxes`` (N, 4), in pixels of an image of
    ``size`` (H, W).  The value of a pixel is interpolated at its centre between the centres of the
    mask's pixels; outside the mask it is 0.
    """
    result = np.zeros((len(masks), *size), bool)   # no memory is used where nothing is pasted
    for mask, box, target in zip(masks, boxes, result):
        values, window = _resample(mask, box, size)
        np.greater_equal(values, threshold, out=target[window])
    return result


def _resample(mask: np.ndarray, box: np.ndarray, size: Size) -> tuple[np.ndarray, tuple]:
    """Return the values of the pixels that the mask covers, and the window of these pixels."""
    y, rows = _axis(box[1], box[3], size[0], mask.shape[0])
    x, columns = _axis(box[0], box[2], size[1], mask.shape[1])
    return y @ mask @ x.T, (rows, columns)


def _axis(low: float, high: float, size: int, cells: int) -> tuple[np.ndarray, slice]:
    """Return weights (n, cells) of a mask's cells in the n pixels that they cover on an axis."""
    cell = max(high - low, np.finfo(np.float32).tiny) / cells
    begin = int(np.clip(np.floor(low - cell / 2), 0, size))
    end = int(np.clip(np.ceil(high + cell / 2), begin, size))
    at = (np.arange(begin, end, dtype=np.float32) + np.float32(0.5) - low) / cell - np.float32(0.5)
    weights = 1 - np.abs(at[:, None] - np.arange(cells, dtype=np.float32))
    return np.maximum(weights, 0).astype(np.float32), slice(begin, end)
