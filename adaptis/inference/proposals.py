"""Object candidates: local maxima of the proposal map, by breadth-first search (section 5).

The search lowers a level from 0.99 in steps.  At every level it scans the map row by row.  The next
candidate is a free pixel on or above the level that no neighbour exceeds and that has no neighbour
below ``threshold``.  From there the search floods every free pixel that can be reached by steps
down, or by steps up of less than ``climb``, so that one broad hill gives one candidate.

Three observations make this fast without a loop over pixels:

* Whether a pixel is a maximum depends only on the map.  So all maxima are found at once, and only
  their order (level first, then row-major) matters.
* OpenCV's ``floodFill`` in its gradient mode computes such a flood.
* Its comparison ``u - v <= climb`` and the definition's ``v + climb > u`` round differently in
  float32.  So the fill uses a slightly smaller limit, and the few steps that it then misses are
  listed beforehand and taken explicitly.
"""
from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Optional

import cv2
import numpy as np

from adaptis.errors import AdaptisError

FIRST_LEVEL = np.float32(0.99)
_LABELS = 254  # mask values 2..255; 0 is free and 1 is "taken in an earlier round of 254"
_MARGIN = np.float32(2.0 ** -22)  # twice the largest sum of the two float32 rounding errors
_LEAST_CLIMB = 1e-6  # well above the margin
_LEAST_STEP = 1e-6  # a smaller one may be lost by rounding, so that the level never falls
_CHUNK = 4096


class Proposals(NamedTuple):
    """The result of the search.

    Attributes
    ----------
    candidates : int32 (K, 2), (row, col) in order of discovery
    colors : int32 (H, W), the candidate whose flood took the pixel, -1 = none; None if not wanted
    """

    candidates: np.ndarray
    colors: Optional[np.ndarray]


def find_proposals(prob: np.ndarray, threshold: float, climb: float = 0.003,
                   step: float = 0.025, with_colors: bool = False) -> Proposals:
    """Return the local maxima of a probability map.

    Parameters
    ----------
    prob : (H, W), values in [0, 1]
    threshold : levels stay above it, and a maximum next to a lower pixel is ignored
    climb : a flood climbs by less than this per pixel
    step : how much the level falls each time; peaks between the lowest level and ``threshold`` are
        missed
    with_colors : also return the floods

    Raises
    ------
    AdaptisError
        If the map is not a (H, W) array of probabilities (NaN included), or a setting is invalid.
    """
    prob = np.ascontiguousarray(prob, dtype=np.float32)
    if prob.ndim != 2 or prob.size == 0 or not (prob.min() >= 0 and prob.max() <= 1):
        raise AdaptisError('The proposal map must be a non-empty (H, W) array of probabilities.')
    if not (climb >= _LEAST_CLIMB and step >= _LEAST_STEP):
        raise AdaptisError(f'The climb ({climb}) must be at least {_LEAST_CLIMB} and the level '
                           f'step ({step}) at least {_LEAST_STEP}.')
    rows, cols = _ordered_maxima(prob, np.float32(threshold), np.float32(step))
    flood = _Flood(prob, np.float32(climb), with_colors)
    found: list[int] = []
    for index in flood.untaken(rows, cols):
        flood.start(int(rows[index]), int(cols[index]))
        found.append(index)
    candidates = np.stack([rows[found], cols[found]], axis=1).astype(np.int32)
    return Proposals(candidates, flood.colors())


def _falling_levels(threshold: np.float32, step: np.float32) -> np.ndarray:
    """Return 0.99, 0.99 - step, ... above ``threshold``; float32 sums, as rounding decides ties."""
    levels, level = [], FIRST_LEVEL
    while level > threshold:
        levels.append(level)
        level = np.float32(level - step)
    return np.asarray(levels, dtype=np.float32)


