"""All measures of a system in one pass over its results, or in several passes that are merged."""
from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Optional, Union

import numpy as np

from adaptis.errors import AdaptisError
from adaptis.evaluation.ap import AveragePrecision, count_objects
from adaptis.evaluation.cityscapes_ap import CityscapesAP
from adaptis.evaluation.clicks import ClickQuality
from adaptis.evaluation.coco import PanopticFolder
from adaptis.evaluation.miou import MeanIoU, segment_classes, semantic_map
from adaptis.evaluation.overlap import compute_object_overlap, compute_overlap
from adaptis.evaluation.pq import PanopticQuality, iterate_pairs
from adaptis.evaluation.segments import sample_truth
from adaptis.evaluation.shards import (
    READ_ERRORS,
    WHOLE,
    Shard,
    as_json,
    check_complete,
    check_like,
    find_difference,
    malformed_shard_error,
    read_shard,
    taxonomy_from_json,
    taxonomy_to_json,
    write_shard,
)
from adaptis.files import PathLike
from adaptis.types import PanopticResult, Sample, Taxonomy

Precision = Union[AveragePrecision, CityscapesAP]


class Evaluator:
    """Streaming accumulator of every measure.

    For each measure of AP (one to three), memory grows by 20 bytes per detection and about 60 bytes
    per image; nothing else of an image is kept.

    Parameters
    ----------
    taxonomy : categories of truth and results
    run : JSON values that describe what is measured (data, split, checkpoint, settings); files
        keep it, and evaluators of different runs cannot be merged
    cityscapes : also measure AP as the Cityscapes benchmark does
    clicks : also measure how much masks depend on the click; after each image, add the result of
        ``click_image`` to the attribute ``clicks``
    """

    def __init__(self, taxonomy: Taxonomy, run: Optional[Mapping[str, Any]] = None,
                 cityscapes: bool = False, clicks: bool = False):
        self.taxonomy = taxonomy
        self.run = as_json(run or {})
        self.quality = PanopticQuality(taxonomy)
        self.semantic = MeanIoU(len(taxonomy))
        self.precisions: dict[str, Precision] = {'ap': AveragePrecision()}
        if taxonomy.num_things > 1:  # with one class of things both are the same
            self.precisions['ap_by_class'] = AveragePrecision(class_agnostic=False)
        if cityscapes:
            self.precisions['ap_cityscapes'] = CityscapesAP()
        self.clicks = ClickQuality() if clicks else None
        self.objects = np.zeros(3, dtype=np.int64)

    def add_sample(self, image_id: int, sample: Sample, result: PanopticResult) -> None:
        """Add one annotated image and its result."""
        truth, crowd = sample_truth(sample, self.taxonomy)
        self.add(image_id, truth, result, crowd, sample.semantic, sample.name or 'The sample')

    def add(self, image_id: int, truth: PanopticResult, result: PanopticResult,
            crowd: Collection[int] = (), semantic: Optional[np.ndarray] = None,
            name: str = 'The image') -> None:
        """Add one image.

        Parameters
        ----------
        image_id : orders the images, so that merged parts equal the whole exactly
        result : its ``semantic`` map is used for mIoU and its ``objects`` for AP, if it has them;
            otherwise its segments are
        crowd : ids of true segments that are crowds
        semantic : true class indices (H, W), -1 = ignore; by default those of the segments

        Raises
        ------
        AdaptisError
            If sizes differ, a segment or category is unknown, or the image was added before.
        """
        self.precisions['ap'].detections.check_new({image_id})
        overlap = compute_overlap(truth, result, crowd, name)
        self.quality.add_overlap(overlap)
        if semantic is None and result.semantic is None:
            self.semantic.add_overlap(overlap, self.taxonomy)
        else:
            expected = semantic_map(truth, self.taxonomy) if semantic is None else semantic
            predicted = result.semantic
            if predicted is None:
                predicted = segment_classes(overlap.found, self.taxonomy)[overlap.positions]
            self.semantic.add(expected, predicted, name)
        found = overlap if result.objects is None else compute_object_overlap(
            truth, result.objects, crowd, name)
        for precision in self.precisions.values():
            precision.add_overlap(image_id, found)
        self.objects += count_objects(overlap)

    def merge(self, other: Evaluator) -> None:
        """Add the images of ``other``; the result is exactly that of one pass over all.

        Raises AdaptisError if it belongs to another run, or has an image in common with this one.
        """
        difference = self._difference(other)
        if difference:
            raise AdaptisError(f'Two different evaluations cannot be merged: {difference}.')
        self.precisions['ap'].detections.check_new(other.precisions['ap'].detections)
        self.quality.merge(other.quality)
        self.semantic.merge(other.semantic)
        for key, precision in self.precisions.items():
            precision.merge(other.precisions[key])
        if self.clicks is not None:
            self.clicks.merge(other.clicks)
        self.objects += other.objects

    def save(self, path: PathLike, shard: Shard = WHOLE) -> None:
        """Write the state, as one part of the evaluation of a data set."""
        parts = {key: part.state() for key, part in self._parts().items()}
        write_shard(path, {'shard': list(shard), **self._identity()},
                    {**parts, 'objects': {'counts': self.objects}})

    @classmethod
    def load(cls, path: PathLike) -> Evaluator:
        """Read what :meth:`save` wrote, for any shard.

        Raises AdaptisError if the file is missing, truncated or of another kind.
        """
        return cls._load(path)[0]

    @classmethod
    def merge_files(cls, paths: Sequence[PathLike]) -> Evaluator:
        """Merge all shards of one evaluation, in any order.

        Raises AdaptisError if one is missing, given twice, or belongs to another evaluation.
        """
        if not paths:
            raise AdaptisError('There is nothing to merge: name the files of all shards.')
        loaded = [cls._load(path) for path in paths]
        whole = loaded[0][0]
        for path, (part, _) in zip(paths[1:], loaded[1:]):
            difference = whole._difference(part)
            if difference:
                raise AdaptisError(f'{paths[0]} and {path} are not of one evaluation: '
                                   f'{difference}.')
        check_complete([str(p) for p in paths], [shard for _, shard in loaded])
        for part, _ in loaded[1:]:
            whole.merge(part)
        return whole

    def result(self) -> dict[str, Any]:
        """Return all measures, in [0, 1]; NaN where there was nothing to measure.

        Returns
        -------
        dict
            ``images``; ``pq`` (see ``PanopticQuality.result``); ``ap`` class-agnostic and, with
            several classes of things, ``ap_by_class`` (``AveragePrecision.result``);
            ``ap_cityscapes`` if it was chosen (``CityscapesAP.result``); ``miou``
            (``MeanIoU.result``, and ``stuff``, the mean over stuff classes); ``objects``:
            ``found missed false`` at IoU 0.5; ``clicks`` if chosen (``ClickQuality.result``);
            ``per_class``: name -> ``isthing pq sq rq iou ap``.
        """
        result = {'images': self.quality.images, 'pq': self.quality.result(),
                  'miou': self._semantic(),
                  'objects': dict(zip(('found', 'missed', 'false'), self.objects.tolist())),
                  **{key: precision.result() for key, precision in self.precisions.items()}}
        if self.clicks is not None:
            result['clicks'] = self.clicks.result()
        result['per_class'] = self._per_class(result)
        return result

    def _semantic(self) -> dict[str, Any]:
        result = self.semantic.result()
        stuff = [iou for category, iou in zip(self.taxonomy.categories, result['per_class'])
                 if not category.isthing and not math.isnan(iou)]
        return {**result, 'stuff': sum(stuff) / len(stuff) if stuff else math.nan}

    def _per_class(self, result: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        names = Counter(c.name for c in self.taxonomy.categories)
        precision = result.get('ap_by_class', {}).get('per_class')
        classes = {}
        for category, iou in zip(self.taxonomy.categories, result['miou']['per_class']):
            quality = result['pq']['per_class'][category.id]
            seen = quality['tp'] + quality['fp'] + quality['fn'] > 0
            ap = result['ap']['ap'] if precision is None else precision.get(category.id, math.nan)
            name = category.name if names[category.name] == 1 else f'{category.name} {category.id}'
            classes[name] = {'isthing': category.isthing,
                             **{k: quality[k] if seen else math.nan for k in ('pq', 'sq', 'rq')},
                             'iou': iou, 'ap': ap if category.isthing else math.nan}
        return classes

    def _parts(self) -> dict[str, Any]:
        """Return every accumulator that has a state of its own."""
        clicks = {} if self.clicks is None else {'clicks': self.clicks}
        return {'pq': self.quality, 'miou': self.semantic, **clicks,
                **{key: precision.detections for key, precision in self.precisions.items()}}

    def _identity(self) -> dict[str, Any]:
        """Return what must be equal in evaluators that are merged."""
        return {'run': self.run, 'taxonomy': taxonomy_to_json(self.taxonomy),
                'measures': list(self._parts())}

    def _difference(self, other: Evaluator) -> Optional[str]:
        return find_difference(self._identity(), other._identity())

    @classmethod
    def _load(cls, path: PathLike) -> tuple[Evaluator, Shard]:
        header, parts = read_shard(path)
        try:
            evaluator = cls(taxonomy_from_json(header['taxonomy']), header['run'],
                            cityscapes='ap_cityscapes' in header['measures'],
                            clicks='clicks' in header['measures'])
            for key, part in evaluator._parts().items():
                part.load_state(parts[key])
            evaluator.objects = check_like(parts['objects']['counts'], evaluator.objects)
            return evaluator, Shard(*header['shard'])
        except READ_ERRORS as error:
            raise malformed_shard_error(path, error) from error


def evaluate(results: Iterable[tuple[Sample, PanopticResult]],
             taxonomy: Taxonomy) -> dict[str, Any]:
    """Return all measures over (sample, result) pairs, which are consumed one at a time."""
    evaluator = Evaluator(taxonomy)
    for index, (sample, result) in enumerate(results):
        evaluator.add_sample(index, sample, result)
    return evaluator.result()


def evaluate_folders(gt: PanopticFolder, pred: PanopticFolder) -> dict[str, Any]:
    """Return all measures of one COCO panoptic data set against another."""
    evaluator = Evaluator(gt.taxonomy)
    for index, (truth, found) in enumerate(iterate_pairs(gt, pred)):
        evaluator.add(index, truth.result, found.result, truth.crowd,
                      name=f'Image {truth.file_name}')
    return evaluator.result()
