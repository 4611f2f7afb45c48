"""Bilinear sampling of whole feature vectors on a CPU, as products with sparse matrices.

Every sample is a weighted sum of a few pixels, with the same weights for all channels.  MXNet's
operators compute the weights again for each channel; a sparse matrix reads whole feature vectors.
"""
from __future__ import annotations

from typing import Any

import cv2
import numpy as np


def pixels_first(features: np.ndarray) -> np.ndarray:
    """Transpose (B, C, h, w) to (B * h * w, C); OpenCV is the fastest at this."""
    planes = features.reshape(*features.shape[:2], -1)
    return np.concatenate([cv2.transpose(image) for image in planes])


def sampling_matrix(y: np.ndarray, x: np.ndarray, size: tuple[int, int]) -> Any:
    """Return the sparse matrix (N, h * w) that samples an image of ``size`` (h, w) at N positions.

    ``y`` and ``x``, float32 (N,), are in pixels; 0 is the centre of the first pixel.  The image is
    padded with zeros.
    """
    from scipy import sparse  # slow to load, and few networks sample
    (top, bottom), down = _neighbours(y, size[0])
    (left, right), across = _neighbours(x, size[1])
    pixels = np.stack([top * size[1] + left, top * size[1] + right,
                       bottom * size[1] + left, bottom * size[1] + right], axis=1)
    weights = np.stack([down[0] * across[0], down[0] * across[1],
                        down[1] * across[0], down[1] * across[1]], axis=1)
    rows = np.arange(0, pixels.size + 1, 4, dtype=np.int32)
    return sparse.csr_matrix((weights.ravel(), pixels.ravel(), rows),
                             shape=(len(pixels), size[0] * size[1]))


def _neighbours(at: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the pixels before and after each position on an axis, int32 (2, N), and weights."""
    at = np.clip(at, -1, count)   # beyond, all weights are 0
    first = np.floor(at)
    pixels = first + np.float32([[0], [1]])
    shares = np.maximum(1 - np.abs(at - pixels), 0)
    shares *= (pixels >= 0) & (pixels < count)
    # Unlike clip, these replace NaN, whose weight is NaN too and whose pixel does not exist.
    return np.fmin(np.fmax(pixels, 0), count - 1).astype(np.int32), shares
