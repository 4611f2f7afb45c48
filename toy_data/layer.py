"""An id mask in which later objects cover earlier ones."""
from __future__ import annotations

from typing import Callable

import numpy as np

MIN_VISIBLE = 30   # smallest number of visible pixels of every object
Window = tuple[slice, slice]

_TRIES = 40


class IdLayer:
    """An id mask to which objects are added from back to front.

    Every object keeps at least ``MIN_VISIBLE`` pixels and ``share`` percent of its area.

    Attributes
    ----------
    ids : int32 (height, width), 0 = none
    """

    def __init__(self, height: int, width: int, count: int, share: int):
        self.ids = np.zeros((height, width), np.int32)
        self._visible = np.zeros(count + 1, np.int64)
        self._visible[0] = height * width
        self._share = share
        self._needed = np.zeros(count + 1, np.int64)

    def add(self, window: Window, mask: np.ndarray, number: int) -> bool:
        """Give the pixels of ``mask`` (bool, of the window's shape) to object ``number``.

        Returns False, and changes nothing, if the object would be too small or would cover too
        much of another one.
        """
        hidden = np.bincount(self.ids[window][mask], minlength=len(self._visible))
        area = int(hidden.sum())
        left = self._visible - hidden
        if area < MIN_VISIBLE or (left < self._needed).any():
            return False
        self._visible = left
        self._visible[number] = area
        self._needed[number] = max(MIN_VISIBLE, area * self._share // 100)
        self.ids[window][mask] = number
        return True

    def relabel(self, order: list[int]) -> np.ndarray:
        """Return ``ids`` with object k + 1 renamed to ``order[k] + 1``, uint16 (height, width)."""
        table = np.array([0] + [k + 1 for k in order], np.uint16)
        return table[self.ids]


def place_all(count: int, height: int, width: int, attempt: Callable[[int], bool]) -> None:
    """Call ``attempt(number)`` for each of ``count`` objects until it returns True.

    Raises
    ------
    ValueError
        If no position is found for an object after many attempts.
    """
    for number in range(1, count + 1):
        if not any(attempt(number) for _ in range(_TRIES + 8 * count)):
            raise ValueError(f'{count} objects do not fit on {height}x{width} pixels: '
                             f'ask for fewer than {number} or for a larger size.')


def window_around(x: int, y: int, reach_x: int, reach_y: int, height: int, width: int) -> Window:
    """Return rows and columns of a box in sixteenths of a pixel, clipped to the image."""
    rows = slice(max(0, (y - reach_y) >> 4), max(0, min(height, (y + reach_y) >> 4)))
    cols = slice(max(0, (x - reach_x) >> 4), max(0, min(width, (x + reach_x) >> 4)))
    return rows, cols


def margin(size: int, wanted: int) -> int:
    """Return ``wanted`` pixels in sixteenths, but at most a quarter of the image."""
    return 16 * min(wanted, size // 4)
