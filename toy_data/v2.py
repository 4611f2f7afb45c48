"""ToyV2: bent rods and blobs in bluish colours on a soft pastel background.

These values were measured on the authors' images (256x256 with 250 objects, 128x128 with 12 to 52):
rods 6 to 9 pixels thick and up to 65 long, straight, curved or kinked; blobs up to 18 pixels
across; each of one translucent blue with a lighter border of about two pixels; clouds of low
frequency behind; and a blur over everything with a standard deviation of about half a pixel.

Rods and blobs are drawn in the same way: a disk of varying radius moves along a path.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np

from .degrade import blur
from .directions import COS, DIRECTIONS, SIN
from .layer import IdLayer, Window, margin, place_all, window_around
from .stream import Stream

MARGIN = 14           # pixels between the image border and the middles of the objects
BLOBS = 38            # percent of objects that are blobs
NEIGHBOURS = 18       # percent of objects placed close to an earlier one
CUT = 12              # percent of the poses cut by the image border that are kept
MIN_SHARE = 36        # smallest visible percentage of every object
BLUR = 9              # sixteenths of a pixel
FILL = ((0, 66), (64, 126), (164, 220))             # range of R, G, B
BORDER = ((12, 48), (24, 58), (26, 56))             # added to them by the border
PASTEL = ((142, 172), (184, 200), (206, 218))      # range of the mean of the background
_STEP = 0.75          # pixels between the disks along a path


@dataclass(frozen=True)
class Sweep:
    """Disks in pixels, relative to (x, y), which is in sixteenths of a pixel."""

    x: int
    y: int
    dx: np.ndarray
    dy: np.ndarray
    radius: np.ndarray


@dataclass(frozen=True)
class Paint:
    """Colours (R, G, B) of fill and border, and opacity in 256ths."""

    fill: tuple[int, ...]
    border: tuple[int, ...]
    opacity: int


def render_v2(stream: Stream, height: int, width: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Render one image of ``count`` rods and blobs.

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
    image = _background(stream, height, width)
    texture = _clouds(stream, height, width, (4, 2)) >> 5
    layer = IdLayer(height, width, count, MIN_SHARE)
    placed: list[tuple[int, int]] = []

    def attempt(number: int) -> bool:
        x, y = _place(stream, height, width, placed)
        sweep = _shape(stream, x, y, min(height, width))
        reach = _reach(sweep)
        if _is_cut(sweep, reach, height, width) and not stream.chance(CUT):
            return False
        if not _paint(image, layer, texture, sweep, reach, _colours(stream), number):
            return False
        placed.append((x, y))
        return True

    place_all(count, height, width, attempt)
    image = np.clip(blur(cv2.merge(list(image)), BLUR), 0, 255).astype(np.uint8)
    return image, layer.relabel(stream.shuffled(count))


def _background(stream: Stream, height: int, width: int) -> np.ndarray:
    """Return clouds between bluish and whitish, int32 (3, height, width)."""
    light = _clouds(stream, height, width, (96, 48, 24, 12, 6, 4))
    tint = _clouds(stream, height, width, (96, 48, 24, 12))
    mean = [stream.between(*bounds) for bounds in PASTEL]
    return np.stack([mean[channel] + ((light * by_light + tint * by_tint) >> 8)
                     for channel, (by_light, by_tint) in enumerate(((17, -4), (6, 4), (1, 4)))])


def _clouds(stream: Stream, height: int, width: int, periods: Sequence[int]) -> np.ndarray:
    """Return value noise, int32 (height, width), roughly within -512 .. 512.

    There is one octave per period (in pixels); each has three quarters of the previous amplitude.
    """
    total = np.zeros((width, height), np.int32)
    for octave, period in enumerate(periods):
        rows, cols = height // period + 3, width // period + 3
        grid = stream.normal(rows, cols, 16 * 180)
        shift = stream.below(period), stream.below(period)
        smooth = _stretch(_stretch(grid, height, period, shift[0]).T, width, period, shift[1])
        smooth *= 256 * 3 ** octave // 4 ** octave
        smooth >>= 8
        total += smooth
    return np.ascontiguousarray(total.T)


def _stretch(grid: np.ndarray, size: int, period: int, shift: int) -> np.ndarray:
    """Interpolate the rows of ``grid`` to ``size`` rows, ``period`` apart, along a smooth step."""
    cells, weights = (table[shift:shift + size] for table in _smooth_step(size + period, period))
    grid = np.ascontiguousarray(grid)
    rows = (grid[1:] - grid[:-1])[cells]
    rows *= weights
    rows += (grid << 8)[cells]
    rows >>= 8
    return rows


@cache
def _smooth_step(size: int, period: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the cell (size,) of each pixel, and the weight (size, 1) of the next one in 256ths."""
    cells, part = np.divmod(np.arange(size), period)
    part = part * 256 // period
    return cells, (part * part * (768 - 2 * part) >> 16).astype(np.int32)[:, None]


