"""COCO's detection metrics for masks or boxes, computed by pycocotools.

Unlike ``AveragePrecision`` this applies all of COCO's rules: at most 100 detections of a category
in an image, objects and detections grouped by area (small below 32^2 pixels, large above 96^2), and
recall with the best 1, 10 and 100 detections.  COCOeval itself matches and computes the curves.
Each image is matched immediately and not kept, so a detection needs about 80 bytes.
"""
from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import numpy as np
from pycocotools import mask as rle

from adaptis.evaluation.ap import (
    THRESHOLDS,
    accumulate,
    make_cocoeval,
    mask_iou,
    mean_valid,
)
from adaptis.evaluation.detections import DETECTION_DTYPE, Detections, pack
from adaptis.evaluation.overlap import Overlap

AREAS = {'all': (0.0, 1e10), 'small': (0.0, 32.0 ** 2), 'medium': (32.0 ** 2, 96.0 ** 2),
         'large': (96.0 ** 2, 1e10)}
MOST = 100
FEWER = (1, 10)


class GroundTruth(NamedTuple):
    """Objects of an image, (G,) each; ``areas`` are those of the masks, even for boxes."""

    categories: np.ndarray
    crowd: np.ndarray
    areas: np.ndarray


class Predictions(NamedTuple):
    """Detections of an image, (P,) each; ``areas`` are those of their masks or boxes."""

    categories: np.ndarray
    scores: np.ndarray
    areas: np.ndarray


