"""Anchors of the region proposal network (Faster R-CNN on a feature pyramid)."""
from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

STRIDES = (4, 8, 16, 32, 64)
"""Of p2, ..., p6."""

RATIOS = (0.5, 1.0, 2.0)
"""Height over width."""


def cell_anchors(size: float, ratios: Sequence[float] = RATIOS) -> np.ndarray:
    """Return float32 (A, 4): boxes around the origin of area ``size`` squared, one per ratio."""
    width = size / np.sqrt(np.asarray(ratios, np.float64))
    half = np.stack([width, width * ratios], axis=1) / 2
    return np.concatenate([-half, half], axis=1).astype(np.float32)


@functools.lru_cache(maxsize=64)
def grid_anchors(shape: tuple[int, int], stride: int, size: float,
                 ratios: tuple[float, ...] = RATIOS) -> np.ndarray:
    """Return the anchors at (col * stride, row * stride) of a map: float32 (h * w * A, 4).

    The array is read-only, ordered by row, column and ratio, and not clipped to the image.
    """
    rows, cols = np.meshgrid(*(np.arange(n, dtype=np.float32) * stride for n in shape),
                             indexing='ij')
    shifts = np.stack([cols, rows, cols, rows], axis=2)[:, :, None]
    anchors = (shifts + cell_anchors(size, ratios)).reshape(-1, 4)
    anchors.flags.writeable = False
    return anchors


def pyramid_anchors(shapes: Sequence[tuple[int, int]], sizes: Sequence[float],
                    strides: Sequence[int] = STRIDES) -> list[np.ndarray]:
    """Return the anchors of each pyramid level, given the map sizes ``shapes`` (h, w)."""
    return [grid_anchors(tuple(shape), stride, size)
            for shape, stride, size in zip(shapes, strides, sizes)]
