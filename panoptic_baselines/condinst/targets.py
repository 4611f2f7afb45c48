"""Turn annotated images into the batches that CondInst learns from, with NumPy only."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from adaptis.types import Sample
from panoptic_baselines.arguments import check_choice
from panoptic_baselines.batches import Batch, LearntObjects, ObjectTargets, Size, level_shapes
from panoptic_baselines.fcos.targets import (
    assign_locations,
    centerness,
    with_averages,
)

CENTERS = ('mass', 'box')


@dataclass(frozen=True)
class CondInstTargets(ObjectTargets):
    """Makes batches for CondInst.

    In addition to the arrays of ``ObjectTargets``, they contain, for the N locations of all levels:

    objects         int32 (B, N): row in ``boxes`` of the object a location belongs to, -1 = none
    labels          int16 (B, N): its class, -1 = background
    distances       float32 (B, N, 4): to its left, top, right and bottom side, in strides
    centerness      float32 (B, N): 0 on the background
    masks           uint8 (B, G, H / s, W / s): every s-th pixel of each object, s = mask_stride
    things          int16 (B, H / 8, W / 8): class of the object at every eighth pixel, -1 = none
    averages        float32 (B, 2): number of locations with an object and the sum of their
                    centerness, both averaged over the images of the whole batch, so that any part
                    of the batch has the same values

    If an image has no object, ``boxes``, ``classes`` and ``masks`` hold a placeholder that no
    location belongs to.

    Attributes
    ----------
    strides : strides of the pyramid levels
    sizes : distances at which one level ends and the next begins; one fewer than levels
    radius : see ``assign_locations``
    center : the center that an object's locations lie around: that of its pixels ('mass') or of
        its 'box'
    mask_stride : stride of the predicted masks
    things_stride : stride of the auxiliary semantic logits

    Raises AdaptisError for a ``center`` that does not exist.
    """

    with_maps: bool = False
    strides: tuple[int, ...] = (8, 16, 32, 64, 128)
    sizes: tuple[float, ...] = (64, 128, 256, 512)
    radius: float = 1.5
    center: str = 'mass'
    mask_stride: int = 4
    things_stride: int = 8

    def __post_init__(self) -> None:
        check_choice('center', self.center, CENTERS)

    @property
    def object_keys(self) -> tuple[str, ...]:
        """See ``ObjectTargets``."""
        return 'boxes', 'classes', 'masks'

    def __call__(self, samples: Sequence[Sample], rngs: Sequence[Any]) -> Batch:
        """Return the batch of ``samples``; no random number is drawn."""
        return with_averages(super().__call__(samples, rngs))

    def _extra_targets(self, objects: LearntObjects, size: Size, rng: Any) -> Batch:
        layers = (objects.layers or objects.instances).every(self.mask_stride, size)
        numbers = np.arange(1, 1 + len(objects.boxes), dtype=layers.dtype)[:, None, None]
        masks = np.zeros((len(numbers), *layers.shape[-2:]), np.uint8)
        for layer in layers.reshape(-1, *masks.shape[1:]):
            masks |= layer == numbers
        things = np.append(objects.classes, -1).astype(np.int16)[
            objects.instances.every(self.things_stride, size) - 1]
        centers = objects.centers if self.center == 'mass' else None
        return {'masks': masks, 'things': things,
                **self.assign(objects.boxes, objects.classes, centers, size)}

    def assign(self, boxes: np.ndarray, classes: np.ndarray, centers: Any,
               size: Size) -> Batch:
        """Return the targets of all locations of one image of padded ``size``."""
        shapes = level_shapes(size, self.strides)
        found = assign_locations(boxes, shapes, self.strides, self.sizes, self.radius, centers)
        stride = np.repeat(np.float32(self.strides), [h * w for h, w in shapes])
        return {'objects': found.objects.astype(np.int32),
                'labels': np.append(classes, -1)[found.objects].astype(np.int16),
                'distances': found.distances / stride[:, None],
                'centerness': centerness(found.distances)}
