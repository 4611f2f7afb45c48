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
    """1 / (1 + exp(-x)) in the precision of ``values``.

    NumPy's own exp of single precision is less exact than SciPy's: here 3 of 10,000 values differ
    from SciPy's in their last bit, and with it 28 of 100.
    """
    values = np.asarray(values)
    with np.errstate(over='ignore'):   # of 1 / (1 + infinity) nothing but 0 is left
        decay = np.exp(-values.astype(np.float64)).astype(np.result_type(values, np.float16))
    return np.asarray(1 / (1 + decay))


try:  # equal up to rounding, but results are not to depend on this project's version
    from scipy.special import expit
except ImportError:  # where exported networks run
    expit = logistic
