"""The highest of many scores, by hand."""
from __future__ import annotations

import numpy as np

from panoptic_baselines.layers.topk import topk


def test_topk_by_hand():
    scores = np.array([1, np.nan, 3, -np.inf, 3, np.inf])
    assert topk(scores, 9).tolist() == [1, 5, 2, 4, 0, 3]
    assert topk(scores, 3).tolist() == [1, 5, 2]
    assert topk(scores[:0], 3).tolist() == []
