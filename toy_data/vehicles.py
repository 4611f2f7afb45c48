"""The objects in the street: bodies that consist of a few boxes and discs."""
from __future__ import annotations

from typing import Callable, NamedTuple

import numpy as np

from .layer import Window, window_around
from .scenery import jitter
from .stream import Stream

PAINTS = ((200, 30, 30), (30, 60, 190), (235, 235, 235), (30, 30, 35), (210, 170, 30),
          (40, 140, 80), (120, 120, 130), (150, 60, 150), (230, 110, 30), (90, 160, 210))
GLASS, TYRE, SKIN = (60, 80, 95), (25, 25, 25), (215, 170, 140)
JITTER = 24
Layers = list[tuple[np.ndarray, np.ndarray]]


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
    parts : computes masks and their colours, as keys of ``paint``, in the order of painting, from
        the coordinates u (-0.5 .. 0.5 from left to right) and v (0 at the foot, 1 at the top) and
        the width per height
    """

    height: tuple[int, int]
    aspect: tuple[int, int]
    parts: Callable[[np.ndarray, np.ndarray, float], list[tuple[np.ndarray, str]]]


def paint(body: Body, pose: Pose, size: tuple[int, int], stream: Stream) -> tuple[Window, Layers]:
    """Return the window of the image that a body touches, and its masks and colours there."""
    window = window_around(pose.x, pose.bottom - pose.tall // 2, pose.wide // 2 + 16,
                           pose.tall // 2 + 16, *size)
    rows, cols = window
    x = np.arange(cols.start, cols.stop, dtype=np.float64)[None, :] + 0.5 - pose.x / 16
    y = pose.bottom / 16 - (np.arange(rows.start, rows.stop, dtype=np.float64)[:, None] + 0.5)
    colors = {'paint': jitter(stream, PAINTS[stream.below(len(PAINTS))], JITTER),
              'other': jitter(stream, PAINTS[stream.below(len(PAINTS))], JITTER),
              'glass': jitter(stream, GLASS, JITTER), 'tyre': jitter(stream, TYRE, JITTER // 3),
              'skin': jitter(stream, SKIN, JITTER)}
    parts = body.parts(x * 16 / pose.wide, y * 16 / pose.tall, pose.wide / pose.tall)
    return window, [(mask, colors[color]) for mask, color in parts]


def _box(u: np.ndarray, v: np.ndarray, left: float, right: float, low: float, high: float
         ) -> np.ndarray:
    return (u >= left) & (u <= right) & (v >= low) & (v <= high)


def _disc(u: np.ndarray, v: np.ndarray, at: tuple[float, float], radius: float, aspect: float
          ) -> np.ndarray:
    """Return a circle whose radius is in heights of the body."""
    across, up = (u - at[0]) * aspect, v - at[1]
    return across * across + up * up <= radius * radius


def _car(u: np.ndarray, v: np.ndarray, aspect: float) -> list[tuple[np.ndarray, str]]:
    roof = (v >= 0.5) & (v <= 1) & (np.abs(u) <= 0.44 - 0.32 * (v - 0.5))
    window = (v >= 0.58) & (v <= 0.9) & (np.abs(u) <= 0.37 - 0.32 * (v - 0.5)) & (np.abs(u) > 0.03)
    return [(_box(u, v, -0.5, 0.5, 0.12, 0.58), 'paint'), (roof, 'paint'), (window, 'glass'),
            (_disc(u, v, (-0.3, 0.17), 0.17, aspect), 'tyre'),
            (_disc(u, v, (0.3, 0.17), 0.17, aspect), 'tyre')]


def _person(u: np.ndarray, v: np.ndarray, aspect: float) -> list[tuple[np.ndarray, str]]:
    torso = (v >= 0.44) & (v <= 0.82) & (np.abs(u) <= 0.3 + 0.2 * (v - 0.44) / 0.38)
    legs = (v >= 0) & (v <= 0.48) & (np.abs(u) <= 0.34) & (np.abs(u) >= 0.04)
    return [(legs, 'other'), (torso, 'paint'), (_disc(u, v, (0, 0.89), 0.11, aspect), 'skin')]


def _bicycle(u: np.ndarray, v: np.ndarray, aspect: float) -> list[tuple[np.ndarray, str]]:
    radius = min(0.36, 0.3 * aspect)
    wheels = [_disc(u, v, (side, radius), radius, aspect) for side in (-0.5 + radius / aspect,
                                                                       0.5 - radius / aspect)]
    frame = (np.abs(u) <= 0.26) & (v >= radius) & (v <= 0.66)
    bar = _box(u, v, 0.12, 0.3, 0.6, 1.0)
    return [(wheels[0], 'tyre'), (wheels[1], 'tyre'), (frame, 'paint'), (bar, 'paint')]


BODIES: dict[int, Body] = {
    24: Body((56, 66), (30, 38), _person),
    26: Body((40, 48), (170, 215), _car),
    33: Body((34, 40), (125, 150), _bicycle),
}
"""Label -> body."""
