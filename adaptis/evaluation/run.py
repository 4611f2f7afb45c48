"""All metrics of a system, from one pass over its results or from several merged passes."""
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
from adaptis.evaluation.coco_ap import CocoAP, box_detections, boxes_around, mask_detections
from adaptis.evaluation.iiou import CITYSCAPES_SIZES, InstanceIoU
from adaptis.evaluation.miou import MeanIoU, semantic_map
from adaptis.evaluation.overlap import (
    Overlap,
    compute_annotated_overlap,
    compute_object_overlap,
    compute_overlap,
)
from adaptis.evaluation.pq import PanopticQuality, compute_record_overlap, iterate_pairs
from adaptis.evaluation.segments import sample_truth, segment_boxes
from adaptis.evaluation.shards import (
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
from adaptis.ids import relabel_ids
from adaptis.npz import NPZ_ERRORS
from adaptis.types import AnnotatedObjects, PanopticResult, Sample, Taxonomy

Precision = Union[AveragePrecision, CityscapesAP]


class Evaluator:
    """Streaming accumulator of all metrics.

    For each AP metric (one to three), memory grows by 20 bytes per detection and about 60 bytes per
    image.  Nothing else of an image is kept.

    Parameters
    ----------
    taxonomy : categories of the ground truth and the results
    run : JSON values that describe what is measured (data, split, checkpoint, settings); it is
        saved to files, and evaluators of different runs cannot be merged
    cityscapes : also measure AP and iIoU as the Cityscapes benchmark does
    coco : also measure the objects of detectors, and of samples that may overlap, as COCO does
    clicks : also measure how much masks depend on the click; add the result of ``click_image`` for
        each image to the attribute ``clicks``
    """

    def __init__(self, taxonomy: Taxonomy, run: Optional[Mapping[str, Any]] = None,
                 cityscapes: bool = False, coco: bool = False, clicks: bool = False):
        self.taxonomy = taxonomy
        self.run = as_json(run or {})
        self.quality = PanopticQuality(taxonomy)
        self.semantic = MeanIoU(len(taxonomy))
        self.merged = MeanIoU(len(taxonomy))   # of the segments, if there is a semantic branch
        self.detection = {key: CocoAP() for key, asked in (
            ('ap_coco', coco), ('ap_box', coco or cityscapes)) if asked}
        self.iiou = InstanceIoU(taxonomy, CITYSCAPES_SIZES) if cityscapes else None
        self.precisions: dict[str, Precision] = {'ap': AveragePrecision()}
        if taxonomy.num_things > 1:  # with one thing class both are the same
            self.precisions['ap_by_class'] = AveragePrecision(class_agnostic=False)
        if cityscapes:
            self.precisions['ap_cityscapes'] = CityscapesAP()
        self.clicks = ClickQuality() if clicks else None
        self.objects = np.zeros(3, dtype=np.int64)

    def add_sample(self, image_id: int, sample: Sample, result: PanopticResult) -> None:
        """Add one annotated image and its result."""
        truth, crowd = sample_truth(sample, self.taxonomy)
        self.add(image_id, truth, result, crowd, sample.semantic, sample.name or 'The sample',
                 sample.objects)

    def add(self, image_id: int, truth: PanopticResult, result: PanopticResult,
            crowd: Collection[int] = (), semantic: Optional[np.ndarray] = None,
            name: str = 'The image', objects: Optional[AnnotatedObjects] = None,
            overlap: Optional[Overlap] = None) -> None:
        """Add one image.

        Parameters
        ----------
        image_id : orders the images, so that merged parts equal the whole exactly
        result : its ``semantic`` map is used for mIoU and its ``objects`` for AP, if present;
            otherwise its segments are used
        crowd : ids of ground-truth segments that are crowds
        semantic : ground-truth class indices (H, W), -1 = ignore; by default those of the segments
        objects : objects of a second annotation; AP is measured on them instead of ``truth``
        overlap : that of ``truth`` and ``result``, if it is known

        Raises
        ------
        AdaptisError
            If sizes differ, a segment or category is unknown, or the image was added before.
        """
        self.precisions['ap'].detections.check_new({image_id})
        if overlap is None:
            overlap = compute_overlap(truth, result, crowd, name)
        self.quality.add_overlap(overlap)
        if semantic is None and result.semantic is None:
            self.semantic.add_overlap(overlap, self.taxonomy)
        else:
            expected = semantic_map(truth, self.taxonomy) if semantic is None else semantic
            predicted = result.semantic
            if predicted is None:
                predicted = semantic_map(result, self.taxonomy)
            self.semantic.add(expected, predicted, name)
        if result.semantic is not None:
            self.merged.add_overlap(overlap, self.taxonomy)
        if self.iiou is not None:
            self.iiou.add(overlap, truth, result.semantic, name)
        if objects is not None:
            found = compute_annotated_overlap(objects, result, self.taxonomy, name)
        else:
            found = overlap if result.objects is None else compute_object_overlap(
                truth, result.objects, crowd, name)
        for precision in self.precisions.values():
            precision.add_overlap(image_id, found)
        if self.detection and (objects is not None or result.objects is not None):
            self._add_detections(image_id, found, truth, result, objects)
        self.objects += count_objects(overlap)

    def _add_detections(self, image_id: int, overlap: Overlap, truth: PanopticResult,
                        result: PanopticResult, objects: Optional[AnnotatedObjects]) -> None:
        if 'ap_coco' in self.detection:
            self.detection['ap_coco'].add(image_id, *mask_detections(overlap))
        true_boxes = _true_boxes(truth, objects)
        found = result.objects
        if found is None:
            boxes_found = _boxes_of(result)
        else:
            boxes_found = boxes_around(found.masks) if found.boxes is None else found.boxes
        self.detection['ap_box'].add(image_id, *box_detections(overlap, true_boxes, boxes_found))

    def merge(self, other: Evaluator) -> None:
        """Add the images of ``other``; the result equals that of a single pass exactly.

        Raises AdaptisError if it belongs to another run, or shares an image with this one.
        """
        difference = self._difference(other)
        if difference:
            raise AdaptisError('These parts belong to different evaluations and cannot be merged: '
                               f'{difference}.')
        self.precisions['ap'].detections.check_new(other.precisions['ap'].detections)
        self.quality.merge(other.quality)
        self.semantic.merge(other.semantic)
        self.merged.merge(other.merged)
        for key, precision in self.precisions.items():
            precision.merge(other.precisions[key])
        if self.clicks is not None:
            self.clicks.merge(other.clicks)
        for key, part in self.detection.items():
            part.merge(other.detection[key])
        if self.iiou is not None:
            self.iiou.merge(other.iiou)
        self.objects += other.objects

    def save(self, path: PathLike, shard: Shard = WHOLE) -> None:
        """Write the state, as one part of the evaluation of a data set."""
        parts = {key: part.state() for key, part in self._parts().items()}
        write_shard(path, {'shard': list(shard), **self._identity()},
                    {**parts, 'objects': {'counts': self.objects}})

    @classmethod
    def load(cls, path: PathLike) -> Evaluator:
        """Read what :meth:`save` wrote, for any shard.

        Raises AdaptisError if the file is missing, truncated or of another type.
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
                raise AdaptisError(f'{paths[0]} and {path} belong to different evaluations: '
                                   f'{difference}.')
        check_complete([str(p) for p in paths], [shard for _, shard in loaded])
        for part, _ in loaded[1:]:
            whole.merge(part)
        return whole

    def result(self) -> dict[str, Any]:
        """Return all metrics, in [0, 1]; NaN where there was nothing to measure.

        Returns
        -------
        dict
            ``images``; ``pq`` (see ``PanopticQuality.result``); ``ap`` class-agnostic and, with
            several thing classes, ``ap_by_class`` (``AveragePrecision.result``); ``ap_cityscapes``
            if it was chosen (``CityscapesAP.result``); ``miou`` (``MeanIoU.result_by_kind``), and,
            if the network has a semantic branch, whose values are then in ``miou``, also
            ``miou_panoptic``, the same for the segments; ``iiou`` (``InstanceIoU.result``) if it
            was chosen; ``ap_coco`` and ``ap_box`` (``CocoAP.result``) if they were chosen and a
            detector found objects; ``objects``: ``found missed false`` at IoU 0.5; ``clicks`` if
            chosen (``ClickQuality.result``); ``per_class``: name -> ``isthing pq sq rq iou ap``.

            Without a stuff class there is no panoptic segmentation: no ``pq`` and no ``miou``.
        """
        result = {'images': self.quality.images, **self._of_pixels(),
                  'objects': dict(zip(('found', 'missed', 'false'), self.objects.tolist())),
                  **{key: precision.result() for key, precision in self.precisions.items()},
                  **{key: part.result() for key, part in self.detection.items() if len(part)}}
        if self.clicks is not None:
            result['clicks'] = self.clicks.result()
        result['per_class'] = self._per_class(result)
        return result

    def _of_pixels(self) -> dict[str, Any]:
        if not self.taxonomy.num_stuff:
            return {}
        result = {'pq': self.quality.result(), 'miou': self.semantic.result_by_kind(self.taxonomy)}
        if self.merged.pixels:
            result['miou_panoptic'] = self.merged.result_by_kind(self.taxonomy)
        if self.iiou is not None:
            result['iiou'] = self.iiou.result(self.semantic.false_pixels)
        return result

    def _per_class(self, result: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        names = Counter(c.name for c in self.taxonomy.categories)
        precision = result.get('ap_by_class', {}).get('per_class')
        classes = {}
        ious = result['miou']['per_class'] if 'miou' in result else [math.nan] * len(self.taxonomy)
        qualities = self.quality.result()['per_class'] if 'pq' in result else {}
        for category, iou in zip(self.taxonomy.categories, ious):
            quality = qualities.get(category.id, {})
            seen = sum(quality.get(key, 0) for key in ('tp', 'fp', 'fn')) > 0
            ap = result['ap']['ap'] if precision is None else precision.get(category.id, math.nan)
            name = category.name if names[category.name] == 1 else f'{category.name} {category.id}'
            classes[name] = {'isthing': category.isthing,
                             **{k: quality[k] if seen else math.nan for k in ('pq', 'sq', 'rq')},
                             'iou': iou, 'ap': ap if category.isthing else math.nan}
        return classes

    def _parts(self) -> dict[str, Any]:
        """Return every accumulator that has its own state."""
        parts = {'pq': self.quality, 'miou': self.semantic, 'miou_panoptic': self.merged,
                 **{key: precision.detections for key, precision in self.precisions.items()},
                 **self.detection}
        chosen = {'iiou': self.iiou, 'clicks': self.clicks}
        return {**parts, **{key: part for key, part in chosen.items() if part is not None}}

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
                            coco='ap_coco' in header['measures'],
                            clicks='clicks' in header['measures'])
            for key, part in evaluator._parts().items():
                part.load_state(parts[key])
            evaluator.objects = check_like(parts['objects']['counts'], evaluator.objects)
            return evaluator, Shard(*header['shard'])
        except NPZ_ERRORS as error:
            raise malformed_shard_error(path, error) from error


def _true_boxes(truth: PanopticResult, objects: Optional[AnnotatedObjects]) -> np.ndarray:
    """Return (G, 4): x0, y0, x1, y1 as annotated, otherwise around the pixels."""
    if objects is None:
        return _boxes_of(truth)
    if objects.boxes is None:
        return boxes_around([(objects.layers == k + 1).any(axis=0) for k in range(len(objects))])
    return objects.boxes


def _boxes_of(result: PanopticResult) -> np.ndarray:
    """Return (S, 4): x0, y0, x1, y1 around the pixels of each segment."""
    positions = relabel_ids(result.segment_map, [s.id for s in result.segments], 'The result')
    found = segment_boxes(positions, len(result.segments)).astype(np.float64)
    return np.concatenate([found[:, :2], found[:, :2] + found[:, 2:]], axis=1)


def evaluate(results: Iterable[tuple[Sample, PanopticResult]],
             taxonomy: Taxonomy) -> dict[str, Any]:
    """Return all metrics over (sample, result) pairs, which are consumed one at a time."""
    evaluator = Evaluator(taxonomy)
    for index, (sample, result) in enumerate(results):
        evaluator.add_sample(index, sample, result)
    return evaluator.result()


def evaluate_folders(gt: PanopticFolder, pred: PanopticFolder,
                     match: Optional[str] = None) -> dict[str, Any]:
    """Return all metrics of one COCO panoptic data set against another.

    ``match`` says how images are matched, see ``adaptis.evaluation.matching.match_images``.
    """
    evaluator = Evaluator(gt.taxonomy)
    for index, (truth, found) in enumerate(iterate_pairs(gt, pred, match)):
        evaluator.add(index, truth.result, found.result, truth.crowd,
                      name=f'Image {truth.file_name}',
                      overlap=compute_record_overlap(truth, found))
    return evaluator.result()
