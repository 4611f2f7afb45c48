"""The objects in the street: bodies that consist of a few boxes and discs."""
from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import Callable, NamedTuple

import numpy as np

from .layer import Window, window_around
from .scenery import Color, jitter
from .stream import Stream

PAINTS = ((200, 30, 30), (30, 60, 190), (235, 235, 235), (30, 30, 35), (210, 170, 30),
          (40, 140, 80), (120, 120, 130), (150, 60, 150), (230, 110, 30), (90, 160, 210))
GLASS, TYRE, SKIN = (60, 80, 95), (25, 25, 25), (215, 170, 140)
JITTER = 24
_PAINT, _OTHER, _GLASS, _TYRE, _SKIN = range(1, 6)   # the colours of ``paint``, counted from 1


class Pose(NamedTuple):
    """Where a body stands: middle and foot, width and height in sixteenths of a pixel."""

    label: int
    x: int
    bottom: int
    wide: int
    tall: int


class Body(NamedTuple):
    """The appearance of a body.

    Attributes
    ----------
    height : range in percent of the unit of its distance
    aspect : range of the width in percent of the height
    draw : draws the parts onto a sketch, in the order of painting
    """

    height: tuple[int, int]
    aspect: tuple[int, int]
    draw: Callable[[_Sketch], None]


def paint(body: Body, pose: Pose, size: tuple[int, int], stream: Stream
          ) -> tuple[Window, np.ndarray, list[Color]]:
    """Draw a body.

    Returns
    -------
    window : the part of the image that the body touches
    drawn : uint8, of the window's shape: 0 outside the body, k where it has the k-th colour
    colors : five of them
    """
    window = window_around(pose.x, pose.bottom - pose.tall // 2, pose.wide // 2 + 16,
                           pose.tall // 2 + 16, *size)
    colors = [jitter(stream, PAINTS[stream.below(len(PAINTS))], JITTER),
              jitter(stream, PAINTS[stream.below(len(PAINTS))], JITTER),
              jitter(stream, GLASS, JITTER), jitter(stream, TYRE, JITTER // 3),
              jitter(stream, SKIN, JITTER)]
    sketch = _Sketch(window, pose)
    body.draw(sketch)
    return window, sketch.drawn, colors


class _Sketch:
    """The window of a body, with its coordinates.

    Attributes
    ----------
    u : float64 (columns,), -0.5 .. 0.5 from left to right
    v : float64 (rows,), 0 at the foot, 1 at the top
    aspect : width per height
    drawn : see ``paint``
    """

    def __init__(self, window: Window, pose: Pose):
        rows, cols = window
        x = np.arange(cols.start, cols.stop, dtype=np.float64) + 0.5 - pose.x / 16
        y = pose.bottom / 16 - (np.arange(rows.start, rows.stop, dtype=np.float64) + 0.5)
        self.u, self.v, self.aspect = x * 16 / pose.wide, y * 16 / pose.tall, pose.wide / pose.tall
        self.drawn = np.zeros((len(y), len(x)), np.uint8)
        self._across, self._up = np.abs(self.u), self.v[::-1].tolist()
        self._columns = self.u.tolist()

    def box(self, left: float, right: float, low: float, high: float, color: int) -> None:
        """Draw where ``left`` <= u <= ``right`` and ``low`` <= v <= ``high``."""
        cols = slice(bisect_left(self._columns, left), bisect_right(self._columns, right))
        self.drawn[self._rows(low, high), cols] = color

    def _rows(self, low: float, high: float) -> slice:
        """Return the rows from the height ``low`` to ``high``."""
        count = len(self._up)
        return slice(count - bisect_right(self._up, high), count - bisect_left(self._up, low))

    def trapezoid(self, low: float, high: float, half_width: Callable[[np.ndarray], np.ndarray],
                  color: int, gap: float = -1) -> None:
        """Draw where ``gap`` < |u| <= ``half_width(v)``."""
        rows = self._rows(low, high)
        mask = self._across <= half_width(self.v[rows, None])
        self.drawn[rows][mask & (self._across > gap)] = color

    def disc(self, at: tuple[float, float], radius: float, color: int) -> None:
        """Draw a circle whose radius is in heights of the body."""
        across, up = (self.u - at[0]) * self.aspect, (self.v - at[1])[:, None]
        self.drawn[across * across + up * up <= radius * radius] = color


def _car(sketch: _Sketch) -> None:
    sketch.box(-0.5, 0.5, 0.12, 0.58, _PAINT)
    sketch.trapezoid(0.5, 1, lambda v: 0.44 - 0.32 * (v - 0.5), _PAINT)
    sketch.trapezoid(0.58, 0.9, lambda v: 0.37 - 0.32 * (v - 0.5), _GLASS, gap=0.03)
    sketch.disc((-0.3, 0.17), 0.17, _TYRE)
    sketch.disc((0.3, 0.17), 0.17, _TYRE)


def _person(sketch: _Sketch) -> None:
    sketch.box(-0.34, -0.04, 0, 0.48, _OTHER)
    sketch.box(0.04, 0.34, 0, 0.48, _OTHER)
    sketch.trapezoid(0.44, 0.82, lambda v: 0.3 + 0.2 * (v - 0.44) / 0.38, _PAINT)
    sketch.disc((0, 0.89), 0.11, _SKIN)


def _bicycle(sketch: _Sketch) -> None:
    radius = min(0.36, 0.3 * sketch.aspect)
    for side in (-0.5 + radius / sketch.aspect, 0.5 - radius / sketch.aspect):
        sketch.disc((side, radius), radius, _TYRE)
    sketch.box(-0.26, 0.26, radius, 0.66, _PAINT)
    sketch.box(0.12, 0.3, 0.6, 1.0, _PAINT)


BODIES: dict[int, Body] = {
    24: Body((56, 66), (30, 38), _person),
    26: Body((40, 48), (170, 215), _car),
    33: Body((34, 40), (125, 150), _bicycle),
}
"""Label -> body."""
