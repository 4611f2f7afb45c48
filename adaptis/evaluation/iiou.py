"""Instance-level IoU of semantic segmentation, iIoU, as the Cityscapes benchmark defines it.

IoU favours large objects, as their pixels count most.  So the pixels of each object, found and
missed, are weighted by how large objects of its class are on average over how large it is; false
ones are not (``cityscapesscripts``, pixel level).  Groups count as false pixels of other classes
alone.
"""
from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Optional

import numpy as np

from adaptis.evaluation.miou import classes_of
from adaptis.evaluation.overlap import Overlap
from adaptis.ids import compact
from adaptis.types import PanopticResult, Taxonomy

CITYSCAPES_SIZES = {24: 3462.4756337644, 25: 3930.4788056518, 26: 12794.0202738185,
                    27: 27855.1264367816, 28: 35732.1511111111, 31: 67583.7075812274,
                    32: 6298.7200839748, 33: 4672.3249222261}
"""Pixels of an object on average, by label id: ``avgClassSize`` of ``cityscapesscripts`` 2.3.0."""
# Shares of an object lie in [0, 1]: as whole multiples of 2^-53 their sums are exact, and merging
# parts in any order gives the same last bit.
_UNIT = 2 ** 53


class InstanceIoU:
    """Streaming accumulator; false pixels are those of the confusion matrix of ``MeanIoU``."""

    def __init__(self, taxonomy: Taxonomy, sizes: Mapping[int, float]):
        self.taxonomy, self._sizes = taxonomy, sizes
        self._found = [0] * len(taxonomy)
        self._objects = np.zeros(len(taxonomy), np.int64)

    def add(self, overlap: Overlap, truth: PanopticResult, said: Optional[np.ndarray],
            name: str = 'The image') -> None:
        """Count an image.

        Parameters
        ----------
        overlap : of ``truth`` and what was found
        said : class indices (H, W) of a semantic branch; None = those of what was found
        """
        classes = classes_of(overlap.truth, self.taxonomy)
        if said is None:
            same = classes[1:, None] == classes_of(overlap.found, self.taxonomy)[1:]
            hits = (overlap.shared[1:, 1:] * same).sum(axis=1)
        else:
            rows = compact(truth.segment_map, [s.id for s in overlap.truth], name)
            hits = np.bincount(rows[classes[rows] == said], minlength=len(classes))[1:]
        for k, (segment, area) in enumerate(zip(overlap.truth, overlap.truth_area.tolist())):
            if area and segment.category_id in self._sizes and segment.id not in overlap.crowd:
                self._found[classes[k + 1]] += int(hits[k] / area * _UNIT)
                self._objects[classes[k + 1]] += 1

    def merge(self, other: InstanceIoU) -> None:
        """Add the counts of ``other``."""
        self._found = [a + b for a, b in zip(self._found, other._found)]
        self._objects += other._objects

    def state(self) -> dict[str, np.ndarray]:
        """Everything as arrays, for a file."""
        return {'found': np.array([str(v) for v in self._found]), 'objects': self._objects.copy()}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Take over what :meth:`state` gave; ValueError if it is of another shape."""
        self._found, self._objects = [int(v) for v in state['found']], state['objects'].copy()
        if not len(self._found) == len(self._objects) == len(self.taxonomy):
            raise ValueError('shares of objects of another number of classes')

    def result(self, false_pixels: np.ndarray) -> dict[str, Any]:
        """``iiou``, the mean over the classes that occur, and ``per_class``: category id -> iIoU.

        ``false_pixels`` : of each class, those labelled otherwise.  NaN where nothing was counted.
        """
        values = {}
        for index, category in enumerate(self.taxonomy.categories):
            if category.id in self._sizes:
                size = self._sizes[category.id]
                union = self._objects[index] * size + float(false_pixels[index])
                values[category.id] = (self._found[index] / _UNIT * size / union if union
                                       else float('nan'))
        seen = [v for v in values.values() if not math.isnan(v)]
        return {'iiou': sum(seen) / len(seen) if seen else float('nan'), 'per_class': values}
