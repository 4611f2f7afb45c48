"""Turn annotated images into the batches that a detector with a semantic branch learns from.

Everything that does not depend on the network's outputs is computed here with NumPy only, so that
data workers can do it.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Optional, Union

import cv2
import numpy as np

from adaptis.data.instances import front
from adaptis.data.resize import ResizedSample, SampledMap, resize_lazily
from adaptis.types import Sample, Taxonomy
from panoptic_baselines.classes import IGNORED, class_index_to_semantic, class_index_to_thing

Batch = dict[str, np.ndarray]
Size = tuple[int, int]

MULTIPLE = 32


class LearntObjects(NamedTuple):
    """The G objects of an image that a detector learns from.

    ``boxes`` float32 (G, 4) around the masks; ``centers`` float32 (G, 2), the mean (x, y) of their
    pixels; ``classes`` int64 (G,), where 0 is the first thing class.  Object g has the value g + 1
    in two maps: in ``instances`` (H, W), overlapping objects hide each other; in ``layers``
    (L, H, W), every object is complete.  ``layers`` is None if objects cannot overlap.
    """

    boxes: np.ndarray
    centers: np.ndarray
    classes: np.ndarray
    instances: SampledMap
    layers: Optional[SampledMap]


@dataclass(frozen=True)
class ObjectTargets:
    """Makes batches of samples; picklable, and does not import MXNet.

    A batch holds B images with at most G objects each.  Images are padded on the right and at the
    bottom to the size of the largest one, and then to a multiple of 32.

    image           uint8 (B, 3, H, W), RGB, padded with 0 (``sizes`` says where padding begins)
    sizes           float32 (B, 2), height and width before padding
    semantic        int16 (B, H, W), classes of the semantic branch, -1 = ignored
    boxes           float32 (B, G, 4), around the masks
    classes         int64 (B, G), 0 = the first thing class, -1 = no object
    instances       int16 (B, H, W), only with ``with_maps``: g + 1 for object g, else 0; where
                    objects overlap, the smallest one counts
    layers          int16 (B, L, H, W), only with ``with_maps`` and if objects may overlap: the
                    same, with each object complete in one layer

    Subclasses override ``_extra_targets`` to add what their losses need.

    Attributes
    ----------
    taxonomy : the classes of the data
    merge_things : whether the semantic branch has a single class for all things (its first class)
    instances : whether a batch contains the arrays listed after ``semantic``
    with_maps : whether a batch contains the last two arrays
    """

    taxonomy: Taxonomy
    merge_things: bool = True
    instances: bool = True
    with_maps: bool = True

    def __call__(self, samples: Sequence[Union[Sample, ResizedSample]], rngs: Sequence[Any]
                 ) -> Batch:
        """Return the batch of ``samples``; ``rngs`` are their NumPy generators."""
        views = [resize_lazily(sample) for sample in samples]
        sizes = np.array([view.image.shape[:2] for view in views])
        size = tuple(_padded(int(length)) for length in sizes.max(axis=0))
        batch = {'image': np.zeros((len(views), 3, *size), np.uint8),
                 'sizes': sizes.astype(np.float32),
                 'semantic': np.empty((len(views), *size), np.int16)}
        for view, image, semantic in zip(views, batch['image'], batch['semantic']):
            _write_image(view.image, image)
            self._labels(view).write(semantic, IGNORED)
        if self.instances:
            objects = [self._objects(view) for view in views]
            batch.update(_stack([
                {'boxes': o.boxes, 'classes': o.classes, **self._extra_targets(o, size, rng)}
                for o, rng in zip(objects, rngs)], self.object_keys))
            batch.update(_whole_maps(objects, size) if self.with_maps else {})
        return batch

    @property
    def object_keys(self) -> tuple[str, ...]:
        """Names of the arrays with one row per object; the number of rows varies by image."""
        return 'boxes', 'classes'

    def _extra_targets(self, objects: LearntObjects, size: Size, rng: Any) -> Batch:
        """Return further arrays for an image of padded ``size`` with these objects."""
        return {}

    def _labels(self, view: ResizedSample) -> SampledMap:
        """Return the label map of the semantic branch."""
        classes = np.arange(-1, len(self.taxonomy), dtype=np.int16)
        labels = class_index_to_semantic(classes, self.taxonomy, self.merge_things)
        sampled = view.sampled(view.source.semantic)
        return replace(sampled, pixels=np.roll(labels, -1)[sampled.pixels])   # -1 is the last

    def _objects(self, view: ResizedSample) -> LearntObjects:
        source = view.source.objects
        if source is None:
            return self._segments(view)
        layers = view.sampled(source.layers)
        found = measure_objects(layers, len(source))
        kept = np.flatnonzero((found.pixels > 0) & ~source.crowd)
        layers = layers.looked_up(_numbers(kept + 1, len(source)))
        classes = class_index_to_thing(source.classes[kept], self.taxonomy).astype(np.int64)
        instances = replace(layers, pixels=front(layers.pixels, found.pixels[kept]))
        return LearntObjects(found.boxes[kept], found.centers[kept], classes, instances, layers)

    def _segments(self, view: ResizedSample) -> LearntObjects:
        """Return the segments of a panoptic annotation, without ignored segments and stuff."""
        ids = [int(i) for i, index in sorted(view.classes.items())
               if i and i not in view.ignored and index >= self.taxonomy.num_stuff]
        largest = max(ids, default=0)
        instances = view.sampled(view.source.instances).looked_up(_numbers(ids, largest + 1))
        found = measure_objects(instances, len(ids))
        kept = np.flatnonzero(found.pixels)
        if len(kept) < len(ids):
            instances = instances.looked_up(_numbers(kept + 1, len(ids)))
        classes = class_index_to_thing([view.classes[ids[k]] for k in kept], self.taxonomy)
        return LearntObjects(found.boxes[kept], found.centers[kept], classes.astype(np.int64),
                             instances, None)


class ObjectMeasures(NamedTuple):
    """Measurements of objects: ``pixels`` int64 (G,), and ``boxes`` and ``centers`` as in
    ``LearntObjects``.  The box of an object without pixels has no meaning."""

    pixels: np.ndarray
    boxes: np.ndarray
    centers: np.ndarray


def measure_objects(ids: SampledMap, count: int) -> ObjectMeasures:
    """Measure objects 1, ..., ``count`` of a map (H, W) or of layers (L, H, W).

    Rows consist of a few runs of the same id, so runs are summed instead of pixels.  All sums are
    whole numbers below 2^53, so their order does not matter.
    """
    numbers, rows, begins, ends = _runs(ids.pixels)
    height, width = ids.pixels.shape[-2:]
    tall, down = _sums(ids.rows, height)
    wide, along = (np.append(0, np.cumsum(s)) for s in _sums(ids.columns, width))
    pixels = np.bincount(numbers, tall[rows] * (wide[ends] - wide[begins]), count + 1)[1:]
    sums = [np.bincount(numbers, weights, count + 1)[1:] for weights in (
        tall[rows] * (along[ends] - along[begins]), down[rows] * (wide[ends] - wide[begins]))]
    first, last = np.full((2, count + 1), max(height, width)), np.zeros((2, count + 1), np.intp)
    for axis, (low, high) in enumerate(((begins, ends - 1), (rows, rows))):
        np.minimum.at(first[axis], numbers, low)
        np.maximum.at(last[axis], numbers, high)
    boxes = [np.searchsorted(places, found[axis, 1:], side)
             for found, side in ((first, 'left'), (last, 'right'))
             for axis, places in enumerate((ids.columns, ids.rows))]
    return ObjectMeasures(
        pixels.astype(np.int64), np.stack(boxes, axis=1).astype(np.float32),
        (np.stack(sums, axis=1) / np.maximum(pixels, 1)[:, None]).astype(np.float32))


def _runs(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return id, row, first column and last column + 1 of each non-zero run in the rows of
    (..., h, w)."""
    height, width = pixels.shape[-2:]
    changes = np.ones(pixels.shape, bool)
    np.not_equal(pixels[..., 1:], pixels[..., :-1], out=changes[..., 1:])
    begins = np.flatnonzero(changes)
    lengths = np.diff(begins, append=pixels.size)
    numbers = pixels.ravel()[begins]
    kept = numbers > 0
    rows, columns = np.divmod(begins[kept], width)
    return numbers[kept], rows % height, columns, columns + lengths[kept]


