"""Average precision as the Cityscapes benchmark defines it (``cityscapesscripts``, instance level).

It differs from COCO's:

* A match needs an IoU above the threshold, not equal to it; thresholds are .50, .55, ... .95.
* Objects below 100 pixels and groups need not be found.  A detection is ignored if it matches one
  of them, or if a larger fraction of it than the threshold lies on them and on void.  (COCO uses
  the fraction on one crowd, and has neither small objects nor void.)
* The area under the precision-recall curve is computed between its points, by central differences,
  instead of from 101 recalls of a monotonic curve.

Caravans and trailers are void here, as in the panoptic benchmark.  In the instance benchmark only
their groups are void, so a detection on a single caravan counts as false.
"""
from __future__ import annotations

from typing import Any

import numpy as np

from adaptis.evaluation.ap import found_things, true_things
from adaptis.evaluation.detections import DETECTION_DTYPE, Detections, pack, unpack
from adaptis.evaluation.overlap import Overlap

THRESHOLDS = np.arange(0.5, 1.0, 0.05)  # not rounded, as in cityscapesscripts
SMALLEST = 100
"""Minimum number of pixels of an object that must be found."""


class CityscapesAP:
    """Streaming accumulator of Cityscapes' AP; it needs as much memory as ``AveragePrecision``."""

    def __init__(self) -> None:
        self.detections = Detections()

    def add_overlap(self, image_id: int, overlap: Overlap) -> None:
        """Add the things of one image; ``image_id`` orders the images."""
        true, true_category, group = true_things(overlap)
        found, category, scores = found_things(overlap)
        area, small = overlap.found_area[found], overlap.truth_area[true] < SMALLEST
        shared = overlap.shared[1:, 1:][np.ix_(true, found)].T
        shared = np.where(category[:, None] == true_category, shared, 0)
        match = shared / (area[:, None] + overlap.truth_area[true] - shared)
        match = match > THRESHOLDS[:, None, None]  # (thresholds, P, G)
        # As in cityscapesscripts, a small group counts twice.
        excused_area = overlap.shared[0, 1:][found] + shared @ (group.astype(int) + small)
        countable = ~group & ~small
        right = _first(match, np.argsort(-scores, kind='stable'))[:, :, countable].any(axis=2)
        again = match[:, :, countable].any(axis=2) & ~right  # the object was already found
        excused = (match.any(axis=2) | (excused_area / area > THRESHOLDS[:, None])) & ~again
        records = np.empty(len(found), dtype=DETECTION_DTYPE)
        records['score'], records['category'] = scores, category
        records['right'], records['excused'] = pack(right), pack(excused & ~right)
        self.detections.add(image_id, records, true_category.tolist(), countable)

    def merge(self, other: CityscapesAP) -> None:
        """Add the images of ``other``, which must be different from these."""
        self.detections.merge(other.detections)

    def result(self) -> dict[str, Any]:
        """Return ``ap`` (mean over thresholds and classes), ``ap50`` and ``per_class``: id -> ap.

        Values are in [0, 1]; NaN if the ground truth has no object that must be found.
        """
        records = self.detections.sorted()
        values = {c: _curve_areas(records[records['category'] == c], objects)
                  for c, objects in sorted(self.detections.objects.items())}
        seen = np.array([v for v in values.values() if not np.isnan(v).any()])
        return {'ap': float(seen.mean()) if seen.size else float('nan'),
                'ap50': float(seen[:, 0].mean()) if seen.size else float('nan'),
                'per_class': {c: float(v.mean()) for c, v in values.items()}}


def _first(match: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Return which detection is the first in ``order`` to match an object, (thresholds, P, G)."""
    first = np.zeros_like(match)
    ordered = match[:, order]
    first[:, order] = ordered & (ordered.cumsum(axis=1) == 1)
    return first


def _curve_areas(records: np.ndarray, objects: int) -> np.ndarray:
    """Return AP of one category at each threshold; NaN without an object."""
    if not objects:
        return np.full(len(THRESHOLDS), np.nan)
    right = unpack(records['right'], len(THRESHOLDS))
    counted = ~unpack(records['excused'], len(THRESHOLDS))
    return np.array([_curve_area(records['score'][c], r[c], objects)
                     for r, c in zip(right, counted)])


def _curve_area(scores: np.ndarray, right: np.ndarray, objects: int) -> float:
    """Return the area under precision over recall, with a point per different score and (0, 1)."""
    order = np.argsort(scores)
    first = np.unique(scores[order], return_index=True)[1]
    hits = right.sum() - np.concatenate([[0], np.cumsum(right[order])])[first]
    precision = np.append(hits / (len(scores) - first), 1.0)
    recall = np.append(hits / objects, 0.0)
    steps = np.convolve(np.concatenate([recall[:1], recall, [0.0]]), [-0.5, 0.0, 0.5], 'valid')
    return float(precision @ steps)
