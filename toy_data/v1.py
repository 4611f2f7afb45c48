"""ToyV1: red capsules with a thin blue border that overlap on white.

These values were measured on the authors' images (256x256, 250 objects): capsules about 7 to 12
pixels thick and 16 to 45 long, borders of about one to two pixels, centres at least about 14 pixels
from the image border, few objects cut by the image border, and many pairs of nearly parallel
objects that almost coincide.  A later object covers the earlier ones.
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .directions import COS, DIRECTIONS, SIN
from .layer import IdLayer, Window, margin, place_all, window_around
from .stream import Stream

BACKGROUND = 255
THICKNESS = (7, 7, 7, 7, 8, 8, 8, 8, 9, 9, 10, 11)   # pixels, with the border
LENGTH = (17, 49)                                    # pixels, bell-shaped between them
BORDERS = (13, 14, 15, 17, 20, 24, 28)               # sixteenths of a pixel
MASK_INSET = 0.25     # the authors' masks are smaller than the border by so many pixels
MARGIN = 14           # pixels between the image border and the centres
TWINS = 28            # percent of objects placed along an earlier one
CUT = 12              # percent of the poses cut by the image border that are kept
MIN_SHARE = 25        # smallest visible percentage of every object


@dataclass(frozen=True)
class Capsule:
    """Centre (x, y) and sizes in sixteenths of a pixel; ``direction`` in 1024ths of a turn."""

    x: int
    y: int
    length: int
    thickness: int
    direction: int
    border: int

    def reach(self) -> tuple[int, int]:
        """Return how far it extends from its centre along x and y."""
        half = max(0, self.length - self.thickness) / 2
        return (int(abs(half * COS[self.direction])) + self.thickness // 2,
                int(abs(half * SIN[self.direction])) + self.thickness // 2)


def render_v1(stream: Stream, height: int, width: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Render one clean image of ``count`` capsules.

    A part of every object stays visible (``layer.MIN_VISIBLE``, ``MIN_SHARE``): an object that
    would cover too much of another one is placed again.

    Returns
    -------
    image : uint8 (height, width, 3), RGB
    ids : uint16 (height, width), 1 .. count in random order (not the order of depth), 0 = none

    Raises
    ------
    ValueError
        If no position is found for an object.
    """
    image = np.full((height, width, 3), BACKGROUND, np.int32)
    layer = IdLayer(height, width, count, MIN_SHARE)
    placed: list[Capsule] = []

    def attempt(number: int) -> bool:
        capsule = _draw_pose(stream, height, width, placed)
        if _is_cut(capsule, height, width) and not stream.chance(CUT):
            return False
        if not _paint(image, layer, capsule, number):
            return False
        placed.append(capsule)
        return True

    place_all(count, height, width, attempt)
    return image.astype(np.uint8), layer.relabel(stream.shuffled(count))


def _draw_pose(stream: Stream, height: int, width: int, placed: list[Capsule]) -> Capsule:
    thickness = 16 * THICKNESS[stream.below(len(THICKNESS))] + stream.below(16)
    length = min(stream.bell(16 * LENGTH[0], 16 * LENGTH[1]), 12 * min(height, width))
    if placed and stream.chance(TWINS):
        return _twin(stream, placed[stream.below(len(placed))], length, thickness, height, width)
    return Capsule(_coordinate(stream, width), _coordinate(stream, height), length, thickness,
                   stream.below(DIRECTIONS), BORDERS[stream.below(len(BORDERS))])


def _twin(stream: Stream, other: Capsule, length: int, thickness: int,
          height: int, width: int) -> Capsule:
    """Return nearly the pose of ``other``, so that the boxes of the two nearly coincide."""
    direction = (other.direction + stream.bell(-50, 50)) % DIRECTIONS
    across, along = stream.bell(-16 * 10, 16 * 10), stream.bell(-16 * 14, 16 * 14)
    cos, sin = COS[other.direction], SIN[other.direction]
    x = other.x + int(along * cos - across * sin)
    y = other.y + int(along * sin + across * cos)
    return Capsule(_inside(x, width), _inside(y, height), length, thickness, direction,
                   BORDERS[stream.below(len(BORDERS))])


def _coordinate(stream: Stream, size: int) -> int:
    return stream.between(margin(size, MARGIN), 16 * size - margin(size, MARGIN))


def _inside(value: int, size: int) -> int:
    return min(max(value, margin(size, MARGIN)), 16 * size - margin(size, MARGIN))


def _is_cut(capsule: Capsule, height: int, width: int) -> bool:
    reach_x, reach_y = capsule.reach()
    return (capsule.x < reach_x or capsule.x + reach_x > 16 * width
            or capsule.y < reach_y or capsule.y + reach_y > 16 * height)


def _paint(image: np.ndarray, layer: IdLayer, capsule: Capsule, number: int) -> bool:
    """Paint it over all others; return False if it would cover too much of one."""
    reach_x, reach_y = capsule.reach()
    window = window_around(capsule.x, capsule.y, reach_x + 32, reach_y + 32, *layer.ids.shape)
    distance = _distance(capsule, window)
    radius = capsule.thickness / 32
    if not layer.add(window, distance <= radius - MASK_INSET, number):
        return False
    _blend(image[window], distance, radius, capsule.border / 16)
    return True


def _distance(capsule: Capsule, window: Window) -> np.ndarray:
    """Return the distance of pixel centres to the axis, in pixels (correctly rounded only)."""
    rows, cols = window
    y = np.arange(rows.start, rows.stop, dtype=np.float64)[:, None] + 0.5 - capsule.y / 16
    x = np.arange(cols.start, cols.stop, dtype=np.float64)[None, :] + 0.5 - capsule.x / 16
    cos, sin = COS[capsule.direction], SIN[capsule.direction]
    along = np.abs(x * cos + y * sin)
    along -= max(0, capsule.length - capsule.thickness) / 32
    np.maximum(along, 0, out=along)
    across = y * cos - x * sin
    along *= along
    across *= across
    along += across
    return np.sqrt(along, out=along)


def _blend(patch: np.ndarray, distance: np.ndarray, radius: float, border: float) -> None:
    """Paint blue up to ``radius`` and red up to the border's inner edge, both with smooth edges."""
    outer = np.clip((radius + 0.5 - distance) * 256, 0, 256).astype(np.int32)
    inner = np.clip((radius - border + 0.5 - distance) * 255, 0, 255).astype(np.int32)
    patch *= (256 - outer)[:, :, None]
    patch[:, :, 0] += outer * inner
    patch[:, :, 2] += outer * (255 - inner)
    patch += 128
    patch >>= 8
