"""Instance-level IoU of semantic segmentation, iIoU, as the Cityscapes benchmark defines it.

IoU favours large objects, because they have most of the pixels.  So the pixels of each object,
found or missed, are weighted by the average size of objects of its class divided by its own size.
False-positive pixels are not weighted (``cityscapesscripts``, pixel level).  Groups count only as
false positives of other classes.
"""
from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Optional

import numpy as np

from adaptis.evaluation.miou import segment_classes
from adaptis.evaluation.overlap import Overlap
from adaptis.ids import relabel_ids
from adaptis.types import PanopticResult, Taxonomy

CITYSCAPES_SIZES = {24: 3462.4756337644, 25: 3930.4788056518, 26: 12794.0202738185,
                    27: 27855.1264367816, 28: 35732.1511111111, 31: 67583.7075812274,
                    32: 6298.7200839748, 33: 4672.3249222261}
"""Average pixels of an object, by label id: ``avgClassSize`` of ``cityscapesscripts`` 2.3.0."""
# Fractions of an object lie in [0, 1].  They are stored as integer multiples of 2^-53, so their
# sums are exact and do not depend on the order of merging.
_UNIT = 2 ** 53


class InstanceIoU:
    """Streaming accumulator; it takes false positives from the confusion matrix of ``MeanIoU``."""

    def __init__(self, taxonomy: Taxonomy, sizes: Mapping[int, float]):
        self.taxonomy, self._sizes = taxonomy, sizes
        self._found = [0] * len(taxonomy)
        self._objects = np.zeros(len(taxonomy), np.int64)

    def add(self, overlap: Overlap, truth: PanopticResult, predicted: Optional[np.ndarray],
            name: str = 'The image') -> None:
        """Add an image.

        Parameters
        ----------
        overlap : overlaps of ``truth`` with the predicted segments
        predicted : class indices (H, W) of a semantic branch; None = those of the predicted
            segments
        """
        classes = segment_classes(overlap.truth, self.taxonomy)
        if predicted is None:
            same = classes[1:, None] == segment_classes(overlap.found, self.taxonomy)[1:]
            hits = (overlap.shared[1:, 1:] * same).sum(axis=1)
        else:
            rows = relabel_ids(truth.segment_map, [s.id for s in overlap.truth], name)
            hits = np.bincount(rows[classes[rows] == predicted], minlength=len(classes))[1:]
        for k, (segment, area) in enumerate(zip(overlap.truth, overlap.truth_area.tolist())):
            if area and segment.category_id in self._sizes and segment.id not in overlap.crowd:
                self._found[classes[k + 1]] += int(hits[k] / area * _UNIT)
                self._objects[classes[k + 1]] += 1

    def merge(self, other: InstanceIoU) -> None:
        """Add the counts of ``other``."""
        self._found = [a + b for a, b in zip(self._found, other._found)]
        self._objects += other._objects

    def state(self) -> dict[str, np.ndarray]:
        """Return the state as arrays, for a file."""
        return {'found': np.array([str(v) for v in self._found]), 'objects': self._objects.copy()}

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Restore what :meth:`state` returned; ValueError if it has another shape."""
        self._found, self._objects = [int(v) for v in state['found']], state['objects'].copy()
        if not len(self._found) == len(self._objects) == len(self.taxonomy):
            raise ValueError('the state has another number of classes')

    def result(self, false_pixels: np.ndarray) -> dict[str, Any]:
        """Return ``iiou``, the mean over the classes, and ``per_class``: category id -> iIoU.

        ``false_pixels`` : for each class, the number of pixels of other classes that were predicted
            as this class

        A class that does not occur is NaN and excluded from the mean.
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
