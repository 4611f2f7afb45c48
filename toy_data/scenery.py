"""The stuff of street scenes: sky, buildings, vegetation, sidewalk and road."""
from __future__ import annotations

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


def jitter(stream: Stream, color: tuple[int, int, int], by: int) -> np.ndarray:
    """Return a random colour near ``color``; int32 (3,)."""
    return np.array([c + stream.between(-by, by) for c in color], np.int32)


def draw_ground(stream: Stream, ground: Ground, height: int, width: int
                ) -> tuple[np.ndarray, np.ndarray]:
    """Draw an empty street: image int32 (H, W, 3) and labels int32 (H, W)."""
    image = np.empty((height, width, 3), np.int32)
    labels = np.full((height, width), SKY, np.int32)
    rise = (np.arange(height) * 60 // max(1, ground.horizon))[:, None, None]
    image[:] = jitter(stream, _SKY, 30) + np.minimum(rise, 60)
    _draw_buildings(stream, ground, image, labels)
    _draw_trees(stream, ground, image, labels)
    _draw_street(stream, ground, image, labels)
    return image, labels


def _draw_buildings(stream: Stream, ground: Ground, image: np.ndarray, labels: np.ndarray
                    ) -> None:
    left = -stream.below(max(1, ground.width // 8))
    while left < ground.width:
        wide = max(2, ground.width * stream.between(9, 22) // 100)
        if stream.chance(80):
            top = ground.horizon * stream.between(5, 75) // 100
            cols = slice(max(0, left), min(ground.width, left + wide))
            block = image[top:ground.horizon, cols]
            block[:] = jitter(stream, _WALLS[stream.below(len(_WALLS))], 20)
            step = max(3, ground.height * stream.between(6, 10) // 100)
            rows = (np.arange(block.shape[0]) % step * 2 > step)[:, None]
            columns = ((np.arange(block.shape[1]) + stream.below(step)) % step * 2 > step)[None]
            block[rows & columns] = jitter(stream, _WINDOW, 15)
            labels[top:ground.horizon, cols] = BUILDING
        left += wide


def _draw_trees(stream: Stream, ground: Ground, image: np.ndarray, labels: np.ndarray) -> None:
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
        image[window][mask] = jitter(stream, _GREEN, 28)
        labels[window][mask] = VEGETATION


def _draw_street(stream: Stream, ground: Ground, image: np.ndarray, labels: np.ndarray) -> None:
    """Draw a road with a sidewalk on both sides and grass beyond; all meet at the horizon."""
    rows = ground.height - ground.horizon
    far = (np.arange(rows) + 0.5)[:, None] / rows
    across = np.abs(np.arange(ground.width) + 0.5 - ground.middle / 16)[None, :] / ground.width
    road = far * (stream.between(45, 65) / 100) + 0.02
    walk = road + far * (stream.between(12, 30) / 100) + 0.01
    grass, *colors = (jitter(stream, color, by) for color, by in (
        (_GREEN, 28), (_SIDEWALK, 18), (_ROAD, 18)))
    place = (across <= walk).astype(np.intp) + (across <= road)   # the road lies on the sidewalk
    dashes = (across <= far * 0.012 + 0.002) & ((far * far * 16).astype(np.int64) % 2 == 0)
    labels[ground.horizon:] = np.array([VEGETATION, SIDEWALK, ROAD])[place]
    place[dashes] = 3
    image[ground.horizon:] = np.stack([grass, *colors, jitter(stream, _WHITE, 15)])[place]


def bush(stream: Stream, height: int, width: int) -> tuple[Window, np.ndarray, np.ndarray]:
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
