"""Turn annotated images into the batches that a detector with a semantic branch learns from.

Everything that does not depend on the network's outputs is computed here in NumPy alone, so that
the data workers can do it.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from adaptis.data.instances import front
from adaptis.types import AnnotatedObjects, Sample, Taxonomy
from panoptic_baselines.classes import IGNORED, class_index_to_semantic, class_index_to_thing

Batch = dict[str, np.ndarray]

MULTIPLE = 32


@dataclass(frozen=True)
class ObjectTargets:
    """Makes batches of samples; picklable, imports no MXNet.

    A batch holds B images with at most G objects each.  Images are padded at the right and at the
    bottom to the size of the largest one, and then to a multiple of 32.

    image           uint8 (B, 3, H, W), RGB, padded with 0 (``sizes`` tells where padding begins)
    sizes           float32 (B, 2), height and width before padding
    semantic        int16 (B, H, W), classes of the semantic branch, -1 = ignored
    boxes           float32 (B, G, 4), around the masks
    classes         int64 (B, G), from 0 for the first thing; -1 = no object
    instances       int32 (B, H, W), object g as g + 1, else 0; where objects overlap,
                    the smallest one
    layers          int32 (B, L, H, W), if objects may overlap and ``with_layers`` is set:
                    the same, with each object whole in one layer

    Subclasses override ``_extra_targets`` to add what their losses need.

    Attributes
    ----------
    taxonomy : the classes of the data
    merge_things : the semantic branch has one class for all things, its first class
    instances : whether a batch holds the arrays after ``semantic``
    with_layers : whether the losses use the masks of objects that may overlap
    """

    taxonomy: Taxonomy
    merge_things: bool = True
    instances: bool = True
    with_layers: bool = False

    def __call__(self, samples: Sequence[Sample], rngs: Sequence[Any]) -> Batch:
        """Return the batch of some samples; ``rngs`` are their NumPy generators."""
        height, width = (_padded(max(s.image.shape[i] for s in samples)) for i in (0, 1))
        items = [self._item(sample, rng, (height, width)) for sample, rng in zip(samples, rngs)]
        return {key: np.stack(_same_length([item[key] for item in items], key, self.object_keys))
                for key in items[0]}

    @property
    def object_keys(self) -> tuple[str, ...]:
        """The arrays with one row per object or layer, whose number differs between images."""
        return 'boxes', 'classes', 'layers'

    def _item(self, sample: Sample, rng: Any, size: tuple[int, int]) -> Batch:
        labels = class_index_to_semantic(sample.semantic.astype(np.int16), self.taxonomy,
                                         self.merge_things)
        item = {'image': _pad(sample.image.transpose(2, 0, 1), size, 0),
                'sizes': np.array(sample.image.shape[:2], np.float32),
                'semantic': _pad(labels, size, IGNORED)}
        if self.instances:
            if sample.objects is None:
                boxes, classes, instances = self._objects(sample)
            else:
                boxes, classes, instances, layers = self._overlapping(sample.objects)
                item['layers'] = _pad(layers, size, 0)
            item.update(boxes=boxes, classes=classes, instances=_pad(instances, size, 0))
            item.update(self._extra_targets(item, size, rng))
            if not self.with_layers:
                item.pop('layers', None)
        return item

    def _extra_targets(self, item: Batch, size: tuple[int, int], rng: Any) -> Batch:
        """Return more arrays of an image of padded ``size``, computed from those in ``item``."""
        return {}

    def _objects(self, sample: Sample) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return boxes (G, 4), classes (G,) and the map of objects 1, ..., G; ignored ones go."""
        ids = np.unique(sample.instances)
        kept = [int(i) for i in ids if i and i not in sample.ignored and i in sample.classes
                and sample.classes[i] >= self.taxonomy.num_stuff]
        table = np.zeros(len(ids), np.int32)
        table[np.searchsorted(ids, kept)] = np.arange(len(kept)) + 1
        instances = table[np.searchsorted(ids, sample.instances)]
        classes = class_index_to_thing([sample.classes[i] for i in kept], self.taxonomy)
        return boxes_from_id_map(instances, len(kept)), classes.astype(np.int64), instances

    def _overlapping(self, objects: AnnotatedObjects
                     ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return the same for objects that may overlap, and their layers (L, H, W)."""
        pixels = np.bincount(objects.layers.ravel(), minlength=len(objects) + 1)[1:]
        kept = np.flatnonzero((pixels > 0) & ~objects.crowd)
        table = np.zeros(len(objects) + 1, np.int32)
        table[kept + 1] = np.arange(len(kept)) + 1
        layers = table[objects.layers]
        classes = class_index_to_thing(objects.classes[kept], self.taxonomy).astype(np.int64)
        boxes = boxes_from_id_map(layers, len(kept))
        return boxes, classes, front(layers, pixels[kept]), layers


def boxes_from_id_map(instances: np.ndarray, count: int) -> np.ndarray:
    """Return float32 (count, 4): the boxes around objects 1, ..., ``count``.

    ``instances`` is an id map (H, W), or its layers (L, H, W).  Each of these objects must have
    a pixel.
    """
    boxes = np.empty((count, 4), np.float32)
    for axis, column in ((-1, 0), (-2, 1)):
        length = instances.shape[axis]
        present = np.zeros((count + 1, length), bool)
        other = np.arange(length)[None, :] if axis == -1 else np.arange(length)[:, None]
        present[instances, np.broadcast_to(other, instances.shape)] = True
        boxes[:, column] = present[1:].argmax(axis=1)
        boxes[:, column + 2] = length - present[1:, ::-1].argmax(axis=1)
    return boxes


def level_shapes(size: tuple[int, int], strides: Sequence[int]) -> list[tuple[int, int]]:
    """Return the (h, w) of the maps of an image of padded ``size`` (H, W), one per stride."""
    return [(-(-size[0] // stride), -(-size[1] // stride)) for stride in strides]


def pad_rows(rows: np.ndarray, count: int, value: float) -> np.ndarray:
    """Return ``rows`` followed by rows of ``value``, so that there are ``count`` rows."""
    filled = np.full((count, *rows.shape[1:]), value, rows.dtype)
    filled[:len(rows)] = rows
    return filled


def _same_length(arrays: list[np.ndarray], key: str, object_keys: Sequence[str]
                 ) -> list[np.ndarray]:
    """Pad the arrays of objects to one length of at least 1; added rows have the class -1."""
    if key not in object_keys:
        return arrays
    count = max([1, *map(len, arrays)])
    return [pad_rows(a, count, IGNORED if key == 'classes' else 0) for a in arrays]


def _padded(length: int) -> int:
    return -(-length // MULTIPLE) * MULTIPLE


def _pad(array: np.ndarray, size: tuple[int, int], value: int) -> np.ndarray:
    """Put an array (..., h, w) at the top left of one (..., H, W) that is filled with ``value``."""
    padded = np.full((*array.shape[:-2], *size), value, array.dtype)
    padded[..., :array.shape[-2], :array.shape[-1]] = array
    return padded
