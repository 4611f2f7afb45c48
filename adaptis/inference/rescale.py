"""Resize images for the network, and results back to the size of the image.

The search for objects runs at the size of the network's input, for which the thresholds (pixels,
slopes) were chosen.  The assignment of pixels to objects uses enlarged probabilities at the size of
the image, because a segment map enlarged by nearest neighbour would have jagged borders.  Maps are
enlarged one at a time, so memory does not grow with the number of classes and objects.

Pixel centres lie at (i + 0.5) * size, as in OpenCV.
"""
from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from adaptis.inference.settings import AdaptISSettings


def network_size(size: tuple[int, int], settings: AdaptISSettings) -> tuple[int, int]:
    """Return (H, W) of the network's input for an image of (H, W); the aspect ratio is kept."""
    scale = 1.0 if settings.short_side is None else settings.short_side / min(size)
    if settings.max_side is not None:
        scale = min(scale, settings.max_side / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def resize(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize an image (H, W, 3) or a map (H, W): by averaging to shrink, bilinearly to enlarge."""
    if values.shape[:2] == size:
        return values
    smaller = size[0] * size[1] < values.shape[0] * values.shape[1]
    return cv2.resize(values, size[::-1],
                      interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR)


def scale_points(points: np.ndarray, size: tuple[int, int], seen: tuple[int, int]) -> np.ndarray:
    """Scale points float32 (N, 2), (row, col), from an image of ``size`` to one of ``seen``."""
    if size == seen:
        return points
    moved = (points + 0.5) * (np.array(seen) / np.array(size)) - 0.5
    return np.clip(moved, 0, np.array(seen) - 1).astype(np.float32)


class Resized(Sequence):
    """Maps (N, h, w), or a list of (h, w), that are resized on access and not kept."""

    def __init__(self, maps: Sequence[np.ndarray], size: tuple[int, int]):
        self._maps, self._size = maps, size

    def __len__(self) -> int:
        return len(self._maps)

    def __getitem__(self, index: int) -> np.ndarray:
        return resize(self._maps[index], self._size)
