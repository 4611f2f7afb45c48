"""Average precision of object masks by pycocotools, and counts of found and missed objects.

Table 1 of the AdaptIS paper reports class-agnostic AP at the IoU thresholds .5, .7, .8 and .9;
COCO's AP is the mean over .50, .55, ... .95.  The score of an object is its mean confidence
inside its mask (section 6).
"""
from __future__ import annotations

import contextlib
import io
from collections.abc import Collection
from typing import Any, NamedTuple, Optional

import numpy as np

from adaptis.errors import AdaptisError
from adaptis.evaluation.coco import encode_segments, mask_api
from adaptis.evaluation.pq import overlaps
from adaptis.evaluation.segments import segment_areas
from adaptis.types import PanopticResult

THRESHOLDS = tuple(round(0.5 + 0.05 * k, 2) for k in range(10))
TABLE_1 = (0.5, 0.7, 0.8, 0.9)


class Counts(NamedTuple):
    """Objects of one image after a one-to-one matching."""

    found: int
    missed: int
    false: int


class AveragePrecision:
    """Streaming accumulator of AP; masks are kept as compressed RLE, a few bytes each.

    Parameters
    ----------
    class_agnostic : whether all objects count as one class; otherwise AP is the mean over the
        categories that occur in the ground truth
    max_detections : of one image that count, best scores first; None = all of them
        (COCO's default of 100 would cut pictures of 250 or 700 objects)
    """

    def __init__(self, class_agnostic: bool = True, max_detections: Optional[int] = None):
        mask_api()
        self.class_agnostic = class_agnostic
        self.max_detections = max_detections
        self._sizes: dict[int, tuple[int, int]] = {}
        self._truth: list[dict[str, Any]] = []
        self._found: list[dict[str, Any]] = []

    def add(self, image_id: int, truth: PanopticResult, found: PanopticResult,
            crowd: Collection[int] = ()) -> None:
        """Keep the things of one image.

        Parameters
        ----------
        image_id : orders the images, so that parts merge into exactly the whole
        crowd : ids of true segments that are neither right nor wrong

        Raises
        ------
        AdaptisError
            If the image was already added, or the sizes differ.
        """
        if image_id in self._sizes:
            raise AdaptisError(f'Image {image_id} is counted twice.')
        if truth.segment_map.shape != found.segment_map.shape:
            raise AdaptisError(f'Image {image_id}: ground truth and result differ in size.')
        self._sizes[image_id] = truth.segment_map.shape
        for entry in self._objects(image_id, truth):
            entry['iscrowd'] = int(entry['id'] in crowd)
            self._truth.append(entry)
        self._found.extend(self._objects(image_id, found))

    def merge(self, other: AveragePrecision) -> None:
        """Add the images of ``other``, which must be others than these."""
        twice = self._sizes.keys() & other._sizes.keys()
        if twice:
            raise AdaptisError(f'Image {min(twice)} is counted twice.')
        self._sizes.update(other._sizes)
        self._truth.extend(other._truth)
        self._found.extend(other._found)

    def result(self) -> dict[str, Any]:
        """``ap`` (COCO's mean over ten thresholds) and ``ap50`` ... ``ap95``, in [0, 1].

        Unless class-agnostic also ``per_class``: category id -> ``ap``.  NaN where the ground
        truth has no object.
        """
        categories = sorted({o['category_id'] for o in self._truth + self._found})
        precision = self._precision(categories)
        result: dict[str, Any] = {'ap': _mean_precision(precision)}
        for threshold, values in zip(THRESHOLDS, precision):
            result[f'ap{round(100 * threshold)}'] = _mean_precision(values)
        if not self.class_agnostic:
            result['per_class'] = {c: _mean_precision(precision[:, :, k])
                                   for k, c in enumerate(categories)}
        return result

    def _objects(self, image_id: int, result: PanopticResult) -> list[dict[str, Any]]:
        # Not by pycocotools: its area() of more than 255 masks fails with NumPy 2.
        areas = segment_areas(result.segment_map, [s.id for s in result.segments],
                              f'Image {image_id}')
        things = [s for s in result.things if areas[s.id]]
        masks = encode_segments(result.segment_map, [s.id for s in things])
        return [{'id': s.id, 'image_id': image_id, 'score': float(s.score), 'area': areas[s.id],
                 'category_id': 1 if self.class_agnostic else s.category_id, 'segmentation': mask}
                for s, mask in zip(things, masks)]

    def _precision(self, categories: list[int]) -> np.ndarray:
        """Precision at 101 recalls: (thresholds, recalls, categories), -1 = category absent."""
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
        if not categories:
            return np.full((len(THRESHOLDS), 1, 1), -1.0)
        with contextlib.redirect_stdout(io.StringIO()):
            data = [COCO(), COCO()]
            for coco, objects in zip(data, (self._truth, self._found)):
                coco.dataset = self._dataset(objects, categories)
                coco.createIndex()
            judge = COCOeval(*data, iouType='segm')
            judge.params.iouThrs = np.array(THRESHOLDS)
            judge.params.maxDets = [self.max_detections or self._most_detections()]
            # The usual ranges split by size, and their "all" ends at 1e10 pixels.
            judge.params.areaRng, judge.params.areaRngLbl = [[0, np.inf]], ['all']
            judge.evaluate()
            judge.accumulate()
        return judge.eval['precision'][:, :, :, 0, 0]

    def _dataset(self, objects: list[dict[str, Any]], categories: list[int]) -> dict[str, Any]:
        """A COCO data set; ids count from 1, because pycocotools takes id 0 for "no match"."""
        order = sorted(objects, key=lambda o: o['image_id'])
        return {'images': [{'id': i, 'height': h, 'width': w}
                           for i, (h, w) in sorted(self._sizes.items())],
                'categories': [{'id': c} for c in categories],
                'annotations': [{'iscrowd': 0, **o, 'id': k} for k, o in enumerate(order, 1)]}

    def _most_detections(self) -> int:
        images = [o['image_id'] for o in self._found]
        return max(1, int(np.unique(images, return_counts=True)[1].max(initial=0)))


