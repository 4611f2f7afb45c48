"""Resize samples.  Maps are resized as late as possible, or only where needed.

A map is resized by index: row i of the result is row ``rows[i]`` of the map.  An enlarged map only
repeats pixels, so pixels are counted before enlarging where possible.
"""
from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Optional, Union

import cv2
import numpy as np

from adaptis.types import AnnotatedObjects, Sample

Span = tuple[int, int, int]      # along an axis: first, last (exclusive), new length
Size = tuple[int, int]


@dataclass(frozen=True)
class SampledMap:
    """An id map (..., H, W) that repeats the rows and columns of a smaller one.

    Attributes
    ----------
    pixels : (..., h, w), each of which occurs
    rows, columns : (H,) and (W,) in ascending order: entry (i, j) is ``pixels[rows[i],
        columns[j]]``
    """

    pixels: np.ndarray
    rows: np.ndarray
    columns: np.ndarray

    def looked_up(self, table: np.ndarray) -> SampledMap:
        """Return the map with i replaced by ``table[i]``; other ids become ``table[0]`` or the last
        entry."""
        return dataclasses.replace(self, pixels=np.take(table, self.pixels, mode='clip'))

    def whole(self) -> np.ndarray:
        """Return the map as an array."""
        return self.pixels.take(self.columns, axis=-1).take(self.rows, axis=-2)

    def every(self, stride: int, size: Size, fill: int = 0) -> np.ndarray:
        """Return the entry in the middle of each cell of ``stride`` pixels, as
        ``layers.resize.subsample`` does, of the map padded to ``size`` (H, W) with ``fill``."""
        middle = stride // 2
        sampled = self.pixels.take(self.columns[middle::stride], axis=-1).take(
            self.rows[middle::stride], axis=-2)
        padded = np.full((*sampled.shape[:-2], *(len(range(middle, s, stride)) for s in size)),
                         fill, sampled.dtype)
        padded[..., :sampled.shape[-2], :sampled.shape[-1]] = sampled
        return padded

    def write(self, out: np.ndarray, fill: int = 0) -> None:
        """Write a map (H, W) into the top left of ``out``, and ``fill`` everywhere else."""
        height, width = self.pixels.shape
        framed = np.full((height, width + 1), fill, out.dtype)
        framed[:, :-1] = self.pixels
        beyond = np.full(out.shape[1] - len(self.columns), width)
        wide = framed.take(np.concatenate([self.columns, beyond]), axis=1)
        np.take(wide, self.rows, axis=0, out=out[:len(self.rows)], mode='clip')
        out[len(self.rows):] = fill


@dataclass(frozen=True)
class ResizedSample:
    """A sample at another size, with the attributes of ``Sample``; maps are resized when read.

    Attributes
    ----------
    image : uint8 (H, W, 3), at the new size
    source : the original sample
    rows, columns : the row and column in the source's maps for each new one, in ascending order
    """

    image: np.ndarray
    source: Sample
    rows: np.ndarray
    columns: np.ndarray

    @functools.cached_property
    def instances(self) -> np.ndarray:
        """See ``Sample``."""
        return self.sampled(self.source.instances).whole()

    @functools.cached_property
    def semantic(self) -> np.ndarray:
        """See ``Sample``."""
        return self.sampled(self.source.semantic).whole()

    @functools.cached_property
    def objects(self) -> Optional[AnnotatedObjects]:
        """See ``Sample``."""
        objects = self.source.objects
        return None if objects is None else objects.moved(self.sampled(objects.layers).whole())

    @property
    def classes(self) -> Mapping[int, int]:
        """See ``Sample``."""
        return self.source.classes

    @property
    def ignored(self) -> frozenset[int]:
        """See ``Sample``."""
        return self.source.ignored

    @property
    def name(self) -> str:
        """See ``Sample``."""
        return self.source.name

    def whole(self) -> Sample:
        """Return the sample with all its maps."""
        return dataclasses.replace(self.source, image=self.image, instances=self.instances,
                                   semantic=self.semantic, objects=self.objects)

    def sampled(self, array: np.ndarray) -> SampledMap:
        """Return a map (..., h, w) of the source at the new size."""
        for axis, (kept, _) in ((-2, self._distinct_rows), (-1, self._distinct_columns)):
            if len(kept) < array.shape[axis]:
                array = array.take(kept, axis=axis)
        return SampledMap(array, self._distinct_rows[1], self._distinct_columns[1])

    @functools.cached_property
    def _distinct_rows(self) -> tuple[np.ndarray, np.ndarray]:
        return np.unique(self.rows, return_inverse=True)

    @functools.cached_property
    def _distinct_columns(self) -> tuple[np.ndarray, np.ndarray]:
        return np.unique(self.columns, return_inverse=True)


def resize_sample(sample: Sample, size: Size) -> Sample:
    """Return a sample at another height and width."""
    return sample if sample.image.shape[:2] == size else resize_lazily(sample, size).whole()


def resize_lazily(sample: Union[Sample, ResizedSample], size: Optional[Size] = None
                  ) -> ResizedSample:
    """Return a sample at another height and width, by default its own, with unresized maps.

    A sample that is already resized must keep its size.
    """
    if isinstance(sample, ResizedSample):
        return sample
    height, width = sample.image.shape[:2]
    rows, columns = (0, height, (size or (height, 0))[0]), (0, width, (size or (0, width))[1])
    return ResizedSample(resize_window(sample.image, rows, columns), sample,
                         _nearest(*rows), _nearest(*columns))


def resize_window(image: np.ndarray, rows: Span, cols: Span) -> np.ndarray:
    """Return a window of an image at another size."""
    part = image[rows[0]:rows[1], cols[0]:cols[1]]
    if part.shape[:2] == (rows[2], cols[2]):
        return part
    shrinks = rows[2] * cols[2] < part.shape[0] * part.shape[1]
    return cv2.resize(part, (cols[2], rows[2]),
                      interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def resize_ids(ids: np.ndarray, rows: Span, cols: Span) -> np.ndarray:
    """Return a window of a map (h, w) at another size: the ids at the centres of the new pixels.

    OpenCV's INTER_NEAREST is up to half a pixel off its other methods.
    """
    # Columns first, because there are fewer rows to take them from if the map grows.
    return ids[rows[0]:rows[1]].take(_nearest(*cols), axis=1).take(
        _nearest(0, rows[1] - rows[0], rows[2]), axis=0)


def _nearest(first: int, last: int, count: int) -> np.ndarray:
    """Return the pixels that contain the centres of ``count`` new ones."""
    centers = (np.arange(count) + 0.5) * ((last - first) / count)
    return first + np.minimum(centers.astype(np.intp), last - first - 1)
