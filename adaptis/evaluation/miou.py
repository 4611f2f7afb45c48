"""Mean intersection over union of semantic segmentation, streaming."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from adaptis.errors import AdaptisError
from adaptis.evaluation.overlap import Overlap
from adaptis.evaluation.shards import shaped
from adaptis.ids import compact
from adaptis.types import PanopticResult, Segment, Taxonomy


class MeanIoU:
    """Confusion matrix of a semantic segmentation, image by image.

    Pixels whose truth is -1 count for nothing; a prediction of -1 is a miss of the true class.
    """

    def __init__(self, num_classes: int):
        self.num_classes = num_classes
        # The last column collects predictions of -1.
        self._confusion = np.zeros((num_classes, num_classes + 1), dtype=np.int64)

    def add(self, truth: np.ndarray, prediction: np.ndarray, name: str = 'The image') -> None:
        """Count one image: class indices, integer (H, W), -1 = none.

        Raises AdaptisError if sizes differ or a class is out of range.
        """
        if truth.shape != prediction.shape:
            raise AdaptisError(f'{name}: the semantic maps have the sizes {truth.shape} and '
                               f'{prediction.shape}.')
        for values in (truth, prediction):
            if values.size and (values.min() < -1 or values.max() >= self.num_classes):
                raise AdaptisError(f'{name}: a semantic map holds classes outside of -1 to '
                                   f'{self.num_classes - 1}.')
        # One row and one column more for -1; counting all pixels is faster than choosing some.
        side = self.num_classes + 1
        cells = (truth.astype(np.int32) + 1) * side + prediction.astype(np.int32) + 1
        counts = np.bincount(cells.ravel(), minlength=side * side).reshape(side, side)
        self._confusion += np.roll(counts, -1, axis=1)[1:]

    def add_overlap(self, overlap: Overlap, taxonomy: Taxonomy) -> None:
        """Count an image by the overlaps of its segments, each of the class of its category."""
        rows, columns = (classes_of(s, taxonomy) for s in (overlap.truth, overlap.found))
        counts = np.zeros((self.num_classes + 1, self.num_classes + 1), dtype=np.int64)
        np.add.at(counts, np.ix_(rows, columns), overlap.shared)  # -1 is the last of each
        self._confusion += counts[:-1]

    def merge(self, other: MeanIoU) -> None:
        """Add the counts of ``other``."""
        self._confusion += other._confusion

    def state(self) -> dict[str, np.ndarray]:
        """Everything as arrays, for a file."""
        return {'confusion': self._confusion}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Take over what :meth:`state` gave; ValueError if it is of another shape."""
        self._confusion = shaped(state['confusion'], self._confusion)

    @property
    def pixels(self) -> int:
        """How many were counted."""
        return int(self._confusion.sum())

    @property
    def false_pixels(self) -> np.ndarray:
        """Of each class, the pixels labelled otherwise that are taken for it: int64 (C,)."""
        return self._confusion[:, :-1].sum(axis=0) - np.diagonal(self._confusion)

    def result(self) -> dict[str, Any]:
        """``miou`` over the classes that occur, ``accuracy`` of the pixels, ``per_class`` IoU.

        ``fiou`` weights the classes by their pixels.  All in [0, 1]; NaN where nothing was counted.
        """
        hits = np.diagonal(self._confusion).astype(np.float64)
        union = self._confusion.sum(axis=1) + self._confusion[:, :-1].sum(axis=0) - hits
        seen = union > 0
        iou = np.where(seen, hits / np.maximum(union, 1), np.nan)
        total = self._confusion.sum()
        return {'miou': float(iou[seen].mean()) if seen.any() else float('nan'),
                'fiou': self._frequency_weighted(iou, slice(None)),
                'accuracy': float(hits.sum() / total) if total else float('nan'),
                'per_class': iou.tolist()}

    def result_by_kind(self, taxonomy: Taxonomy) -> dict[str, Any]:
        """The same, and what stuff and things have each.

        ``stuff`` and ``things``: the mean IoU over those that occur; ``fiou_stuff``: of the pixels
        of stuff alone; ``confusion``: true kind -> kind -> share, of the pixels of a kind that are
        taken for some class.
        """
        result = self.result()
        iou = np.array(result['per_class'])
        kinds = {'stuff': slice(0, taxonomy.num_stuff),
                 'things': slice(taxonomy.num_stuff, self.num_classes)}
        for name, kind in kinds.items():
            seen = iou[kind][~np.isnan(iou[kind])]
            result[name] = float(seen.mean()) if seen.size else float('nan')
        result['fiou_stuff'] = self._frequency_weighted(iou, kinds['stuff'])
        result['confusion'] = {}
        for true, rows in kinds.items():
            pixels = {name: int(self._confusion[rows, columns].sum())
                      for name, columns in kinds.items()}
            total = sum(pixels.values())
            result['confusion'][true] = {name: count / total if total else float('nan')
                                         for name, count in pixels.items()}
        return result

    def _frequency_weighted(self, iou: np.ndarray, kind: slice) -> float:
        pixels = self._confusion[kind].sum(axis=1)
        total = pixels.sum()
        return float(np.nansum(iou[kind] * pixels) / total) if total else float('nan')


def semantic_map(result: PanopticResult, taxonomy: Taxonomy) -> np.ndarray:
    """Class index of each pixel of a panoptic result: int32 (H, W), -1 where there is none."""
    positions = compact(result.segment_map, [s.id for s in result.segments], 'The result')
    return classes_of(result.segments, taxonomy)[positions]


def classes_of(segments: Sequence[Segment], taxonomy: Taxonomy) -> np.ndarray:
    """Class index of each segment, behind -1 for no segment: int32 (1 + S,)."""
    return np.array([-1] + [taxonomy.index(s.category_id) for s in segments], dtype=np.int32)
