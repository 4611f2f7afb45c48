"""Networks that see an image at another size, and results that come back at the image's own.

Objects are looked for at the size that the network sees, where the thresholds (pixels, slopes) were
chosen.  Who gets which pixel is decided at the image's own size, from enlarged probabilities: a
segment map enlarged by nearest neighbour would have stairs for borders.  Maps are enlarged one at
a time, so that memory does not grow with the number of classes and objects.

Pixel centres lie at (i + 0.5) * size, as OpenCV has them.
"""
from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from adaptis.inference.settings import AdaptISSettings


def network_size(size: tuple[int, int], settings: AdaptISSettings) -> tuple[int, int]:
    """(H, W) of what the network sees of an image of (H, W); its shape is kept."""
    scale = 1.0 if settings.short_side is None else settings.short_side / min(size)
    if settings.max_side is not None:
        scale = min(scale, settings.max_side / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def resize(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """An image (H, W, 3) or a map (H, W) at another size: averaged if smaller, else bilinear."""
    if values.shape[:2] == size:
        return values
    smaller = size[0] * size[1] < values.shape[0] * values.shape[1]
    return cv2.resize(values, size[::-1],
                      interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR)


def move_points(points: np.ndarray, size: tuple[int, int], seen: tuple[int, int]) -> np.ndarray:
    """Points float32 (N, 2), (row, col), of an image of ``size`` in the ``seen`` one."""
    if size == seen:
        return points
    moved = (points + 0.5) * (np.array(seen) / np.array(size)) - 0.5
    return np.clip(moved, 0, np.array(seen) - 1).astype(np.float32)


class Resized(Sequence):
    """Maps (N, h, w) or a list of (h, w) that are resized when they are asked for, and not kept."""

    def __init__(self, maps: Sequence[np.ndarray], size: tuple[int, int]):
        self._maps, self._size = maps, size

    def __len__(self) -> int:
        return len(self._maps)

    def __getitem__(self, index: int) -> np.ndarray:
        return resize(self._maps[index], self._size)
