"""Panoptic quality (Kirillov et al., Panoptic Segmentation, 2019): PQ = SQ x RQ.

A predicted and a ground-truth segment of one category match if their IoU exceeds 1/2, so matches
are unique.  Over the matches of a category, PQ = (sum of IoU) / (TP + FP/2 + FN/2). The rules for
void and crowd, and the results, equal those of panopticapi.
"""
from __future__ import annotations

import contextlib
import io
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

import numpy as np

from adaptis.errors import AdaptisError
from adaptis.evaluation.coco import PanopticFolder, PanopticRecord, read_json
from adaptis.evaluation.matching import match_images
from adaptis.evaluation.overlap import Overlap, compute_overlap
from adaptis.evaluation.shards import check_like
from adaptis.files import PathLike
from adaptis.types import PanopticResult, Segment, Taxonomy

# The IoU of a match is in (1/2, 1], so it is an integer multiple of 2^-53.  Sums of these integers
# are exact, so merging parts in any order gives the same last bit.
_UNIT = 2 ** 53
VOID_SHARE = 0.5
"""An unmatched prediction with more than this fraction of its area on void or crowd is ignored."""
OFFICIAL_BASE = 255 ** 3
"""The official AdaptIS code packs two ids as gt * 255^3 + pred, a factor too small for large
ids."""


