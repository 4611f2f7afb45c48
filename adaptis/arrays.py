"""Arrays of either backend: MXNet's, or NumPy's if ONNX Runtime computes.

This module loads neither backend, and SciPy only if it is installed and needed.
"""
from __future__ import annotations

import functools
from typing import Any, Callable

import numpy as np


def as_numpy(array: Any) -> np.ndarray:
    """Return the values of an array of any backend; a NumPy array is returned unchanged.

    Half-precision arrays become float32, because NumPy has no bfloat16 and would continue in
    float16.
    """
    if isinstance(array, np.ndarray):
        return array
    return widen(array).asnumpy()


def widen(array: Any) -> Any:
    """Return a float16 or bfloat16 NDArray as float32, with its gradient; others are unchanged."""
    dtype = np.dtype(array.dtype)   # MXNet represents bfloat16 as one named field
    return array.astype('float32') if dtype == np.float16 or dtype.names else array


def expit(values: Any) -> np.ndarray:
    """Return 1 / (1 + exp(-x)) as SciPy computes it, or :func:`sigmoid` without SciPy.

    The two are equal up to rounding, but results must not change between versions.
    """
    return _expit()(values)


@functools.cache
def _expit() -> Callable[[Any], np.ndarray]:
    try:
        from scipy.special import expit  # slow to load, and optional for exported networks
    except ImportError:
        return sigmoid
    return expit


def sigmoid(values: Any) -> np.ndarray:
    """Return 1 / (1 + exp(-x)) in the precision of ``values``.

    The exponential is computed in float64, because NumPy's float32 exp is less exact than SciPy's.
    With float64, 3 of 10,000 values differ from SciPy's in the last bit; with float32, 28 of 100
    would.
    """
    values = np.asarray(values)
    with np.errstate(over='ignore'):   # 1 / (1 + infinity) is 0, as it should be
        decay = np.exp(-values.astype(np.float64)).astype(np.result_type(values, np.float16))
    return np.asarray(1 / (1 + decay))
