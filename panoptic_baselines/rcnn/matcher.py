"""Match anchors and proposals with ground-truth boxes (Faster R-CNN, section 3.1.2)."""
from __future__ import annotations

from typing import Optional

import numpy as np

IGNORED, NEGATIVE, POSITIVE = -1, 0, 1


def match(iou: np.ndarray, positive: float, negative: Optional[float] = None,
          keep_best: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Match N boxes with G ground-truth boxes.

    Parameters
    ----------
    iou : (G, N)
    positive : a box whose best IoU is at least this is positive
    negative : a box whose best IoU is below this is background; between the two it is ignored.
        None = the same as ``positive``
    keep_best : whether the best boxes of each ground truth are also positive (including ties, but
        they must overlap); they are still matched with the ground truth that they overlap most

    Returns the index of the best ground truth (N,), 0 if there is no ground truth, and the label
    (N,) ``int8``: POSITIVE, NEGATIVE or IGNORED.
    """
    negative = positive if negative is None else negative
    count = iou.shape[1]
    if not len(iou):
        return np.zeros(count, np.int64), np.full(count, NEGATIVE, np.int8)
    best = iou.argmax(axis=0)
    value = iou[best, np.arange(count)]
    labels = np.full(count, IGNORED, np.int8)
    labels[value < negative] = NEGATIVE
    labels[value >= positive] = POSITIVE
    if keep_best and count:
        most = iou.max(axis=1, keepdims=True)
        labels[((iou == most) & (most > 0)).any(axis=0)] = POSITIVE
    return best, labels