def _ordered_maxima(prob: np.ndarray, threshold: np.float32,
                    step: np.float32) -> tuple[np.ndarray, np.ndarray]:
    """Return rows and columns of all maxima in the order in which the search finds them."""
    kernel = np.ones((3, 3), np.uint8)  # pixels outside the map are ignored
    levels = _falling_levels(threshold, step)
    lowest = levels[-1] if len(levels) else np.float32(np.inf)
    peak = ((prob >= lowest) & (cv2.dilate(prob, kernel) == prob)
            & (cv2.erode(prob, kernel) >= threshold))
    rows, cols = np.nonzero(peak)
    level = np.searchsorted(-levels, -prob[rows, cols])
    order = np.argsort(level, kind='stable')
    return rows[order], cols[order]


class _Flood:
    """Takes pixels, one flood after another; can record which flood took which pixel."""

    def __init__(self, prob: np.ndarray, climb: np.float32, keep_colors: bool):
        height, width = prob.shape
        self._prob = prob
        self._limit = float(climb - _MARGIN)
        self._mask = np.zeros((height + 2, width + 2), np.uint8)  # floodFill needs a border
        self._flat = self._mask.reshape(-1)
        self._from, self._to = _missed_steps(prob, climb)
        self._count = 0
        self._colors = np.full(prob.shape, -1, np.int32) if keep_colors else None

    def untaken(self, rows: np.ndarray, cols: np.ndarray) -> Iterator[int]:
        """Yield the indices of the positions that are free when their turn comes."""
        position = (rows + 1) * self._mask.shape[1] + cols + 1
        start = 0
        while start < len(position):
            free = self._flat[position[start:start + _CHUNK]] == 0
            step = int(free.argmax())
            if free[step]:
                yield start + step
                start += step + 1
            else:
                start += len(free)

    def start(self, row: int, col: int) -> None:
        """Flood from a free pixel."""
        if self._count and self._count % _LABELS == 0:
            self._end_round()
        label = 2 + self._count % _LABELS
        self._count += 1
        self._fill(row, col, label)
        while len(self._from):
            reached = (self._flat[self._from] == label) & (self._flat[self._to] == 0)
            if not reached.any():
                break
            row, col = divmod(int(self._to[reached.argmax()]), self._mask.shape[1])
            self._fill(row - 1, col - 1, label)

    def colors(self) -> Optional[np.ndarray]:
        """Return the number of the flood that took each pixel, -1 = none."""
        self._end_round()
        return self._colors

    def _fill(self, row: int, col: int, label: int) -> None:
        flags = 8 | cv2.FLOODFILL_MASK_ONLY | (label << 8)
        cv2.floodFill(self._prob, self._mask, (col, row), 0, loDiff=2.0, upDiff=self._limit,
                      flags=flags)

    def _end_round(self) -> None:
        """Free the 254 labels of an 8-bit mask for the next floods."""
        fresh = self._mask > 1
        if self._colors is not None and self._count:
            first = (self._count - 1) // _LABELS * _LABELS
            fresh_inside = fresh[1:-1, 1:-1]
            labels = self._mask[1:-1, 1:-1][fresh_inside].astype(np.int32)
            self._colors[fresh_inside] = labels - 2 + first
        self._mask[fresh] = 1


def _missed_steps(prob: np.ndarray, climb: np.float32) -> tuple[np.ndarray, np.ndarray]:
    """Find steps v -> u with ``v + climb > u`` in float32 that the fill's smaller limit may refuse.

    Returns flat positions of v and of u in the fill's mask, which has a border of one pixel.
    """
    height, width = prob.shape
    starts, ends = [], []
    for down, right in ((0, 1), (1, -1), (1, 0), (1, 1)):
        row_end, left, right_end = height - down, max(-right, 0), width - max(right, 0)
        first = prob[:row_end, left:right_end]
        second = prob[down:, left + right:right_end + right]
        rows, cols = np.nonzero(np.abs(np.abs(second - first) - climb) < 2 * _MARGIN)
        here = (rows + 1) * (width + 2) + cols + left + 1
        there = here + down * (width + 2) + right
        low, high = first[rows, cols], second[rows, cols]
        up = low < high
        low, high = np.minimum(low, high), np.maximum(low, high)
        missed = low + climb > high
        starts.append(np.where(up, here, there)[missed])
        ends.append(np.where(up, there, here)[missed])
    return np.concatenate(starts), np.concatenate(ends)
