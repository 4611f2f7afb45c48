"""Cheap validation during training: IoU of the masks of fixed points on fixed images."""
from __future__ import annotations

from typing import Any, Dict, List, Sequence

import numpy as np

from adaptis.config import ValidationConfig
from adaptis.data.batches import BatchSource
from adaptis.errors import AdaptisError
from adaptis.runtime import mx
from adaptis.types import Sample


class FirstSamples:
    """The first ``count`` samples of a data set."""

    def __init__(self, dataset: Sequence[Sample], count: int):
        self._dataset = dataset
        self._count = min(count, len(dataset))

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Sample:
        return self._dataset[index]


class PointValidation:
    """Call it with a network to get ``{'iou', 'semantic_accuracy'}``.

    The points are drawn once, object by object, and stay the same for the whole run; the images
    are taken as they are stored.
    """

    def __init__(self, dataset: Sequence[Sample], config: ValidationConfig, context: Any):
        self._source = BatchSource(FirstSamples(dataset, config.images), batch_size=1,
                                   points=config.points, shuffle=False)
        self._context = context

    def __call__(self, net: Any) -> Dict[str, float]:
        ious: List[float] = []
        right = counted = 0
        for step in range(len(self._source)):
            batch = self._source.batch(step)
            image, points = (mx.nd.array(batch[key], ctx=self._context, dtype='float32')
                             for key in ('image', 'points'))
            instances, semantic = net(image, points)[:2]
            ious += _ious(instances.asnumpy() > 0, batch['instances'])
            labels = batch['semantic']
            valid = labels >= 0
            right += int(((semantic.asnumpy().argmax(axis=1) == labels) & valid).sum())
            counted += int(valid.sum())
        if not ious:
            raise AdaptisError('The validation images hold no object: raise validation.images.')
        return {'iou': float(np.mean(ious)), 'semantic_accuracy': right / max(counted, 1)}


def _ious(predicted: np.ndarray, target: np.ndarray) -> List[float]:
    """IoU of every mask, (M, 1, H, W) bool and {1, 0, -1}; masks that are all ignored are left out.
    """
    result = []
    for mask, truth in zip(predicted, target):
        valid = truth >= 0
        if valid.any():
            union = ((mask | (truth > 0)) & valid).sum()
            result.append(float((mask & (truth > 0)).sum() / max(union, 1)))
    return result
