"""Mean intersection over union of semantic segmentation, streaming."""
from __future__ import annotations

from typing import Any

import numpy as np

from adaptis.errors import AdaptisError
from adaptis.evaluation.segments import compact
from adaptis.types import PanopticResult, Taxonomy


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
            if ((values < -1) | (values >= self.num_classes)).any():
                raise AdaptisError(f'{name}: a semantic map holds classes outside of -1 to '
                                   f'{self.num_classes - 1}.')
        valid = truth >= 0
        columns = np.where(prediction < 0, self.num_classes, prediction)[valid].astype(np.int64)
        cells = truth[valid] * np.int64(self.num_classes + 1) + columns
        counts = np.bincount(cells, minlength=self._confusion.size)
        self._confusion += counts.reshape(self._confusion.shape)

    def merge(self, other: MeanIoU) -> None:
        """Add the counts of ``other``."""
        self._confusion += other._confusion

    def result(self) -> dict[str, Any]:
        """``miou`` over the classes that occur, ``accuracy`` of the pixels, ``per_class`` IoU.

        All in [0, 1]; NaN where nothing was counted.
        """
        hits = np.diagonal(self._confusion).astype(np.float64)
        union = self._confusion.sum(axis=1) + self._confusion[:, :-1].sum(axis=0) - hits
        seen = union > 0
        iou = np.where(seen, hits / np.maximum(union, 1), np.nan)
        total = self._confusion.sum()
        return {'miou': float(iou[seen].mean()) if seen.any() else float('nan'),
                'accuracy': float(hits.sum() / total) if total else float('nan'),
                'per_class': iou.tolist()}


def semantic_map(result: PanopticResult, taxonomy: Taxonomy) -> np.ndarray:
    """Class index of each pixel of a panoptic result: int32 (H, W), -1 where there is none."""
    positions = compact(result.segment_map, [s.id for s in result.segments], 'The result')
    classes = [-1] + [taxonomy.index(s.category_id) for s in result.segments]
    return np.array(classes, dtype=np.int32)[positions]