class PanopticQuality:
    """Streaming accumulator of PQ, SQ and RQ.

    Parameters
    ----------
    taxonomy : the categories; predictions of other categories raise an error
    official : reproduce the metric in the official AdaptIS code, which confuses predictions whose
        id is 255^3 or more with others
    """

    def __init__(self, taxonomy: Taxonomy, official: bool = False):
        self.taxonomy = taxonomy
        self._official = official
        self.images = 0
        self._counts = np.zeros((3, len(taxonomy)), dtype=np.int64)  # tp, fp, fn
        self._iou = [0] * len(taxonomy)

    def add(self, gt_map: np.ndarray, gt_segments: Sequence[Segment], pred_map: np.ndarray,
            pred_segments: Sequence[Segment], crowd: Collection[int] = (),
            name: str = 'The image') -> None:
        """Add one image.

        Parameters
        ----------
        gt_map, pred_map : integer (H, W), segment ids, 0 = void
        gt_segments, pred_segments : the segments of each map; areas are computed from the maps, and
            predictions without pixels are ignored
        crowd : ids of ground-truth segments that are crowds; if a category has several, only the
            last one excuses predictions, as in panopticapi
        name : name of the image in error messages

        Raises
        ------
        AdaptisError
            If the sizes differ, or a map contains an id that its segments do not list.
        """
        self.add_overlap(compute_overlap(PanopticResult(gt_map, gt_segments),
                                         PanopticResult(pred_map, pred_segments), crowd, name))

    def add_overlap(self, overlap: Overlap) -> None:
        """Add one image whose overlaps are known; see :meth:`add`."""
        inter, gt_segments, pred_segments = overlap.shared, overlap.truth, overlap.found
        gt_area, pred_area = overlap.truth_area, overlap.found_area
        if self._official:
            inter = _confused(inter, [s.id for s in gt_segments], [s.id for s in pred_segments])
        gt_class = self._classes(gt_segments)
        pred_class = self._classes(pred_segments)
        is_crowd = overlap.is_crowd
        iou = np.where(gt_class[:, None] == pred_class, _iou(inter, gt_area, pred_area), 0.0)
        iou[is_crowd] = 0
        true, found = np.nonzero(iou > 0.5)
        missed = ~is_crowd
        missed[true] = False
        forgiven = self._forgiven(inter, gt_class, pred_class, is_crowd)
        false = (forgiven <= VOID_SHARE * pred_area) & (pred_area > 0)
        false[found] = False
        for row, classes in enumerate((gt_class[true], pred_class[false], gt_class[missed])):
            self._counts[row] += np.bincount(classes, minlength=len(self.taxonomy))
        for index, value in zip(gt_class[true].tolist(), iou[true, found].tolist()):
            self._iou[index] += int(value * _UNIT)
        self.images += 1

    def merge(self, other: PanopticQuality) -> None:
        """Add the counts of ``other``, exactly as if its images had been added here."""
        if other.taxonomy.categories != self.taxonomy.categories:
            raise AdaptisError('Two PQ accumulators with different categories cannot be merged.')
        self._counts += other._counts
        self._iou = [a + b for a, b in zip(self._iou, other._iou)]
        self.images += other.images

    def result(self) -> dict[str, Any]:
        """Return PQ, SQ and RQ in [0, 1].

        Returns
        -------
        dict
            ``All``, ``Things``, ``Stuff``: ``pq sq rq tp fp fn n``, means over the ``n`` categories
            with any segment, NaN if there is none;
            ``per_class``: category id -> ``pq sq rq tp fp fn iou``, zeros if there is none.
        """
        per_class = [self._class_result(i) for i in range(len(self.taxonomy))]
        stuff = self.taxonomy.num_stuff
        return {'All': _mean(per_class), 'Things': _mean(per_class[stuff:]),
                'Stuff': _mean(per_class[:stuff]),
                'per_class': {c.id: r for c, r in zip(self.taxonomy.categories, per_class)}}

    def state(self) -> dict[str, np.ndarray]:
        """Return the state as arrays, for a file."""
        # As text, because the sums of IoU exceed 64 bits after about a thousand matches.
        return {'images': np.array(self.images), 'counts': self._counts,
                'iou': np.array([str(v) for v in self._iou])}

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Restore what :meth:`state` returned; ValueError if it has another shape."""
        self._counts = check_like(state['counts'], self._counts)
        self._iou = [int(v) for v in state['iou']]
        self.images = int(state['images'])
        if len(self._iou) != len(self.taxonomy):
            raise ValueError('the sums of IoU are for another number of classes')

    def _classes(self, segments: Sequence[Segment]) -> np.ndarray:
        return np.array([self.taxonomy.index(s.category_id) for s in segments], dtype=np.intp)

    def _forgiven(self, inter: np.ndarray, gt_class: np.ndarray, pred_class: np.ndarray,
                  is_crowd: np.ndarray) -> np.ndarray:
        """Return the pixels of each prediction on void or the crowd of its category: int (P,)."""
        crowd_of = np.zeros(len(self.taxonomy), dtype=np.intp)
        where = np.flatnonzero(is_crowd)
        crowd_of[gt_class[where]] = where + 1  # the last one in list order wins
        row = crowd_of[pred_class]
        return inter[0, 1:] + np.where(row > 0, inter[row, np.arange(1, inter.shape[1])], 0)

    def _class_result(self, index: int) -> dict[str, float]:
        tp, fp, fn = (int(v) for v in self._counts[:, index])
        iou = self._iou[index] / _UNIT
        weight = tp + 0.5 * fp + 0.5 * fn
        return {'pq': iou / weight if weight else 0.0, 'sq': iou / tp if tp else 0.0,
                'rq': tp / weight if weight else 0.0, 'tp': tp, 'fp': fp, 'fn': fn, 'iou': iou}


def iterate_pairs(gt: PanopticFolder,
                  pred: PanopticFolder, match: Optional[str] = None
                  ) -> Iterator[tuple[PanopticRecord, PanopticRecord]]:
    """Yield (ground truth, prediction) records image by image; ``match`` is as in ``match_images``.

    Raises AdaptisError if an image has no prediction or the categories differ.
    """
    kinds = [{(c.id, c.isthing) for c in f.taxonomy.categories} for f in (gt, pred)]
    if not kinds[1] <= kinds[0]:
        raise AdaptisError(f'{pred.json_path} and {gt.json_path} do not list the same '
                           f'categories: {sorted(kinds[1] - kinds[0])[:3]} differ.')
    for true_id, predicted_id in match_images(gt, pred, match):
        yield gt.read(true_id), pred.read(predicted_id)


def compute_record_overlap(truth: PanopticRecord, found: PanopticRecord) -> Overlap:
    """Count the pixels that the segments of two records share, from the runs that reading counted.

    Raises AdaptisError if the sizes differ.
    """
    return compute_overlap(truth.result, found.result, truth.crowd, f'Image {truth.file_name}',
                           (truth.runs, found.runs))


def evaluate_with_panopticapi(gt_json: PathLike, gt_folder: PathLike, pred_json: PathLike,
                              pred_folder: PathLike) -> dict[str, Any]:
    """Compute the same numbers with the official panopticapi, in the form of :meth:`result`.

    Raises AdaptisError if it is not installed.
    """
    try:
        from panopticapi.evaluation import pq_compute_single_core  # optional
    except ImportError as error:
        raise AdaptisError('panopticapi is not installed; it is not on PyPI: '
                           'pip install git+https://github.com/cocodataset/panopticapi.git, '
                           'or leave out --panopticapi.') from error
    gt, pred = read_json(gt_json), read_json(pred_json)
    predicted = {a['image_id']: a for a in pred['annotations']}
    matched = [(a, predicted[a['image_id']]) for a in gt['annotations']]
    categories = {c['id']: c for c in gt['categories']}
    with contextlib.redirect_stdout(io.StringIO()):
        stat = pq_compute_single_core(0, matched, str(Path(gt_folder)), str(Path(pred_folder)),
                                      categories)
    return _from_panopticapi(stat, categories)


def _from_panopticapi(stat: Any, categories: dict[int, dict]) -> dict[str, Any]:
    """Use only its counts, because its own averages divide by zero if a group is empty."""
    per_class = {}
    for key in categories:
        counts = stat[key]
        weight = counts.tp + 0.5 * counts.fp + 0.5 * counts.fn
        per_class[key] = {
            'pq': counts.iou / weight if weight else 0.0,
            'sq': counts.iou / counts.tp if counts.tp else 0.0,
            'rq': counts.tp / weight if weight else 0.0,
            'tp': counts.tp, 'fp': counts.fp, 'fn': counts.fn, 'iou': counts.iou}
    things = [r for k, r in per_class.items() if categories[k]['isthing']]
    stuff = [r for k, r in per_class.items() if not categories[k]['isthing']]
    return {'All': _mean(list(per_class.values())), 'Things': _mean(things),
            'Stuff': _mean(stuff), 'per_class': per_class}


def _iou(inter: np.ndarray, gt_area: np.ndarray, pred_area: np.ndarray) -> np.ndarray:
    """Return the IoU of ground-truth and predicted segments: float64 (G, P).

    Void pixels of the ground truth are excluded, even from the union.
    """
    union = gt_area[:, None] + (pred_area - inter[0, 1:]) - inter[1:, 1:]
    return inter[1:, 1:] / np.maximum(union, 1)


def _confused(inter: np.ndarray, gt_ids: Sequence[int], pred_ids: Sequence[int]) -> np.ndarray:
    """Return the overlaps after the official packing of ids, which confuses large ids."""
    rows = {segment: row for row, segment in enumerate([0, *gt_ids])}
    columns = {segment: column for column, segment in enumerate(pred_ids, start=1)}
    confused = inter.copy()
    for pred, column in columns.items():
        if pred < OFFICIAL_BASE:
            continue
        confused[:, column] -= inter[:, column]
        for gt, row in rows.items():
            other = rows.get(gt + 1), columns.get(pred - OFFICIAL_BASE)
            if None not in other:
                confused[other] += inter[row, column]
    return confused


def _mean(results: Sequence[dict[str, float]]) -> dict[str, float]:
    seen = [r for r in results if r['tp'] + r['fp'] + r['fn']]
    total = {key: sum(r[key] for r in seen) for key in ('tp', 'fp', 'fn')}
    means = {key: sum(r[key] for r in seen) / len(seen) if seen else float('nan')
             for key in ('pq', 'sq', 'rq')}
    return {**means, **total, 'n': len(seen)}
