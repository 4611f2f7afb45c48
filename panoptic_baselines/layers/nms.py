"""Greedy non-maximum suppression."""
from __future__ import annotations

from typing import Optional

import numpy as np

from adaptis.runtime import mx

NO_LIMIT = -3e38


def nms(boxes: np.ndarray, scores: np.ndarray, threshold: float,
        classes: Optional[np.ndarray] = None, limit: Optional[int] = None) -> np.ndarray:
    """Indices of the boxes that remain, by descending score; the earlier of equals comes first.

    A box goes if its IoU with a remaining box of the same class is above ``threshold``.

    Parameters
    ----------
    boxes, scores : (N, 4), (N,), finite
    classes : (N,); None = all the same
    limit : only so many of the best remaining ones are wanted, which saves time
    """
    order = np.argsort(-scores, kind='stable')
    if limit is None:
        return _remaining(boxes, scores, threshold, classes, order)
    # What remains among the best n is no matter of the others: so look at a few first.
    count = 4 * limit
    while True:
        keep = _remaining(boxes, scores, threshold, classes, order[:count])
        if len(keep) >= limit or count >= len(order):
            return keep[:limit]
        count *= 2


def _remaining(boxes: np.ndarray, scores: np.ndarray, threshold: float,
               classes: Optional[np.ndarray], order: np.ndarray) -> np.ndarray:
    if not len(order):
        return order
    data = np.empty((len(order), 7), np.float32)
    data[:, 0] = np.arange(len(order))
    data[:, 1] = scores[order]
    data[:, 2:6] = boxes[order]
    data[:, 6] = 0 if classes is None else classes[order]
    found = mx.nd.contrib.box_nms(
        mx.nd.array(data, ctx=mx.cpu()), overlap_thresh=threshold, valid_thresh=NO_LIMIT,
        coord_start=2, score_index=1, id_index=6)
    index = found[:, 0].asnumpy().astype(np.int64)
    return order[index[index >= 0]]
