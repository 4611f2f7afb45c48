"""The whole algorithm for one image: encode, select, stitch, merge."""
from __future__ import annotations

from typing import Callable, NamedTuple, Optional

import numpy as np

from adaptis.inference import greedy, greedy_paper
from adaptis.inference.encoded_image import EncodedImage
from adaptis.inference.greedy import Draw, Watch, seeded_draw
from adaptis.inference.merge import Merged, Merger
from adaptis.inference.rescale import resize
from adaptis.inference.settings import AdaptISSettings
from adaptis.inference.tiling import Stitcher, Tile, split_tiles

Encode = Callable[[np.ndarray], EncodedImage]
_SELECT_MASKS = {'official': greedy.select_masks, 'paper': greedy_paper.select_masks}


class Segmentation(NamedTuple):
    """Merged masks, class probabilities float32 (S / T, h, w) as encoded, and the cost."""

    merged: Merged
    stuff_prob: np.ndarray
    things_prob: np.ndarray
    queried: int
    wasted: int


def segment(encoded: EncodedImage, settings: AdaptISSettings, ignore: Optional[np.ndarray] = None,
            draw: Optional[Draw] = None, *, size: Optional[tuple[int, int]] = None,
            keep_masks: bool = True, watch: Optional[Watch] = None) -> Segmentation:
    """Segment an image that was encoded as a whole.

    Parameters
    ----------
    ignore : (H, W) like the result, > 0 where objects are not searched
    draw : source of the random points; by default one seeded with ``settings.seed``
    size : (H, W) of ``merged``; by default that of the encoded image
    keep_masks : whether ``merged`` contains the soft masks
    watch : called with the progress and each accepted mask, which has the size of the network's
        input; see ``greedy.Watch``
    """
    merger = Merger(encoded.stuff_prob, encoded.things_prob, settings, size, keep_masks)
    selection = _SELECT_MASKS[settings.algorithm](
        encoded, settings, _at_size(ignore, encoded.size), draw=draw, accept=merger.add,
        watch=watch)
    return Segmentation(merger.result(ignore), encoded.stuff_prob, encoded.things_prob,
                        selection.queried, selection.wasted)


def segment_tiles(encode: Encode, image: np.ndarray, settings: AdaptISSettings,
                  ignore: Optional[np.ndarray] = None, draw: Optional[Draw] = None, *,
                  size: Optional[tuple[int, int]] = None,
                  keep_masks: bool = True, watch: Optional[Watch] = None) -> Segmentation:
    """Segment an image tile by tile; class probabilities of overlapping tiles are averaged.

    ``encode`` is called with parts of ``image`` (H, W, 3), one at a time.  The other parameters are
    those of :func:`segment`.  ``watch`` gets the masks of the tiles before they are joined, and an
    estimate of the total until the last tile.
    """
    whole = image.shape[:2]
    draw = draw or seeded_draw(settings.seed)
    stitcher = Stitcher(whole, settings.official)
    classes = _ClassAverage(whole)
    queried = wasted = 0
    left_out = _at_size(ignore, whole)
    tiles = split_tiles(whole, settings.tile or whole, settings.min_tile_overlap,
                        settings.official)
    watched = None if watch is None else _TileWatch(watch, whole, len(tiles))
    for tile in tiles:
        part = None if left_out is None else left_out[tile.rows, tile.cols]
        encoded = encode(image[tile.rows, tile.cols])
        selection = _SELECT_MASKS[settings.algorithm](encoded, settings, part, draw=draw,
                                                       watch=watched and watched.of(tile))
        stitcher.add(tile, selection.masks)
        classes.add(tile, encoded)
        queried += selection.queried
        wasted += selection.wasted
    stuff_prob, things_prob = classes.result()
    merger = Merger(stuff_prob, things_prob, settings, size, keep_masks)
    for mask in stitcher.masks():
        merger.add(mask)
    return Segmentation(merger.result(ignore), stuff_prob, things_prob, queried, wasted)


class _TileWatch:
    """Translates the progress of tiles into the progress of an image of ``size`` for ``watch``."""

    def __init__(self, watch: Watch, size: tuple[int, int], tiles: int):
        self._watch, self._size, self._left = watch, size, tiles
        self._before = self._total = 0

    def of(self, tile: Tile) -> Watch:
        """Return the watch of the next tile."""
        self._before += self._total
        self._total, self._left = 0, self._left - 1

        def watch(done: int, total: int, mask: Optional[np.ndarray]) -> None:
            self._total = total
            if mask is not None:
                mask, part = np.zeros(self._size, np.float32), mask
                mask[tile.rows, tile.cols] = part
            # Assume that the remaining tiles have as many candidates as this one.
            self._watch(self._before + done, self._before + total * (1 + self._left), mask)

        return watch


def _at_size(ignore: Optional[np.ndarray], size: tuple[int, int]) -> Optional[np.ndarray]:
    """Return ``ignore`` at another size: true where most of a pixel's area is ignored."""
    if ignore is None or ignore.shape == size:
        return ignore
    return resize((ignore > 0).astype(np.float32), size) >= 0.5


class _ClassAverage:
    """Mean class probabilities of all tiles that contain a pixel."""

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
        for total in self._sums:
            total /= self._count
        return self._sums
