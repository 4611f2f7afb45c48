"""The stuff of street scenes: sky, buildings, vegetation, sidewalk and road."""
from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .layer import Window
from .stream import Stream

ROAD, SIDEWALK, BUILDING, VEGETATION, SKY = 7, 8, 11, 21, 23
HEDGE = 45                     # percent of the images with a bush in front
VOID_COLOR = (70, 60, 60)
_SKY, _ROAD, _SIDEWALK, _GREEN, _WHITE = ((150, 190, 230), (92, 90, 95), (165, 150, 150),
                                          (70, 115, 50), (215, 215, 210))
_WALLS = ((140, 90, 75), (170, 155, 135), (115, 115, 125), (190, 170, 110), (95, 80, 90))
_WINDOW = (55, 65, 80)
_LIGHTER = 60                  # levels by which the sky is lighter at the horizon than at the top
Color = tuple[int, int, int]


class Ground(NamedTuple):
    """The perspective: all in pixels, except ``middle``, which is in sixteenths of a pixel."""

    height: int
    width: int
    horizon: int
    middle: int

    @classmethod
    def draw(cls, stream: Stream, height: int, width: int) -> Ground:
        """Draw a horizon in the middle third and a vanishing point near the middle."""
        return cls(height, width, height * stream.between(36, 50) // 100,
                   width * stream.between(16 * 35, 16 * 65) // 100)

    def bottom(self, depth: int) -> int:
        """Return the row on which an object stands, in sixteenths of a pixel.

        ``depth`` is from 0 at the horizon to 100 at the nearest position.
        """
        return 16 * self.horizon + 16 * (self.height - self.horizon) * depth // 100

    def unit(self, depth: int) -> int:
        """Return the height of the image as it appears at that depth, in sixteenths of a pixel."""
        return 16 * self.height * depth // 100


def jitter(stream: Stream, color: Color, by: int) -> Color:
    """Return a random colour near ``color``."""
    red, green, blue = stream.several(3, -by, by)
    return color[0] + red, color[1] + green, color[2] + blue


class Canvas:
    """An image that is painted by number: each pixel has the number of a paint.

    A paint is a colour and the label of the stuff that has it.

    Attributes
    ----------
    paints : int32 (H, W), 0 .. number of paints - 1
    """

    def __init__(self, height: int, width: int):
        self.paints = np.zeros((height, width), np.int32)
        self._colors: list[Color] = []
        self._labels: list[int] = []

    def mix(self, colors: Sequence[Color], label: int = 0) -> int:
        """Add paints of these colours and return the number of the first one."""
        first = len(self._colors)
        self._colors.extend(colors)
        self._labels.extend([label] * len(colors))
        return first

    def image(self) -> np.ndarray:
        """Return the colours, uint8 (H, W, 3)."""
        return np.clip(self._colors, 0, 255).astype(np.uint8).take(self.paints, axis=0)

    def labels(self) -> np.ndarray:
        """Return the labels, uint16 (H, W)."""
        return np.array(self._labels, np.uint16).take(self.paints)


def draw_ground(stream: Stream, ground: Ground) -> Canvas:
    """Draw an empty street."""
    canvas = Canvas(ground.height, ground.width)
    sky = np.array(jitter(stream, _SKY, 30)) + np.arange(_LIGHTER + 1)[:, None]
    rise = np.arange(ground.height) * _LIGHTER // max(1, ground.horizon)
    canvas.paints[:] = canvas.mix(sky.tolist(), SKY) + np.minimum(rise, _LIGHTER)[:, None]
    _draw_buildings(stream, ground, canvas)
    _draw_trees(stream, ground, canvas)
    _draw_street(stream, ground, canvas)
    return canvas


def _draw_buildings(stream: Stream, ground: Ground, canvas: Canvas) -> None:
    left = -stream.below(max(1, ground.width // 8))
    while left < ground.width:
        wide = max(2, ground.width * stream.between(9, 22) // 100)
        if stream.chance(80):
            top = ground.horizon * stream.between(5, 75) // 100
            cols = slice(max(0, left), min(ground.width, left + wide))
            block = canvas.paints[top:ground.horizon, cols]
            wall = jitter(stream, _WALLS[stream.below(len(_WALLS))], 20)
            step = max(3, ground.height * stream.between(6, 10) // 100)
            rows = (np.arange(block.shape[0]) % step * 2 > step)[:, None]
            columns = ((np.arange(block.shape[1]) + stream.below(step)) % step * 2 > step)[None]
            first = canvas.mix([wall, jitter(stream, _WINDOW, 15)], BUILDING)
            block[:] = (rows & columns) + first
        left += wide


def _draw_trees(stream: Stream, ground: Ground, canvas: Canvas) -> None:
    """Draw trees whose crowns overlap at the horizon."""
    for _ in range(stream.between(2, 7)):
        radius = max(2, ground.height * stream.between(7, 17) // 100)
        middle = stream.below(ground.width)
        window = (slice(max(0, ground.horizon - 5 * radius // 2 - 1), ground.horizon),
                  slice(max(0, middle - 2 * radius), middle + 2 * radius))
        y = np.arange(ground.horizon)[window[0], None] + 0.5
        x = np.arange(ground.width)[None, window[1]] + 0.5
        mask = (np.abs(x - middle) * 5 <= radius) & (y > ground.horizon - radius)
        for _ in range(4):
            across = x - (middle + stream.between(-radius, radius))
            up = y - (ground.horizon - radius + stream.between(-radius // 2, radius // 2))
            mask |= across * across + up * up <= radius * radius
        canvas.paints[window][mask] = canvas.mix([jitter(stream, _GREEN, 28)], VEGETATION)


def _draw_street(stream: Stream, ground: Ground, canvas: Canvas) -> None:
    """Draw a road with a sidewalk on both sides and grass beyond; all meet at the horizon."""
    rows = ground.height - ground.horizon
    far = (np.arange(rows) + 0.5)[:, None] / rows
    across = np.abs(np.arange(ground.width) + 0.5 - ground.middle / 16)[None, :] / ground.width
    road = far * (stream.between(45, 65) / 100) + 0.02
    walk = road + far * (stream.between(12, 30) / 100) + 0.01
    # Four paints with consecutive numbers.
    grass, *_, dash = (canvas.mix([jitter(stream, color, by)], label) for color, by, label in (
        (_GREEN, 28, VEGETATION), (_SIDEWALK, 18, SIDEWALK), (_ROAD, 18, ROAD), (_WHITE, 15, ROAD)))
    paints = canvas.paints[ground.horizon:]
    np.add(across <= walk, across <= road, out=paints, dtype=np.int32)   # the road is on the walk
    paints += grass
    lines = np.flatnonzero((far * far * 16).astype(np.int64) % 2 == 0)
    paints[lines] = np.where(across <= far[lines] * 0.012 + 0.002, dash, paints[lines])


def bush(stream: Stream, height: int, width: int) -> tuple[Window, np.ndarray, Color]:
    """Draw a bush at the left or right end, in front of everything: window, mask, colour."""
    radius = max(2, height * stream.between(14, 26) // 100)
    left = stream.chance(50)
    middle = stream.between(0, width // 5)
    middle = middle if left else width - middle
    top = height - radius - height * stream.between(0, 12) // 100
    window = (slice(max(0, top - radius), height),
              slice(max(0, middle - 2 * radius), min(width, middle + 2 * radius)))
    y = np.arange(window[0].start, window[0].stop)[:, None] + 0.5
    x = np.arange(window[1].start, window[1].stop)[None, :] + 0.5
    mask = np.zeros((y.size, x.size), bool)
    for _ in range(5):
        across = x - (middle + stream.between(-radius, radius))
        up = y - (top + stream.between(-radius // 3, radius))
        mask |= across * across + up * up <= radius * radius
    return window, mask, jitter(stream, _GREEN, 28)
