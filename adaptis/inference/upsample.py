"""Enlarge the network's maps to the size of the image, bilinearly with aligned corners.

The result equals MXNet's ``BilinearResize2D`` on a CPU bit for bit and takes about a fifth of the
time: each row of the result is a weighted sum of two rows, which is a product with a sparse
matrix.  Only the small map has to be copied from a GPU.  Without SciPy, NumPy computes the sum, at
half the speed and with identical bits.
"""
from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np


def upsample(maps: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize float32 (h, w) or (N, h, w) to (H, W); returns the same array if it has that size.

    Output i samples position i * (h - 1) / (H - 1).
    """
    if maps.shape[-2:] == size:
        return maps
    if maps.ndim == 2:
        return _resize(maps, size)
    larger = np.empty((len(maps), *size), np.float32)
    for number, values in enumerate(maps):
        larger[number] = _resize(values, size)
    return larger


def _resize(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    lengthen = _lengthen_plainly if _sparse() is None else _lengthen
    wide = lengthen(np.ascontiguousarray(values.T), size[1]).T
    return lengthen(np.ascontiguousarray(wide), size[0])


@functools.cache
def _sparse() -> Any:
    """Return ``scipy.sparse``, or None without SciPy."""
    try:
        from scipy import sparse  # slow to load, and optional for exported networks
    except ImportError:
        return None
    return sparse


class _Rows(NamedTuple):
    """Row i of the result is ``1 - share[i]`` of row ``before[i]`` and the rest of ``after[i]``."""

    before: np.ndarray
    after: np.ndarray
    share: np.ndarray


@functools.lru_cache(maxsize=16)
def _rows(length: int, new_length: int) -> _Rows:
    """Compute the rows in float32 throughout, as MXNet does."""
    step = np.float32(length - 1) / np.float32(max(new_length - 1, 1))
    position = np.arange(new_length, dtype=np.float32) * step
    before = position.astype(np.int32)
    return _Rows(before, np.minimum(before + 1, length - 1), position - before.astype(np.float32))


def _lengthen(values: np.ndarray, rows: int) -> np.ndarray:
    return _weights(len(values), rows) @ values


@functools.lru_cache(maxsize=16)
def _weights(length: int, new_length: int) -> Any:
    """Return a sparse (new_length, length) matrix with two entries per row."""
    before, after, share = _rows(length, new_length)
    columns = np.stack([before, after], axis=1).ravel()
    values = np.stack([1 - share, share], axis=1).ravel()
    starts = np.arange(0, 2 * new_length + 1, 2)
    return _sparse().csr_matrix((values, columns, starts), shape=(new_length, length))


def _lengthen_plainly(values: np.ndarray, rows: int) -> np.ndarray:
    before, after, share = _rows(len(values), rows)
    result = values[before]
    result *= (1 - share)[:, None]
    rest = values[after]
    rest *= share[:, None]
    result += rest
    return result
