"""Select the highest scores."""
from __future__ import annotations

import numpy as np


def topk(scores: np.ndarray, count: int) -> np.ndarray:
    """Return indices of the ``count`` highest scores, descending; ties keep their order.

    NaN counts as the highest score.
    """
    falling = -np.where(np.isnan(scores), np.inf, scores)
    if len(falling) <= count:
        return np.argsort(falling, kind='stable')
    last = np.partition(falling, count - 1)[count - 1]
    better = np.flatnonzero(falling < last)
    best = np.concatenate([better, np.flatnonzero(falling == last)[:count - len(better)]])
    return best[np.argsort(falling[best], kind='stable')]
