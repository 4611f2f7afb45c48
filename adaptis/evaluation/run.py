"""All measures of a system in one pass over its results."""
from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, Optional

import numpy as np

from adaptis.evaluation.ap import AveragePrecision, match_counts
from adaptis.evaluation.coco import PanopticFolder
from adaptis.evaluation.miou import MeanIoU, semantic_map
from adaptis.evaluation.pq import PanopticQuality, pairs
from adaptis.evaluation.segments import sample_truth
from adaptis.types import PanopticResult, Sample, Taxonomy


class Evaluator:
    """Streaming accumulator of every measure; memory grows by the RLE of the objects alone.

    Parameters
    ----------
    taxonomy : categories of truth and results
    """

    def __init__(self, taxonomy: Taxonomy):
        self.taxonomy = taxonomy
        self.quality = PanopticQuality(taxonomy)
        self.precision = AveragePrecision(class_agnostic=True)
        # With one class of things AP per class is the class-agnostic AP.
        self.precision_by_class = (AveragePrecision(class_agnostic=False)
                                   if taxonomy.num_things > 1 else None)
        self.semantic = MeanIoU(len(taxonomy))
        self.objects = np.zeros(3, dtype=np.int64)

    def add_sample(self, image_id: int, sample: Sample, result: PanopticResult) -> None:
        """Count one annotated image and its result."""
        truth, crowd = sample_truth(sample, self.taxonomy)
        self.add(image_id, truth, result, crowd, sample.semantic, sample.name or 'The sample')

    def add(self, image_id: int, truth: PanopticResult, result: PanopticResult,
            crowd: Collection[int] = (), semantic: Optional[np.ndarray] = None,
            name: str = 'The image') -> None:
        """Count one image.

        Parameters
        ----------
        image_id : orders the images, so that parts merge into exactly the whole
        crowd : ids of true segments that are crowds
        semantic : true class indices (H, W), -1 = ignore; by default those of the segments

        Raises
        ------
        AdaptisError
            If sizes differ, or a segment or category is unknown.
        """
        self.quality.add(truth.segment_map, truth.segments, result.segment_map, result.segments,
                         crowd, name)
        for precision in self._precisions():
            precision.add(image_id, truth, result, crowd)
        if semantic is None:
            semantic = semantic_map(truth, self.taxonomy)
        self.semantic.add(semantic, semantic_map(result, self.taxonomy), name)
        self.objects += match_counts(truth, result, crowd=crowd)

    def merge(self, other: Evaluator) -> None:
        """Add the images of ``other``; the result is exactly that of one pass over all."""
        self.quality.merge(other.quality)
        for mine, theirs in zip(self._precisions(), other._precisions()):
            mine.merge(theirs)
        self.semantic.merge(other.semantic)
        self.objects += other.objects

    def result(self) -> dict[str, Any]:
        """All measures, in [0, 1]; NaN where there was nothing to measure.

        Returns
        -------
        dict
            ``images``; ``pq`` (see ``PanopticQuality.result``); ``ap`` class-agnostic and, with
            several classes of things, ``ap_by_class`` (``AveragePrecision.result``); ``miou``
            (``MeanIoU.result``) of the panoptic result read as a semantic one; ``objects``:
            ``found missed false`` at IoU 0.5.
        """
        result = {'images': self.quality.images, 'pq': self.quality.result(),
                  'ap': self.precision.result(), 'miou': self.semantic.result(),
                  'objects': dict(zip(('found', 'missed', 'false'), self.objects.tolist()))}
        if self.precision_by_class is not None:
            result['ap_by_class'] = self.precision_by_class.result()
        return result

    def _precisions(self) -> list[AveragePrecision]:
        return [p for p in (self.precision, self.precision_by_class) if p is not None]


def evaluate(results: Iterable[tuple[Sample, PanopticResult]],
             taxonomy: Taxonomy) -> dict[str, Any]:
    """All measures over (sample, result) pairs, which are taken one at a time."""
    evaluator = Evaluator(taxonomy)
    for index, (sample, result) in enumerate(results):
        evaluator.add_sample(index, sample, result)
    return evaluator.result()


def evaluate_folders(gt: PanopticFolder, pred: PanopticFolder) -> dict[str, Any]:
    """All measures of one COCO panoptic data set against another."""
    evaluator = Evaluator(gt.taxonomy)
    for index, (truth, found) in enumerate(pairs(gt, pred)):
        evaluator.add(index, truth.result, found.result, truth.crowd,
                      name=f'Image {truth.file_name}')
    return evaluator.result()