class CocoAP:
    """Streaming accumulator; merged parts equal the whole exactly, and the result is COCOeval's."""

    def __init__(self) -> None:
        self._cocoeval = make_cocoeval()
        self._cocoeval.params.iouThrs = np.array(THRESHOLDS)
        self._parts = {name: Detections() for name in (*AREAS, *map(str, FEWER))}

    def __len__(self) -> int:
        """Return the number of images."""
        return sum(1 for _ in self._parts['all'])

    def add(self, image_id: int, truth: GroundTruth, predictions: Predictions,
            iou: np.ndarray) -> None:
        """Add an image; ``iou`` (P, G) as ``pycocotools.mask.iou`` computes it with crowds."""
        records: dict[str, list[np.ndarray]] = {name: [] for name in self._parts}
        countable = dict.fromkeys(self._parts, ~truth.crowd)
        for name, (low, high) in AREAS.items():
            countable[name] = ~truth.crowd & (truth.areas >= low) & (truth.areas <= high)
        for category in np.union1d(truth.categories, predictions.categories).tolist():
            found = self._match(category, truth, predictions, iou)
            for name, values in found.items():
                records[name].append(values)
            for most in FEWER:
                records[str(most)].append(found['all'][:most])
        for name, detections in self._parts.items():
            those = np.concatenate([np.empty(0, DETECTION_DTYPE), *records[name]])
            detections.add(image_id, those, truth.categories.tolist(), countable[name].tolist())

    def merge(self, other: CocoAP) -> None:
        """Add the images of ``other``, which must differ from these."""
        for name, detections in self._parts.items():
            detections.merge(other._parts[name])

    def state(self) -> dict[str, np.ndarray]:
        """Return the state as arrays, for a file."""
        return {f'{name}_{key}': array for name, detections in self._parts.items()
                for key, array in detections.state().items()}

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Restore what :meth:`state` returned; ValueError if it is inconsistent."""
        for name, detections in self._parts.items():
            detections.load_state({key.partition('_')[2]: array for key, array in state.items()
                                   if key.partition('_')[0] == name})

    def result(self) -> dict[str, Any]:
        """Return ``ap ap50 ap75 ap_small ap_medium ap_large``, ``ar1 ar10 ar100 ar_small ar_medium
        ar_large``, in [0, 1], and ``per_class``: category id -> ``ap``.

        NaN where the ground truth has no object.
        """
        curves = {name: self._curves(name) for name in self._parts}
        precision, recall = curves['all']
        result: dict[str, Any] = {'ap': mean_valid(precision)}
        for threshold in (0.5, 0.75):
            values = precision[THRESHOLDS.index(threshold)]
            result[f'ap{round(100 * threshold)}'] = mean_valid(values)
        sizes = [name for name in AREAS if name != 'all']
        result.update({f'ap_{name}': mean_valid(curves[name][0]) for name in sizes})
        result.update({f'ar{most}': mean_valid(curves[str(most)][1]) for most in FEWER})
        result[f'ar{MOST}'] = mean_valid(recall)
        result.update({f'ar_{name}': mean_valid(curves[name][1]) for name in sizes})
        result['per_class'] = {c: mean_valid(precision[:, :, k])
                               for k, c in enumerate(self._categories())}
        return result

    def _categories(self) -> list[int]:
        detections = self._parts['all']
        return sorted({*detections.objects, *np.unique(detections.sorted()['category']).tolist()})

    def _curves(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        detections = self._parts[name]
        return accumulate(detections.sorted(), self._categories(), detections.objects)

    def _match(self, category: int, truth: GroundTruth, predictions: Predictions,
               iou: np.ndarray) -> dict[str, np.ndarray]:
        """Return the matched detections of one category by area, best scores first."""
        true = np.flatnonzero(truth.categories == category)
        found = np.flatnonzero(predictions.categories == category)
        found = found[np.argsort(-predictions.scores[found], kind='mergesort')[:MOST]]
        evaluator, key = self._cocoeval, (0, category)
        # Ids start at 1, because COCOeval treats a match with id 0 as no match.
        evaluator._gts = {key: [{'id': k, 'ignore': bool(c), 'iscrowd': int(c), 'area': a}
                            for k, (c, a) in enumerate(zip(truth.crowd[true],
                                                           truth.areas[true]), 1)]}
        evaluator._dts = {key: [{'id': k, 'score': s, 'area': a} for k, (s, a) in enumerate(
            zip(predictions.scores[found], predictions.areas[found]), 1)]}
        evaluator.ious = {key: iou[np.ix_(found, true)]}
        return {name: _record(evaluator.evaluateImg(*key, area, MOST), predictions.scores[found])
                for name, area in AREAS.items()}


def mask_detections(overlap: Overlap) -> tuple[GroundTruth, Predictions, np.ndarray]:
    """Return the arguments of :meth:`CocoAP.add` for masks, without empty predictions."""
    rows, truth = _truth(overlap)
    columns = np.array([k for k, (s, area) in enumerate(zip(overlap.found, overlap.found_area))
                        if s.isthing and area], np.intp)
    return (truth, _predictions(overlap, columns, overlap.found_area[columns]),
            mask_iou(overlap, columns, rows, truth.crowd))


def box_detections(overlap: Overlap, true_boxes: np.ndarray, boxes: np.ndarray
                   ) -> tuple[GroundTruth, Predictions, np.ndarray]:
    """Return the same for boxes (G, 4) and (P, 4), x0, y0, x1, y1, of all segments."""
    rows, truth = _truth(overlap)
    columns = np.array([k for k, s in enumerate(overlap.found) if s.isthing], np.intp)
    true_sides, sides = _sides(true_boxes[rows]), _sides(boxes[columns])
    iou = np.zeros((len(columns), len(rows)))
    if iou.size:
        iou = rle.iou(sides, true_sides, truth.crowd.astype(int).tolist())
    return truth, _predictions(overlap, columns, sides[:, 2] * sides[:, 3]), iou


def _truth(overlap: Overlap) -> tuple[np.ndarray, GroundTruth]:
    """Return the rows of ground-truth objects.  Those without a pixel count only if they have their
    own annotation, because COCOeval counts them."""
    own = overlap.annotated_areas is not None
    rows = np.array([k for k, (s, area) in enumerate(zip(overlap.truth, overlap.truth_area))
                     if s.isthing and (area or own)], np.intp)
    categories = np.array([overlap.truth[k].category_id for k in rows], np.int64)
    return rows, GroundTruth(categories, overlap.is_crowd[rows], overlap.annotated_area[rows])


def _predictions(overlap: Overlap, columns: np.ndarray, areas: np.ndarray) -> Predictions:
    return Predictions(np.array([overlap.found[k].category_id for k in columns], np.int64),
                       np.array([overlap.found[k].score for k in columns], np.float64), areas)


def boxes_around(masks: Collection[np.ndarray]) -> np.ndarray:
    """Return float64 (N, 4): x0, y0, x1, y1 around masks (H, W); zeros for an empty mask."""
    boxes = np.zeros((len(masks), 4))
    for box, mask in zip(boxes, masks):
        columns, rows = (np.flatnonzero(mask.any(axis=axis)) for axis in (0, 1))
        if len(rows):
            box[:] = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    return boxes


def _sides(boxes: np.ndarray) -> np.ndarray:
    """Convert x0, y0, x1, y1 to x, y, width, height."""
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1).astype(np.float64)


def _record(matched: Mapping[str, Any], scores: np.ndarray) -> np.ndarray:
    """Return the result of COCOeval for an image and a category, as DETECTION_DTYPE."""
    excused = matched['dtIgnore'].astype(bool)
    records = np.empty(len(scores), DETECTION_DTYPE)
    records['score'], records['category'] = scores, matched['category_id']
    records['right'] = pack((matched['dtMatches'] > 0) & ~excused)
    records['excused'] = pack(excused)
    return records
