"""Arrays of whatever computes them: MXNet's, or NumPy's where ONNX Runtime does.

Loads neither, and SciPy only where it is installed.
"""
from __future__ import annotations

from typing import Any

import numpy as np


def as_numpy(array: Any) -> np.ndarray:
    """The values of an array of any backend; a NumPy array is given back as it is."""
    return array if isinstance(array, np.ndarray) else array.asnumpy()


def logistic(values: Any) -> np.ndarray:
    """1 / (1 + exp(-x)) in the precision of ``values``; neither branch can overflow."""
    values = np.asarray(values)
    decay = np.exp(-np.abs(values))
    return np.where(values >= 0, 1, decay) / (1 + decay)


try:  # equal up to rounding, but results are not to depend on this project's version
    from scipy.special import expit
except ImportError:  # where exported networks run
    expit = logistic
