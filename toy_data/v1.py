"""ToyV1: red capsules with a thin blue border that lie over one another on white.

What was measured on the authors' pictures (256x256, 250 objects): capsules
about 7 to 12 pixels thick and 16 to 45 long, centres that keep some 14 pixels
away from the image border, and many pairs of nearly parallel objects that lie
almost upon one another.  A later object overpaints the earlier ones.
"""
from __future__ import annotations

import math
from dataclasses import dataclass
from typing import List, Optional, Tuple

import numpy as np

from toy_data.stream import Stream

BACKGROUND = 255
DIRECTIONS = 1024     # per full turn
MARGIN = 14           # pixels between the image border and the centres
MIN_VISIBLE = 30      # pixels of every object that stay visible, and also
MIN_SHARE = 25        # percent of its whole area
CUT = 12              # percent of the poses that reach over the image border are kept
THICKNESS = (7, 7, 7, 7, 8, 8, 8, 8, 9, 9, 10, 11)
TWINS = 28            # percent of objects placed along an earlier one
TRIES = 40
BORDERS = (13, 14, 15, 17, 20, 24, 28)  # sixteenths of a pixel

_COS = np.round(np.cos(np.arange(DIRECTIONS) * (2 * math.pi / DIRECTIONS)) * 4096) / 4096
_SIN = np.roll(_COS, DIRECTIONS // 4)


@dataclass(frozen=True)
class Capsule:
    """Centre (x, y) and measures in sixteenths of a pixel; ``direction`` in 1024ths of a turn."""

    x: int
    y: int
    length: int
    thickness: int
    direction: int
    border: int


def render_v1(stream: Stream, height: int, width: int, count: int) -> Tuple[np.ndarray, np.ndarray]:
    """One clean picture of ``count`` capsules.

    Every object keeps at least ``MIN_VISIBLE`` visible pixels: one that would
    hide another further than that is placed anew.

    Returns
    -------
    image : uint8 (height, width, 3), RGB
    ids : uint16 (height, width), 1 .. count in random order (not the order of depth), 0 = none

    Raises
    ------
    ValueError
        If no place is found for an object.
    """
    canvas = _Canvas(height, width, count)
    placed: List[Capsule] = []
    for number in range(1, count + 1):
        for _ in range(TRIES + 8 * count):
            capsule = _place(stream, height, width, placed)
            if canvas.cuts(capsule) and not stream.chance(CUT):
                continue
            if canvas.paint(capsule, number):
                placed.append(capsule)
                break
        else:
            raise ValueError(f'{count} objects do not fit on {height}x{width} pixels: '
                             f'ask for fewer than {number} or for a larger picture.')
    return canvas.image.astype(np.uint8), canvas.relabelled(stream.shuffled(count))


def _place(stream: Stream, height: int, width: int, placed: List[Capsule]) -> Capsule:
    thickness = 16 * THICKNESS[stream.below(len(THICKNESS))] + stream.below(16)
    length = min(stream.bell(16 * 17, 16 * 49), 12 * min(height, width))
    if placed and stream.chance(TWINS):
        return _twin(stream, placed[stream.below(len(placed))], length, thickness, height, width)
    return Capsule(_coordinate(stream, width), _coordinate(stream, height),
                   length, thickness, stream.below(DIRECTIONS), BORDERS[stream.below(len(BORDERS))])


def _twin(stream: Stream, other: Capsule, length: int, thickness: int,
          height: int, width: int) -> Capsule:
    """Nearly the pose of ``other``: the boxes of the two nearly coincide."""
    direction = (other.direction + stream.bell(-50, 50)) % DIRECTIONS
    across, along = stream.bell(-16 * 10, 16 * 10), stream.bell(-16 * 14, 16 * 14)
    cos, sin = _COS[other.direction], _SIN[other.direction]
    x = other.x + int(along * cos - across * sin)
    y = other.y + int(along * sin + across * cos)
    return Capsule(_inside(x, width), _inside(y, height), length, thickness, direction,
                   BORDERS[stream.below(len(BORDERS))])


def _reach(capsule: Capsule) -> Tuple[int, int]:
    """How far it extends from its centre along x and y."""
    half = max(0, capsule.length - capsule.thickness) / 2
    return (int(abs(half * _COS[capsule.direction])) + capsule.thickness // 2,
            int(abs(half * _SIN[capsule.direction])) + capsule.thickness // 2)


def _margin(size: int) -> int:
    return 16 * min(MARGIN, size // 4)


def _coordinate(stream: Stream, size: int) -> int:
    return stream.between(_margin(size), 16 * size - _margin(size))


def _inside(value: int, size: int) -> int:
    return min(max(value, _margin(size)), 16 * size - _margin(size))


class _Canvas:
    """The picture while it is painted."""

    def __init__(self, height: int, width: int, count: int):
        self.image = np.full((height, width, 3), BACKGROUND, np.int32)
        self.ids = np.zeros((height, width), np.int32)
        self._visible = np.zeros(count + 1, np.int64)
        self._visible[0] = height * width
        self._needed = np.zeros(count + 1, np.int64)

    def paint(self, capsule: Capsule, number: int) -> bool:
        """Paint it over all others, unless that hides one too much (then False)."""
        window = self._window(capsule)
        if window is None:
            return False
        distance = self._distance(capsule, window)
        radius = capsule.thickness / 32
        mask = distance <= radius - MASK_INSET
        hidden = np.bincount(self.ids[window][mask], minlength=len(self._visible))
        area = int(hidden.sum())
        left = self._visible - hidden
        if area < MIN_VISIBLE or (left < self._needed).any():
            return False
        self._visible = left
        self._visible[number] = area
        self._needed[number] = max(MIN_VISIBLE, area * MIN_SHARE // 100)
        self.ids[window][mask] = number
        self._blend(window, distance, radius, capsule.border / 16)
        return True

    def cuts(self, capsule: Capsule) -> bool:
        """Whether the image border cuts the object."""
        height, width = self.ids.shape
        reach_x, reach_y = _reach(capsule)
        return (capsule.x < reach_x or capsule.x + reach_x > 16 * width
                or capsule.y < reach_y or capsule.y + reach_y > 16 * height)

    def _window(self, capsule: Capsule) -> Optional[Tuple[slice, slice]]:
        height, width = self.ids.shape
        reach_x, reach_y = (reach + 32 for reach in _reach(capsule))
        rows = slice(max(0, (capsule.y - reach_y) >> 4), min(height, (capsule.y + reach_y) >> 4))
        cols = slice(max(0, (capsule.x - reach_x) >> 4), min(width, (capsule.x + reach_x) >> 4))
        if rows.start >= rows.stop or cols.start >= cols.stop:
            return None
        return rows, cols

    @staticmethod
    def _distance(capsule: Capsule, window: Tuple[slice, slice]) -> np.ndarray:
        """Distance of pixel centres to the axis, in pixels (only correctly rounded operations)."""
        rows, cols = window
        y = np.arange(rows.start, rows.stop, dtype=np.float64)[:, None] + 0.5 - capsule.y / 16
        x = np.arange(cols.start, cols.stop, dtype=np.float64)[None, :] + 0.5 - capsule.x / 16
        cos, sin = _COS[capsule.direction], _SIN[capsule.direction]
        half = max(0, capsule.length - capsule.thickness) / 32
        along = np.abs(x * cos + y * sin)
        along -= half
        np.maximum(along, 0, out=along)
        across = y * cos - x * sin
        along *= along
        across *= across
        along += across
        return np.sqrt(along, out=along)

    def _blend(self, window: Tuple[slice, slice], distance: np.ndarray, radius: float,
               border: float) -> None:
        """Blue up to ``radius``, red up to the border's inner edge, both with smooth edges."""
        outer = np.clip((radius + 0.5 - distance) * 256, 0, 256).astype(np.int32)
        inner = np.clip((radius - border + 0.5 - distance) * 255, 0, 255).astype(np.int32)
        patch = self.image[window]
        patch *= (256 - outer)[:, :, None]
        patch[:, :, 0] += outer * inner
        patch[:, :, 2] += outer * (255 - inner)
        patch += 128
        patch >>= 8

    def relabelled(self, order: List[int]) -> np.ndarray:
        """``ids`` with object k + 1 renamed to ``order[k] + 1``, uint16."""
        table = np.array([0] + [k + 1 for k in order], np.uint16)
        return table[self.ids]


MASK_INSET = 0.25  # pixels by which the authors' masks end before the border does