def _sums(places: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Return how often each of 0, ..., ``length`` - 1 occurs in ``places``, and the sum of the
    positions where it does."""
    return np.bincount(places, minlength=length), np.bincount(
        places, np.arange(len(places)), length)


def level_shapes(size: Size, strides: Sequence[int]) -> list[tuple[int, int]]:
    """Return the map size (h, w) at each stride, for an image of padded ``size`` (H, W)."""
    return [(-(-size[0] // stride), -(-size[1] // stride)) for stride in strides]


def pad_rows(rows: np.ndarray, count: int, value: float) -> np.ndarray:
    """Pad ``rows`` with rows of ``value``, so that there are ``count`` rows."""
    filled = np.full((count, *rows.shape[1:]), value, rows.dtype)
    filled[:len(rows)] = rows
    return filled


def _numbers(ids: Sequence[int], largest: int) -> np.ndarray:
    """Return a lookup table for ids up to ``largest``: the position in ``ids`` from 1, else 0."""
    table = np.zeros(largest + 2, np.int16 if len(ids) < 2 ** 15 else np.int32)
    table[ids] = np.arange(1, len(ids) + 1)
    return table


def _stack(items: list[Batch], object_keys: Sequence[str]) -> Batch:
    """Stack the arrays of images; those of objects get the same length of at least 1."""
    stacked = {}
    for key in items[0]:
        arrays = [item[key] for item in items]
        if key in object_keys:   # added rows have the class -1
            count = max([1, *map(len, arrays)])
            arrays = [pad_rows(a, count, IGNORED if key == 'classes' else 0) for a in arrays]
        stacked[key] = np.stack(arrays)
    return stacked


def _whole_maps(objects: Sequence[LearntObjects], size: Size) -> Batch:
    """Return 'instances' and, if objects may overlap, 'layers' of a batch."""
    kind = np.result_type(*(o.instances.pixels for o in objects))
    batch = {'instances': np.empty((len(objects), *size), kind)}
    for each, out in zip(objects, batch['instances']):
        each.instances.write(out)
    if objects[0].layers is not None:
        depth = max(len(o.layers.pixels) for o in objects)
        batch['layers'] = np.zeros((len(objects), depth, *size), kind)
        for each, out in zip(objects, batch['layers']):
            for layer, part in zip(each.layers.pixels, out):
                replace(each.layers, pixels=layer).write(part)
    return batch


def _write_image(image: np.ndarray, out: np.ndarray) -> None:
    """Write (h, w, 3) into the top left of (3, H, W)."""
    for channel, part in enumerate(out):
        part = part[:image.shape[0], :image.shape[1]]
        written = cv2.extractChannel(image, channel, part)
        if not np.shares_memory(written, part):
            part[:] = written


def _padded(length: int) -> int:
    return -(-length // MULTIPLE) * MULTIPLE
