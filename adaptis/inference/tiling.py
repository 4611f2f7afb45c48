"""Large images in overlapping tiles: the positions of the tiles, and joining their objects."""
from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple, Optional

import numpy as np

from adaptis.errors import AdaptisError
from adaptis.inference.memory import check_memory

TOP_IOU = 0.5  # with an object of the tile above, in the strip that both contain
LEFT_IOU = 0.3  # with an object of the tile to the left


class Axis(NamedTuple):
    """Tiles along one axis: their start positions, their length, and their relative overlap."""

    starts: tuple[int, ...]
    length: int
    overlap: float


class Tile(NamedTuple):
    """A tile; ``top`` and ``left`` are how many of its rows and columns earlier tiles contain."""

    rows: slice
    cols: slice
    top: int
    left: int


def split_axis(size: int, length: int, min_overlap: float, official: bool = False) -> Axis:
    """Cover ``size`` pixels with the fewest equal tiles that overlap by ``min_overlap``.

    A tile longer than the image shrinks to its size.  The official code divides by zero in this
    case, and with very many tiles it puts the last ones outside the image.
    """
    if length > size and official:
        raise AdaptisError(f'A tile of {length} pixels is larger than the image ({size}): the '
                           'official code divides by zero here; use a smaller tile.')
    if length >= size:
        return Axis((0,), size, 1.0)
    ratio = size / length
    count = max(2, math.ceil((ratio - min_overlap) / (1 - min_overlap)))
    overlap = (count - ratio) / (count - 1)
    stride = length - int(length * overlap)
    starts = [i * stride for i in range(count - 1)] + [size - length]
    if not official:  # integer strides put the last of many tiles beyond the end
        starts = sorted({min(start, size - length) for start in starts})
    return Axis(tuple(starts), length, overlap)


def split_tiles(size: tuple[int, int], tile: tuple[int, int], min_overlap: float,
                official: bool = False) -> list[Tile]:
    """Return tiles over an image of (H, W), row by row."""
    down = split_axis(size[0], tile[0], min_overlap, official)
    right = split_axis(size[1], tile[1], min_overlap, official)
    top, left = int(down.overlap * down.length), int(right.overlap * right.length)
    return [Tile(slice(y, y + down.length), slice(x, x + right.length), top if y else 0,
                 left if x else 0) for y in down.starts for x in right.starts]


class Stitcher:
    """Joins the masks of tiles to masks of the image, float32 (H, W).

    Within a tile, every pixel goes to its most probable object.  An object that matches an earlier
    one in the common strip continues it, and their probabilities are averaged where both have them.
    """

    def __init__(self, size: tuple[int, int], official: bool = False):
        self._labels = np.zeros(size, np.int32)  # 0 = no tile with objects was here yet
        self._parts: list[list[tuple[Tile, np.ndarray]]] = []
        self._count = 0  # number of parts
        self._official = official

    def add(self, tile: Tile, masks: list[np.ndarray]) -> None:
        """Join the masks (each of the tile's size) of one more tile.

        Raises AdaptisError if the masks of all tiles do not fit into memory.
        """
        if not masks:
            return
        owner = _strongest(masks)
        seen = self._labels[tile.rows, tile.cols]
        above, beside = seen[:tile.top], seen[:, :tile.left]
        # The labels are listed now, but the strips are views, so an object is compared with what
        # earlier objects of its own tile have left.
        above_labels, beside_labels = self._known(above), self._known(beside)
        for index, mask in enumerate(masks):
            inside = owner == index
            label = _first_match(inside[:tile.top], above, above_labels, TOP_IOU)
            if label is None:
                label = _first_match(inside[:, :tile.left], beside, beside_labels, LEFT_IOU)
            seen[inside] = self._append(tile, mask, label)

    def masks(self) -> Iterator[np.ndarray]:
        """Return an iterator over the joined masks, in order of discovery, one at a time."""
        return map(self._average, self._parts)

    def _known(self, strip: np.ndarray) -> np.ndarray:
        labels = np.unique(strip)
        return labels if self._official else labels[labels > 0]

    def _append(self, tile: Tile, mask: np.ndarray, label: Optional[int]) -> int:
        if label == 0:
            raise AdaptisError('An object matches a part of the image where an earlier tile found '
                               'none: the official code stops here with a TypeError.')
        if label is None:
            self._parts.append([])
            label = len(self._parts)
        self._count += 1
        check_memory(self._count, mask.shape)
        self._parts[label - 1].append((tile, mask))
        return label

    def _average(self, parts: list[tuple[Tile, np.ndarray]]) -> np.ndarray:
        total = np.zeros(self._labels.shape, np.float32)
        count = np.zeros(self._labels.shape, np.float32)
        for tile, mask in parts:
            total[tile.rows, tile.cols] += mask
            count[tile.rows, tile.cols] += 1
        return total / np.maximum(count, 1)


def _strongest(masks: list[np.ndarray]) -> np.ndarray:
    """Return the argmax over the masks without stacking them."""
    best = masks[0].copy()
    owner = np.zeros(best.shape, np.int32)
    for index, mask in enumerate(masks[1:], start=1):
        np.copyto(owner, index, where=mask > best)
        np.maximum(best, mask, out=best)
    return owner


def _first_match(inside: np.ndarray, strip: np.ndarray, labels: np.ndarray,
                 min_iou: float) -> Optional[int]:
    """Return the lowest label of the strip that the object overlaps by more than ``min_iou``."""
    if not inside.any():
        return None
    for label in labels:
        other = strip == label
        union = np.count_nonzero(inside | other)
        if np.count_nonzero(inside & other) / union > min_iou:
            return int(label)
    return None
