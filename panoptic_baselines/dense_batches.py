"""Annotated images -> what dense detections learn from, in NumPy alone."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from adaptis.errors import AdaptisError
from adaptis.types import Sample
from panoptic_baselines.batches import Batch, ObjectTargets
from panoptic_baselines.condinst_batches import with_averages
from panoptic_baselines.layers.dense_targets import (
    LEVELNESS_STRIDE,
    SIZES,
    STRIDES,
    assign_owned,
    find_pixels,
    inclusive,
    owners_by_box,
    owners_by_mask,
)
from panoptic_baselines.layers.fcos_targets import centerness

SUPERVISION = ('masks', 'boxes')


@dataclass(frozen=True)
class DenseTargets(ObjectTargets):
    """Batches for dense detections, which hold besides, for the N locations of all levels:

    objects         int32 (B, N): row in ``boxes`` of the object a location belongs to, -1 = none
    labels          int16 (B, N): its class, -1 = background
    distances       float32 (B, N, 4): left, top, right, bottom to its sides, in pixels
    centerness      float32 (B, N): 0 on the background
    averages        float32 (B, 2): see ``CondInstTargets``
    levelness       int8 (B, H / 4, W / 4): level that finds the object there, from 1; 0 = none
    pixels          int32 (B, H / 4 * W / 4): row of the object there, -1 = none

    Attributes
    ----------
    sizes : distances where one level hands over to the next, one less than levels
    supervision : 'masks' (section 4.1), or 'boxes': with them, and the semantic labels, alone
        (section 5.6); ``pixels`` are then those of the smallest box

    Raises AdaptisError for a ``supervision`` that does not exist.
    """

    sizes: tuple[float, ...] = SIZES
    supervision: str = 'masks'

    def __post_init__(self) -> None:
        if self.supervision not in SUPERVISION:
            raise AdaptisError(f'There is no supervision "{self.supervision}": choose one of '
                               f'{list(SUPERVISION)}.')

    def __call__(self, samples: Sequence[Sample], rngs: Sequence[Any]) -> Batch:
        """The batch of some samples; nothing is drawn."""
        return with_averages(super().__call__(samples, rngs))

    def _extra(self, item: Batch, size: tuple[int, int], rng: Any) -> Batch:
        boxes = inclusive(item['boxes'])
        owners = (owners_by_box(boxes) if self.supervision == 'boxes'
                  else owners_by_mask(item['instances']))
        shapes = [_shape(size, stride) for stride in STRIDES]
        found = assign_owned(owners, boxes, shapes, sizes=self.sizes)
        grid = _shape(size, LEVELNESS_STRIDE)
        pixels = find_pixels(owners, boxes, grid, self.sizes)
        return {'objects': found.objects.astype(np.int32),
                'labels': np.append(item['classes'], -1)[found.objects].astype(np.int16),
                'distances': found.distances, 'centerness': centerness(found.distances),
                'levelness': pixels.levels.reshape(grid).astype(np.int8),
                'pixels': pixels.objects.astype(np.int32)}


def _shape(size: tuple[int, int], stride: int) -> tuple[int, int]:
    return -(-size[0] // stride), -(-size[1] // stride)
