"""Training targets of every location of an FCOS head, with NumPy only, for data workers."""
from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Optional

import numpy as np

from panoptic_baselines.batches import Batch
from panoptic_baselines.layers.boxes import area

Shape = tuple[int, int]


class Assignment(NamedTuple):
    """The object that each of N locations belongs to, level by level.

    ``objects`` int64 (N,), -1 = background; ``distances`` float32 (N, 4) from the location to the
    left, top, right and bottom side of its object's box, in pixels, 0 on the background.
    """

    objects: np.ndarray
    distances: np.ndarray


def locations(shape: Shape, stride: int) -> np.ndarray:
    """Return the location (x, y) of every cell of a level (h, w): float32 (h * w, 2), in pixels."""
    y, x = (np.arange(count, dtype=np.float32) * stride + stride // 2 for count in shape)
    return np.stack([np.tile(x, len(y)), np.repeat(y, len(x))], axis=1)


def size_ranges(sizes: Sequence[float]) -> list[tuple[float, float]]:
    """Return the range of distances of each level; there is one more level than ``sizes``."""
    return list(zip([-1, *sizes], [*sizes, np.inf]))


def assign_locations(boxes: np.ndarray, shapes: Sequence[Shape], strides: Sequence[int],
                     sizes: Sequence[float], radius: float = 1.5,
                     centers: Optional[np.ndarray] = None) -> Assignment:
    """Assign at most one object to every location of a pyramid (FCOS; CondInst, section 2.2).

    Parameters
    ----------
    boxes : (G, 4) in pixels
    shapes, strides : map size (h, w) and stride of each level
    sizes : distances at which one level ends and the next begins; both levels include them, so
        an object may be found on two levels
    radius : a location must be less than this many strides away from the object's center, in x and
        in y, and inside its box (official code; the paper does not clip to the box); 0 = anywhere
        inside the box
    centers : (G, 2), (x, y); by default the centers of the boxes

    If several objects fit, the one whose box has the smallest area is chosen.
    """
    boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
    if centers is None:
        centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    order = np.argsort(area(boxes), kind='stable')[::-1]   # among equal areas, the first is last
    found = [_assign_level(shape, stride, boxes, limits,
                           _regions(boxes, centers, stride * radius), order)
             for shape, stride, limits in zip(shapes, strides, size_ranges(sizes))]
    return Assignment(*(np.concatenate(parts) for parts in zip(*found)))


def _assign_level(shape: Shape, stride: int, boxes: np.ndarray, limits: tuple[float, float],
                  regions: np.ndarray, order: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return objects and distances of a level; of several objects, the last in ``order`` wins."""
    rows, cells = _cells_inside(regions[order], shape, stride)
    which, points = order[rows], locations(shape, stride)
    distances = boxes_to_distances(points[cells], boxes[which])
    furthest = largest(distances)
    fits = (furthest >= limits[0]) & (furthest <= limits[1])
    objects, own = np.full(len(points), -1), np.zeros((len(points), 4), np.float32)
    objects[cells[fits]] = which[fits]
    own[cells[fits]] = distances[fits]
    return objects, own


def _cells_inside(regions: np.ndarray, shape: Shape, stride: int) -> tuple[np.ndarray, np.ndarray]:
    """Return all pairs of a region and a cell inside it, as two arrays, ordered by region."""
    (top, tall), (left, wide) = (
        _places_inside(regions[:, axis], regions[:, axis + 2], count, stride)
        for axis, count in ((1, shape[0]), (0, shape[1])))
    counts = tall * wide
    rows = np.repeat(np.arange(len(regions)), counts)
    place = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    y, x = np.divmod(place, wide[rows])
    return rows, (top[rows] + y) * shape[1] + left[rows] + x


def _places_inside(low: np.ndarray, high: np.ndarray, count: int, stride: int
                   ) -> tuple[np.ndarray, np.ndarray]:
    """Return the first location along an axis between ``low`` and ``high``, and their number."""
    places = np.arange(count, dtype=np.float32) * stride + stride // 2
    inside = (places > low[:, None]) & (places < high[:, None])
    return inside.argmax(axis=1), inside.sum(axis=1)


def boxes_to_distances(points: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Return the distances (..., 4) of points (..., 2) to the sides of boxes (..., 4)."""
    return np.concatenate([points - boxes[..., :2], boxes[..., 2:] - points], axis=-1)


def centerness(distances: np.ndarray) -> np.ndarray:
    """Return float32 (N,): 1 in the middle of a box, 0 at its sides (FCOS, equation 3).

    ``distances`` are (N, 4).  The result is 0 if a side has no length.
    """
    distances = np.asarray(distances, np.float32).reshape(-1, 4)
    near, far = distances[:, :2], distances[:, 2:]
    low, high = np.minimum(near, far), np.maximum(near, far)
    ratio = np.divide(low, high, out=np.zeros_like(low), where=high > 0)
    return np.sqrt(np.maximum(ratio[:, 0] * ratio[:, 1], 0))


def largest(distances: np.ndarray) -> np.ndarray:
    """Return the largest of each four distances (N,); NumPy's own reduction is slow here."""
    left, top, right, bottom = distances.T
    return np.maximum(np.maximum(left, top), np.maximum(right, bottom))


def _regions(boxes: np.ndarray, centers: np.ndarray, reach: float) -> np.ndarray:
    """Return the part of every box near its center."""
    if not reach:
        return boxes
    return np.concatenate([np.maximum(centers - np.float32(reach), boxes[:, :2]),
                           np.minimum(centers + np.float32(reach), boxes[:, 2:])], axis=1)


def with_averages(batch: Batch) -> Batch:
    """Add ``averages`` to the batch (see ``CondInstTargets``)."""
    if 'labels' not in batch:
        return batch
    counts: list[float] = [(batch['labels'] >= 0).sum(), batch['centerness'].sum(dtype=np.float64)]
    images = len(batch['labels'])
    return {**batch, 'averages': np.tile(np.float32(counts) / images, (images, 1))}
