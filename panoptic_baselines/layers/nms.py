"""Greedy non-maximum suppression."""
from __future__ import annotations

from typing import Optional

import numpy as np

CHUNK_SIZE = 64
"""Number of boxes that are compared at once: with each other, then with all later boxes."""
MAX_JOINT_BOXES = 1024
"""Up to this number, the boxes of all classes are compared together; above it, class by class."""


def nms(boxes: np.ndarray, scores: np.ndarray, threshold: float,
        classes: Optional[np.ndarray] = None, limit: Optional[int] = None) -> np.ndarray:
    """Return the indices of the boxes that remain, by descending score; ties keep their order.

    A box is removed if its IoU with a remaining box of the same class is above ``threshold``.

    Parameters
    ----------
    boxes, scores : (N, 4), (N,), finite
    classes : (N,); None = all boxes have the same class
    limit : maximum number of boxes to return; a low limit saves time
    """
    order = np.argsort(-scores, kind='stable')
    if limit is None:
        return _remaining(boxes, threshold, classes, order)
    # Boxes with a lower score do not affect which of the best n remain, so try a few first.
    count = 4 * limit
    while True:
        keep = _remaining(boxes, threshold, classes, order[:count])
        if len(keep) >= limit or count >= len(order):
            return keep[:limit]
        count *= 2


def _remaining(boxes: np.ndarray, threshold: float, classes: Optional[np.ndarray],
               order: np.ndarray) -> np.ndarray:
    boxes = boxes[order].astype(np.float32)
    if classes is None:
        return order[_alive(boxes, np.zeros(len(order)), threshold)]
    classes = classes[order]
    if len(order) <= MAX_JOINT_BOXES:
        return order[_alive(boxes, classes, threshold)]
    alive = np.zeros(len(order), bool)
    for kind in np.unique(classes):
        rows = np.flatnonzero(classes == kind)
        alive[rows] = _alive(boxes[rows], classes[rows], threshold)
    return order[alive]


def _alive(boxes: np.ndarray, classes: np.ndarray, threshold: float) -> np.ndarray:
    """Return bool (N,): which boxes remain if earlier ones take precedence."""
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    areas = np.where((width < 0) | (height < 0), np.float32(0), width * height)
    rows = np.stack([*boxes.T, areas, classes.astype(np.float32)])
    alive = np.ones(len(boxes), bool)
    for begin in range(0, len(boxes), CHUNK_SIZE):
        some = begin + np.flatnonzero(alive[begin:begin + CHUNK_SIZE])
        alive[some] = greedy_nms(_overlap(rows[:, some], rows[:, some], threshold))
        some = some[alive[some]]
        later = begin + CHUNK_SIZE + np.flatnonzero(alive[begin + CHUNK_SIZE:])
        if len(later):
            alive[later] = ~_overlap(rows[:, some], rows[:, later], threshold).any(axis=0)
    return alive


def greedy_nms(overlaps: np.ndarray) -> np.ndarray:
    """Return bool (N,): which remain if earlier ones take precedence; ``overlaps`` bool (N, N)."""
    alive = np.ones(len(overlaps), bool)
    for i, row in enumerate(overlaps):
        if alive[i]:
            alive[i + 1:] &= ~row[i + 1:]
    return alive


def _overlap(some: np.ndarray, others: np.ndarray, threshold: float) -> np.ndarray:
    """Return bool (N, M): which pairs have the same class and an IoU above the threshold.

    The rows of both are x0, y0, x1, y1, area, class.  Computed in single precision and in this
    order, the IoU equals that of MXNet's ``box_nms`` to the last bit.
    """
    shared = _common(some[0:3:2], others[0:3:2])
    shared *= _common(some[1:4:2], others[1:4:2])
    union = some[4][:, None] + others[4]
    union -= shared
    with np.errstate(divide='ignore', invalid='ignore'):   # two empty boxes give NaN
        overlaps = shared / union > np.float32(threshold)
    overlaps &= some[5][:, None] == others[5]
    return overlaps


def _common(some: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return (N, M): the length that two ranges share; rows hold their start and end."""
    length = np.minimum(some[1][:, None], others[1])
    length -= np.maximum(some[0][:, None], others[0])
    return np.maximum(length, 0, out=length)
