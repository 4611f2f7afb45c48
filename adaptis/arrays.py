"""Arrays of whatever computes them: MXNet's, or NumPy's where ONNX Runtime does.  Without MXNet."""
from __future__ import annotations

from typing import Any

import numpy as np


def as_numpy(array: Any) -> np.ndarray:
    """The values of an array of any backend; a NumPy array is given back as it is."""
    return array if isinstance(array, np.ndarray) else array.asnumpy()


def expit(values: Any) -> np.ndarray:
    """The logistic function, in the precision of ``values``.  Neither branch can overflow."""
    values = np.asarray(values)
    decay = np.exp(-np.abs(values))
    return np.where(values >= 0, 1 / (1 + decay), decay / (1 + decay))