def _place(stream: Stream, height: int, width: int,
           placed: list[tuple[int, int]]) -> tuple[int, int]:
    if placed and stream.chance(NEIGHBOURS):
        x, y = placed[stream.below(len(placed))]
        return (_inside(x + stream.bell(-16 * 9, 16 * 9), width),
                _inside(y + stream.bell(-16 * 9, 16 * 9), height))
    return _inside(stream.below(16 * width), width), _inside(stream.below(16 * height), height)


def _inside(value: int, size: int) -> int:
    """Return ``value`` mirrored at the margins, so that no line of objects forms along them."""
    low = margin(size, MARGIN)
    high = 16 * size - low
    if value < low:
        value = 2 * low - value
    if value > high:
        value = 2 * high - value
    return min(max(value, low), high)


def _shape(stream: Stream, x: int, y: int, size: int) -> Sweep:
    if stream.chance(BLOBS):
        return _blob(stream, x, y, size)
    length = min(stream.bell(12, 62), 3 * size // 4)
    dx, dy = _path(stream, length, rate=min(16, 700 // length), kinks=190)
    start, end = stream.between(46, 66), stream.between(40, 66)
    radius = _radii(len(dx), start, stream.between(46, 66), end)
    return Sweep(x, y, dx, dy, _uneven(stream, radius, 7))


def _blob(stream: Stream, x: int, y: int, size: int) -> Sweep:
    dx, dy = _path(stream, min(stream.between(5, 12), size // 4), rate=30, kinks=200)
    middle = min(stream.bell(74, 158), 4 * size)
    start, end = (middle * stream.between(45, 95) // 100 for _ in range(2))
    return Sweep(x, y, dx, dy, _uneven(stream, _radii(len(dx), start, middle, end), 12))


def _uneven(stream: Stream, radius: np.ndarray, amount: int) -> np.ndarray:
    """Return ``radius`` with a rough outline, which changes by up to ``amount`` sixteenths."""
    knots = stream.several(len(radius) // 3 + 2, -amount, amount)
    return radius + np.repeat(np.array(knots) / 16, 3)[1:len(radius) + 1]


def _path(stream: Stream, length: int, rate: int, kinks: int) -> tuple[np.ndarray, np.ndarray]:
    """Return points of a curve around (0, 0), ``length`` pixels long.

    ``rate`` limits its curvature; ``kinks`` limits the sudden turn in between, in 1024ths of a
    turn.
    """
    steps = max(2, int(length / _STEP) + 1)
    turns = np.zeros(steps, np.int64)
    bend = stream.between(steps // 4, 3 * steps // 4)
    turns[:bend] = stream.bell(-rate, rate)
    turns[bend:] = stream.bell(-rate, rate) if stream.chance(50) else turns[0]
    turns[bend] += stream.bell(-kinks, kinks) if stream.chance(50) else 0
    heading = (stream.below(DIRECTIONS) + np.cumsum(turns)) % DIRECTIONS
    dx, dy = np.cumsum(COS[heading]) * _STEP, np.cumsum(SIN[heading]) * _STEP
    return dx - (dx.min() + dx.max()) / 2, dy - (dy.min() + dy.max()) / 2


def _radii(steps: int, start: int, middle: int, end: int) -> np.ndarray:
    """Return radii in pixels along a path, linear between three values in sixteenths of a pixel."""
    first, second = _halves(steps)
    return (start + (middle - start) * first + (end - middle) * second) / 16


@cache
def _halves(steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Return how far each step is along the first half of a path, and along the second: 0 to 1."""
    at = np.arange(steps) * 512 // max(1, steps - 1)
    return np.minimum(at, 256) / 256, np.maximum(at - 256, 0) / 256


def _colours(stream: Stream) -> Paint:
    fill = tuple(stream.bell(*bounds) for bounds in FILL)
    border = tuple(base + stream.between(*bounds) for base, bounds in zip(fill, BORDER))
    return Paint(fill, border,
                 stream.between(228, 256) if stream.chance(86)
                 else stream.between(170, 228))


def _reach(sweep: Sweep) -> tuple[int, int]:
    """Return how far it extends from (x, y) along x and y, in sixteenths of a pixel."""
    return (int(16 * (np.abs(sweep.dx) + sweep.radius).max()) + 1,
            int(16 * (np.abs(sweep.dy) + sweep.radius).max()) + 1)


def _is_cut(sweep: Sweep, reach: tuple[int, int], height: int, width: int) -> bool:
    return (sweep.x < reach[0] or sweep.x + reach[0] > 16 * width
            or sweep.y < reach[1] or sweep.y + reach[1] > 16 * height)


def _paint(image: np.ndarray, layer: IdLayer, texture: np.ndarray, sweep: Sweep,
           reach: tuple[int, int], paint: Paint, number: int) -> bool:
    """Paint it over all others; return False if it would cover too much of one."""
    window = window_around(sweep.x, sweep.y, reach[0] + 16, reach[1] + 16, *layer.ids.shape)
    outside = _signed_distance(sweep, window)
    if not layer.add(window, outside <= 0, number):
        return False
    _blend(image[:, window[0], window[1]], outside, texture[window], paint)
    return True


def _signed_distance(sweep: Sweep, window: Window) -> np.ndarray:
    """Return the distance of pixel centres to the shape in pixels, negative inside.

    Only operations that every processor rounds in the same way are used.
    """
    rows, cols = window
    y = np.arange(rows.start, rows.stop, dtype=np.float64) + 0.5 - sweep.y / 16
    x = np.arange(cols.start, cols.stop, dtype=np.float64) + 0.5 - sweep.x / 16
    dx = (x[None, :] - sweep.dx[:, None]) ** 2
    dy = (y[None, :] - sweep.dy[:, None]) ** 2
    distance = (dy[:, :, None] + dx[:, None, :]).astype(np.float32)
    np.sqrt(distance, out=distance)
    distance -= sweep.radius.astype(np.float32)[:, None, None]
    return distance.min(axis=0)


def _blend(patch: np.ndarray, outside: np.ndarray, texture: np.ndarray, paint: Paint) -> None:
    """Paint it; the border is 1.2 pixels wide and fades into the fill up to 2.8 pixels."""
    cover = np.clip((0.5 - outside) * 256, 0, 256).astype(np.int32)
    cover *= paint.opacity
    cover >>= 8
    edge = np.clip((outside + 2.8) * 160, 0, 256).astype(np.int32)
    fill, border = (np.array(colour, np.int32)[:, None, None]
                    for colour in (paint.fill, paint.border))
    change = (border - fill) * edge
    change >>= 8
    change += texture
    change += fill
    change -= patch
    change *= cover
    change += 128
    change >>= 8
    patch += change
