"""Annotated images -> what a detector with a semantic branch learns from, in NumPy alone.

All that does not depend on what the network says is made here, so that the data workers can do it.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from adaptis.data.instances import front
from adaptis.types import AnnotatedObjects, Sample, Taxonomy
from panoptic_baselines.classes import classes_to_labels, thing_class
from panoptic_baselines.rcnn.anchors import STRIDES, pyramid_anchors
from panoptic_baselines.rcnn.sampling import AnchorTargets, sample_anchors

Batch = dict[str, np.ndarray]

IGNORE = -1
MULTIPLE = 32


@dataclass(frozen=True)
class ObjectTargets:
    """Makes batches of samples; picklable, imports no MXNet.

    A batch holds, for B images padded at the right and at the bottom to the largest of them and
    then to a multiple of 32, with at most G objects each:

    image           uint8 (B, 3, H, W), RGB, padding 0 (``sizes`` says where it begins)
    sizes           float32 (B, 2), height and width before padding
    semantic        int16 (B, H, W), classes of the semantic branch, -1 = ignored
    boxes           float32 (B, G, 4), around the masks
    classes         int64 (B, G), from 0 for the first thing; -1 = no object
    instances       int32 (B, H, W), object g as g + 1, else 0; of several the smallest one
    layers          int32 (B, L, H, W), if objects may overlap and ``with_layers``: the same, each
                    object whole in one layer

    Subclasses add what their losses need of the annotation, by ``_extra``.

    Attributes
    ----------
    taxonomy : of the data
    merge_things : the semantic branch knows one class for all things, its first
    instances : without them a batch ends with ``semantic``
    with_layers : whether the losses look at the masks of objects that may overlap
    """

    taxonomy: Taxonomy
    merge_things: bool = True
    instances: bool = True
    with_layers: bool = False

    def __call__(self, samples: Sequence[Sample], rngs: Sequence[Any]) -> Batch:
        """The batch of some samples; ``rngs`` are their NumPy generators."""
        height, width = (_padded(max(s.image.shape[i] for s in samples)) for i in (0, 1))
        items = [self._item(sample, rng, (height, width)) for sample, rng in zip(samples, rngs)]
        return {key: np.stack(_same_length([item[key] for item in items], key, self.per_object))
                for key in items[0]}

    @property
    def per_object(self) -> tuple[str, ...]:
        """Arrays with a row for each object, of which images have different numbers."""
        return 'boxes', 'classes', 'layers'

    def _item(self, sample: Sample, rng: Any, size: tuple[int, int]) -> Batch:
        labels = classes_to_labels(sample.semantic.astype(np.int16), self.taxonomy,
                                   self.merge_things)
        item = {'image': _pad(sample.image.transpose(2, 0, 1), size, 0),
                'sizes': np.array(sample.image.shape[:2], np.float32),
                'semantic': _pad(labels, size, IGNORE)}
        if self.instances:
            if sample.objects is None:
                boxes, classes, instances = self._objects(sample)
            else:
                boxes, classes, instances, layers = self._overlapping(sample.objects)
                item['layers'] = _pad(layers, size, 0)
            item.update(boxes=boxes, classes=classes, instances=_pad(instances, size, 0))
            item.update(self._extra(item, size, rng))
            if not self.with_layers:
                item.pop('layers', None)
        return item

    def _extra(self, item: Batch, size: tuple[int, int], rng: Any) -> Batch:
        """More arrays of an image of padded ``size``, made of those that ``item`` has."""
        return {}

    def _objects(self, sample: Sample) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Boxes (G, 4), classes (G,) and the map of objects 1, ..., G without the ignored ones."""
        ids = np.unique(sample.instances)
        kept = [int(i) for i in ids if i and i not in sample.ignored and i in sample.classes
                and sample.classes[i] >= self.taxonomy.num_stuff]
        table = np.zeros(len(ids), np.int32)
        table[np.searchsorted(ids, kept)] = np.arange(len(kept)) + 1
        instances = table[np.searchsorted(ids, sample.instances)]
        classes = thing_class([sample.classes[i] for i in kept], self.taxonomy).astype(np.int64)
        return boxes_of(instances, len(kept)), classes, instances

    def _overlapping(self, objects: AnnotatedObjects
                     ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """The same of objects that may overlap, and their layers (L, H, W)."""
        pixels = np.bincount(objects.layers.ravel(), minlength=len(objects) + 1)[1:]
        kept = np.flatnonzero((pixels > 0) & ~objects.crowd)
        table = np.zeros(len(objects) + 1, np.int32)
        table[kept + 1] = np.arange(len(kept)) + 1
        layers = table[objects.layers]
        classes = thing_class(objects.classes[kept], self.taxonomy).astype(np.int64)
        return boxes_of(layers, len(kept)), classes, front(layers, pixels[kept]), layers


@dataclass(frozen=True)
class DetectionTargets(ObjectTargets):
    """Batches for a region proposal network, which hold besides:

    anchor_index    int64 (B, anchors): the sampled anchors, of all levels one after another
    anchor_labels   float32 (B, anchors): 1, 0 or -1 = fewer were found
    anchor_deltas   float32 (B, anchors, 4): from the positive ones to their objects

    Attributes
    ----------
    anchor_sizes : of the network
    anchors : how many are sampled in an image
    """

    with_layers: bool = True
    anchor_sizes: tuple[float, ...] = (32, 64, 128, 256, 512)
    anchors: int = 256

    def _extra(self, item: Batch, size: tuple[int, int], rng: Any) -> Batch:
        shapes = [(-(-size[0] // stride), -(-size[1] // stride)) for stride in STRIDES]
        anchors = np.concatenate(pyramid_anchors(shapes, self.anchor_sizes))
        return sparse_anchors(sample_anchors(anchors, item['boxes'], rng, self.anchors),
                              self.anchors)


def boxes_of(instances: np.ndarray, count: int) -> np.ndarray:
    """float32 (count, 4): the boxes around objects 1, ..., ``count``, all present, of an id map
    (H, W), or of layers (L, H, W)."""
    boxes = np.empty((count, 4), np.float32)
    for axis, column in ((-1, 0), (-2, 1)):
        length = instances.shape[axis]
        present = np.zeros((count + 1, length), bool)
        other = np.arange(length)[None, :] if axis == -1 else np.arange(length)[:, None]
        present[instances, np.broadcast_to(other, instances.shape)] = True
        boxes[:, column] = present[1:].argmax(axis=1)
        boxes[:, column + 2] = length - present[1:, ::-1].argmax(axis=1)
    return boxes


def sparse_anchors(targets: AnchorTargets, count: int) -> Batch:
    """The sampled anchors of an image alone, filled up to ``count``."""
    index = np.flatnonzero(targets.labels >= 0)
    return {'anchor_index': _fill(index, count, 0),
            'anchor_labels': _fill(targets.labels[index], count, IGNORE),
            'anchor_deltas': _fill(targets.deltas[index], count, 0)}


def _fill(rows: np.ndarray, count: int, value: float) -> np.ndarray:
    filled = np.full((count, *rows.shape[1:]), value, rows.dtype)
    filled[:len(rows)] = rows
    return filled


def _same_length(arrays: list[np.ndarray], key: str, per_object: Sequence[str]
                 ) -> list[np.ndarray]:
    """Objects differ in number: at least one row for each, without a class where there is none."""
    if key not in per_object:
        return arrays
    count = max([1, *map(len, arrays)])
    return [_fill(a, count, IGNORE if key == 'classes' else 0) for a in arrays]


def _padded(length: int) -> int:
    return -(-length // MULTIPLE) * MULTIPLE


def _pad(array: np.ndarray, size: tuple[int, int], value: int) -> np.ndarray:
    """(..., h, w) at the top left of (..., H, W)."""
    padded = np.full((*array.shape[:-2], *size), value, array.dtype)
    padded[..., :array.shape[-2], :array.shape[-1]] = array
    return padded
