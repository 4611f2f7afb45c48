"""The whole algorithm on one image: encode, select, stitch, merge."""
from __future__ import annotations

from typing import Callable, NamedTuple, Optional

import numpy as np

from adaptis.inference.encoded_image import EncodedImage
from adaptis.inference.greedy import Draw, Selection, seeded_draw, select_masks
from adaptis.inference.merge import Merged, merge
from adaptis.inference.settings import Settings
from adaptis.inference.tiling import Stitcher, Tile, split

Encode = Callable[[np.ndarray], EncodedImage]


class Segmentation(NamedTuple):
    """``merged`` masks, the class probabilities float32 (S / T, H, W), and the cost."""

    merged: Merged
    stuff_prob: np.ndarray
    things_prob: np.ndarray
    queried: int
    wasted: int


def segment(encoded: EncodedImage, settings: Settings, ignore: Optional[np.ndarray] = None,
            draw: Optional[Draw] = None) -> Segmentation:
    """Segment an image that is encoded as a whole; ``ignore`` (H, W) > 0 = leave out."""
    selection = select_masks(encoded, settings, ignore, draw=draw)
    return _finish(selection, encoded.stuff_prob, encoded.things_prob, settings, ignore)


def segment_tiles(encode: Encode, image: np.ndarray, settings: Settings,
                  ignore: Optional[np.ndarray] = None,
                  draw: Optional[Draw] = None) -> Segmentation:
    """Segment an image tile by tile; class probabilities of overlapping tiles are averaged.

    ``encode`` gets parts of ``image`` (H, W, 3), at most one of which it needs to keep.
    """
    size = image.shape[:2]
    draw = draw or seeded_draw(settings.seed)
    stitcher = Stitcher(size, settings.official)
    classes = _ClassAverage(size)
    total = Selection()
    for tile in split(size, settings.tile or size, settings.min_tile_overlap, settings.official):
        part = None if ignore is None else ignore[tile.rows, tile.cols]
        encoded = encode(image[tile.rows, tile.cols])
        selection = select_masks(encoded, settings, part, draw=draw)
        stitcher.add(tile, selection.masks)
        classes.add(tile, encoded)
        total.queried += selection.queried
        total.wasted += selection.wasted
    total.masks = stitcher.masks()
    return _finish(total, *classes.result(), settings, ignore)


def _finish(selection: Selection, stuff_prob: np.ndarray, things_prob: np.ndarray,
            settings: Settings, ignore: Optional[np.ndarray]) -> Segmentation:
    merged = merge(selection.masks, stuff_prob, things_prob, settings, ignore)
    return Segmentation(merged, stuff_prob, things_prob, selection.queried, selection.wasted)


class _ClassAverage:
    """Mean class probabilities of all tiles that see a pixel."""

    def __init__(self, size: tuple[int, int]):
        self._count = np.zeros(size, np.float32)
        self._sums: list[np.ndarray] = []

    def add(self, tile: Tile, encoded: EncodedImage) -> None:
        parts = (encoded.stuff_prob, encoded.things_prob)
        if not self._sums:
            self._sums = [np.zeros((len(p), *self._count.shape), np.float32) for p in parts]
        for total, part in zip(self._sums, parts):
            total[:, tile.rows, tile.cols] += part
        self._count[tile.rows, tile.cols] += 1

    def result(self) -> list[np.ndarray]:
        return [total / self._count for total in self._sums]