def match_counts(truth: PanopticResult, found: PanopticResult, iou: float = 0.5,
                 crowd: Collection[int] = ()) -> Counts:
    """Objects found, missed and falsely reported at an IoU of at least ``iou``.

    One-to-one, class-agnostic, best IoU first.  Crowds are not counted as missed, and
    a report that lies mostly on a crowd is not counted as false.
    """
    shared = overlaps(truth.segment_map, truth.segments, found.segment_map, found.segments)
    areas = shared.sum(axis=1)[1:, None], shared.sum(axis=0)[1:]
    ratio = shared[1:, 1:] / np.maximum(areas[0] + areas[1] - shared[1:, 1:], 1)
    is_crowd = np.array([s.id in crowd for s in truth.segments], dtype=bool)
    real = np.array([s.isthing for s in truth.segments], dtype=bool) & (areas[0][:, 0] > 0)
    things = np.array([s.isthing for s in found.segments], dtype=bool) & (areas[1] > 0)
    on_crowd = shared[1:, 1:][is_crowd].sum(axis=0) > 0.5 * areas[1]
    ratio[~real | is_crowd] = 0
    ratio[:, ~things] = 0
    matches = _match(ratio, iou)
    matched = {column for _, column in matches}
    false = [k for k in np.flatnonzero(things & ~on_crowd) if k not in matched]
    return Counts(len(matches), int((real & ~is_crowd).sum()) - len(matches), len(false))


def _match(ratio: np.ndarray, threshold: float) -> list[tuple[int, int]]:
    """Pairs of at least ``threshold``, largest first, every row and column at most once."""
    rows, columns = np.nonzero((ratio >= threshold) & (ratio > 0))
    order = np.argsort(-ratio[rows, columns], kind='stable')
    used_rows, used_columns, pairs = set(), set(), []
    for row, column in zip(rows[order].tolist(), columns[order].tolist()):
        if row not in used_rows and column not in used_columns:
            used_rows.add(row)
            used_columns.add(column)
            pairs.append((row, column))
    return pairs


def _mean_precision(precision: np.ndarray) -> float:
    """Mean over recalls and the categories that occur (-1 marks those that do not)."""
    valid = precision[precision > -1]
    return float(valid.mean()) if valid.size else float('nan')
