"""Mean intersection over union of semantic segmentation, streaming."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from adaptis.errors import AdaptisError
from adaptis.evaluation.overlap import Overlap
from adaptis.evaluation.shards import check_like
from adaptis.ids import relabel_ids
from adaptis.types import PanopticResult, Segment, Taxonomy


class MeanIoU:
    """Confusion matrix of a semantic segmentation, image by image.

    Pixels whose ground truth is -1 are ignored; a prediction of -1 is a miss of the true class.
    """

    def __init__(self, num_classes: int):
        self.num_classes = num_classes
        # The last column collects predictions of -1.
        self._confusion = np.zeros((num_classes, num_classes + 1), dtype=np.int64)

    def add(self, truth: np.ndarray, prediction: np.ndarray, name: str = 'The image') -> None:
        """Add one image: class indices, integer (H, W), -1 = none.

        Raises AdaptisError if sizes differ or a class is out of range.
        """
        if truth.shape != prediction.shape:
            raise AdaptisError(f'{name}: the semantic maps have the sizes {truth.shape} and '
                               f'{prediction.shape}.')
        for values in (truth, prediction):
            if values.size and (values.min() < -1 or values.max() >= self.num_classes):
                raise AdaptisError(f'{name}: a semantic map contains classes outside the range -1 '
                                   f'to {self.num_classes - 1}.')
        # An extra row and column for -1, because counting all pixels is faster than selecting some.
        side = self.num_classes + 1
        cells = (truth.astype(np.int32) + 1) * side + prediction.astype(np.int32) + 1
        counts = np.bincount(cells.ravel(), minlength=side * side).reshape(side, side)
        self._confusion += np.roll(counts, -1, axis=1)[1:]

    def add_overlap(self, overlap: Overlap, taxonomy: Taxonomy) -> None:
        """Add an image from the overlaps of its segments, each with the class of its category."""
        rows, columns = (segment_classes(s, taxonomy) for s in (overlap.truth, overlap.found))
        counts = np.zeros((self.num_classes + 1, self.num_classes + 1), dtype=np.int64)
        np.add.at(counts, np.ix_(rows, columns), overlap.shared)  # -1 is the last row and column
        self._confusion += counts[:-1]

    def merge(self, other: MeanIoU) -> None:
        """Add the counts of ``other``."""
        self._confusion += other._confusion

    def state(self) -> dict[str, np.ndarray]:
        """Return the state as arrays, for a file."""
        return {'confusion': self._confusion}

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Restore what :meth:`state` returned; ValueError if it has another shape."""
        self._confusion = check_like(state['confusion'], self._confusion)

    @property
    def pixels(self) -> int:
        """The number of pixels that were counted."""
        return int(self._confusion.sum())

    @property
    def false_pixels(self) -> np.ndarray:
        """For each class, the pixels of other classes predicted as this class: int64 (C,)."""
        return self._confusion[:, :-1].sum(axis=0) - np.diagonal(self._confusion)

    def result(self) -> dict[str, Any]:
        """Return ``miou`` over the classes that occur, pixel ``accuracy``, and ``per_class`` IoU.

        ``fiou`` weights the classes by their pixels.  Values are in [0, 1]; NaN where nothing was
        counted.
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
        """Return the same values, and those of stuff and of things.

        ``stuff`` and ``things``: the mean IoU over the classes that occur; ``fiou_stuff``: ``fiou``
        of the stuff classes; ``confusion``: true type -> predicted type -> fraction of the pixels,
        without those that got no class.
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
    """Return the class index of each pixel of a panoptic result: int32 (H, W), -1 = none."""
    positions = relabel_ids(result.segment_map, [s.id for s in result.segments], 'The result')
    return segment_classes(result.segments, taxonomy)[positions]


def segment_classes(segments: Sequence[Segment], taxonomy: Taxonomy) -> np.ndarray:
    """Return the class index of each segment after a -1 for no segment: int32 (1 + S,)."""
    return np.array([-1] + [taxonomy.index(s.category_id) for s in segments], dtype=np.int32)
