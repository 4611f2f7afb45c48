"""Training targets of dense detections at every location (Hou et al. 2020, section 4.1).

They are computed with NumPy only.  A location belongs to the object whose mask it lies on.  In
FCOS, it belongs to an object whose box contains it.  With box supervision only (section 5.6), the
smallest box around the location replaces the mask.  Boxes in this file end at the centre of their
last pixel: (x0, y0, last column, last row).
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Callable, NamedTuple, Union

import numpy as np

from adaptis.data.resize import SampledMap
from adaptis.types import Sample
from panoptic_baselines.arguments import check_choice
from panoptic_baselines.batches import Batch, LearntObjects, ObjectTargets, Size, level_shapes
from panoptic_baselines.fcos.targets import (
    Assignment,
    Shape,
    boxes_to_distances,
    centerness,
    largest,
    locations,
    with_averages,
)

STRIDES = (8, 16, 32, 64, 128)
SIZES = (64, 128, 256, 512)
"""m_1, ..., m_4 of equation 9.  The paper does not give them, so these are the values of FCOS.

m_0 is 0 and m_5 is infinite.
"""
LEVELNESS_STRIDE = 4
SUPERVISION = ('masks', 'boxes')

ObjectLookup = Callable[[np.ndarray], np.ndarray]
"""Points (N, 2), (x, y) -> the index (N,) of the object at each, -1 = none."""


@dataclass(frozen=True)
class DenseDetectionsTargets(ObjectTargets):
    """Makes batches for dense detections.

    In addition to the arrays of ``ObjectTargets``, they contain, for the N locations of all levels:

    objects         int32 (B, N): row in ``boxes`` of the object a location belongs to, -1 = none
    labels          int16 (B, N): its class, -1 = background
    distances       float32 (B, N, 4): to its left, top, right and bottom side, in pixels
    centerness      float32 (B, N): 0 on the background
    averages        float32 (B, 2): see ``CondInstTargets``
    levelness       int8 (B, H / 4, W / 4): the level that finds the object there, from 1; 0 = none
    pixels          int32 (B, H / 4 * W / 4): row of the object there, -1 = none

    Attributes
    ----------
    sizes : distances at which one level ends and the next begins; one fewer than levels
    supervision : 'masks' (section 4.1), or 'boxes': only boxes and semantic labels (section 5.6),
        where ``pixels`` refer to the smallest box

    Raises AdaptisError for a ``supervision`` that does not exist.
    """

    with_maps: bool = False
    sizes: tuple[float, ...] = SIZES
    supervision: str = 'masks'

    def __post_init__(self) -> None:
        check_choice('supervision', self.supervision, SUPERVISION)

    def __call__(self, samples: Sequence[Sample], rngs: Sequence[Any]) -> Batch:
        """Return the batch of ``samples``; no random number is drawn."""
        return with_averages(super().__call__(samples, rngs))

    def _extra_targets(self, objects: LearntObjects, size: Size, rng: Any) -> Batch:
        boxes = to_inclusive(objects.boxes)
        lookup = (lookup_by_box(boxes) if self.supervision == 'boxes'
                  else lookup_by_mask(objects.instances))
        shapes = level_shapes(size, STRIDES)
        found = assign_locations(lookup, boxes, shapes, sizes=self.sizes)
        grid, = level_shapes(size, [LEVELNESS_STRIDE])
        pixels = levelness_targets(lookup, boxes, grid, self.sizes)
        return {'objects': found.objects.astype(np.int32),
                'labels': np.append(objects.classes, -1)[found.objects].astype(np.int16),
                'distances': found.distances, 'centerness': centerness(found.distances),
                'levelness': pixels.levels.reshape(grid).astype(np.int8),
                'pixels': pixels.objects.astype(np.int32)}


class LevelnessTargets(NamedTuple):
    """Targets at every fourth pixel, (h * w,).

    ``objects`` int64, -1 = none; ``levels`` int64, the level that finds the object from there,
    counted from 1; 0 = none.
    """

    objects: np.ndarray
    levels: np.ndarray


def to_inclusive(boxes: np.ndarray) -> np.ndarray:
    """Convert boxes (G, 4) that end after their last pixel to boxes that end at its centre."""
    return boxes - np.float32([0, 0, 1, 1])


def lookup_by_mask(instances: Union[np.ndarray, SampledMap]) -> ObjectLookup:
    """Return a function that maps points (N, 2) to the object whose mask covers each, -1 = none.

    Points outside the image have no object.  ``instances`` (H, W) is 0, or an object's index + 1.
    """
    if isinstance(instances, np.ndarray):
        instances = SampledMap(instances, *map(np.arange, instances.shape))
    pixels, rows, columns = instances.pixels, instances.rows, instances.columns

    def find(points: np.ndarray) -> np.ndarray:
        x, y = points.T.astype(np.int64)
        inside = (x < len(columns)) & (y < len(rows))
        found = pixels[rows[np.minimum(y, len(rows) - 1)],
                       columns[np.minimum(x, len(columns) - 1)]].astype(np.int64)
        return np.where(inside, found - 1, -1)
    return find


def lookup_by_box(boxes: np.ndarray) -> ObjectLookup:
    """Return a function that maps points (N, 2) to the smallest box around each (appendix C).

    Points outside all boxes get -1.
    """
    width, height = (boxes[:, 2:] - boxes[:, :2]).T
    falling = np.argsort(-(width * height), kind='stable')

    def find(points: np.ndarray) -> np.ndarray:
        x, y = np.ascontiguousarray(points.T)
        owners = np.full(len(points), -1)
        for index in falling:   # the smallest comes last and stays
            left, top, right, bottom = boxes[index]
            owners[(x >= left) & (x <= right) & (y >= top) & (y <= bottom)] = index
        return owners
    return find


def assign_locations(lookup: ObjectLookup, boxes: np.ndarray, shapes: Sequence[Shape],
                     strides: Sequence[int] = STRIDES,
                     sizes: Sequence[float] = SIZES) -> Assignment:
    """Assign at most one object to every location of a pyramid (equations 8 and 9).

    Parameters
    ----------
    lookup : a function that returns the objects at points, see ``lookup_by_mask``
    boxes : (G, 4), boxes of the objects, with inclusive ends
    shapes, strides : map size (h, w) and stride of each level
    sizes : distances at which one level ends and the next begins; a location whose largest distance
        equals one of them belongs to its object on both levels
    """
    found = [_of_level(lookup, boxes, locations(shape, stride), low, high)
             for shape, stride, low, high in zip(shapes, strides, (0, *sizes), (*sizes, np.inf))]
    return Assignment(*(np.concatenate(parts) for parts in zip(*found)))


def _of_level(lookup: ObjectLookup, boxes: np.ndarray, points: np.ndarray, low: float,
              high: float) -> tuple[np.ndarray, np.ndarray]:
    objects, distances = _objects_at(lookup, boxes, points)
    furthest = largest(distances)
    objects = np.where((furthest >= low) & (furthest <= high), objects, -1)
    return objects, distances * (objects >= 0)[:, None]


def _objects_at(lookup: ObjectLookup, boxes: np.ndarray,
                points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return objects (N,), and distances (N, 4) from the points to the sides of their boxes."""
    if not len(boxes):
        return np.full(len(points), -1), np.zeros((len(points), 4), np.float32)
    objects = lookup(points)
    return objects, boxes_to_distances(points, boxes[objects]) * (objects >= 0)[:, None]


def levelness_targets(lookup: ObjectLookup, boxes: np.ndarray, shape: Shape,
                      sizes: Sequence[float] = SIZES) -> LevelnessTargets:
    """Return the targets of the levelness (section 4.2) on a grid (h, w) at stride 4.

    Where two levels find an object, the finer one counts.
    """
    objects, distances = _objects_at(lookup, boxes, locations(shape, LEVELNESS_STRIDE))
    levels = np.searchsorted(np.asarray(sizes), largest(distances)) + 1
    return LevelnessTargets(objects, np.where(objects >= 0, levels, 0))
