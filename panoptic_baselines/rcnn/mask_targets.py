"""Targets of the mask head: ground-truth masks, cropped to boxes and resized."""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pycocotools import mask as coco

Polygons = Sequence[Sequence[float]]


def polygon_targets(polygons: Sequence[Polygons], boxes: np.ndarray, size: int = 28) -> np.ndarray:
    """Return masks (P, size, size) of objects given as polygons [x0, y0, x1, y1, ...].

    ``boxes`` (P, 4) has one box per object.  The polygons are shifted and scaled to the box before
    they are rasterised (as in detectron2).
    """
    targets = [_draw(object_, box.astype(np.float64), size)
               for object_, box in zip(polygons, boxes)]
    return np.array(targets, np.float32).reshape(-1, size, size)


def _draw(polygons: Polygons, box: np.ndarray, size: int) -> np.ndarray:
    scale = size / np.maximum(box[2:] - box[:2], 0.1)
    moved = [((np.reshape(p, (-1, 2)) - box[:2]) * scale).ravel().tolist() for p in polygons]
    if not moved:
        return np.zeros((size, size), bool)
    return coco.decode(coco.merge(coco.frPyObjects(moved, size, size))).astype(bool)


def bitmap_targets(instances: np.ndarray, ids: np.ndarray, boxes: np.ndarray,
                   size: int = 28) -> np.ndarray:
    """Return masks (P, size, size) of the objects ``ids`` (P,) of an id map (H, W).

    ``boxes`` (P, 4) has one box per object.  A pixel is set where RoIAlign of the object's mask is
    at least 0.5 (as in detectron2).  RoIAlign is separable into rows and columns, so it takes two
    small matrices per box.  ``instances`` may also be layers (L, H, W), with each object complete
    in one layer.
    """
    targets = [_align(instances, id_, box, size) >= 0.5 for id_, box in zip(ids, boxes)]
    return np.array(targets, np.float32).reshape(-1, size, size)


def _align(instances: np.ndarray, id_: int, box: np.ndarray, size: int) -> np.ndarray:
    (rows, top), (cols, left) = (
        _weights(box[i], box[i + 2], length, size)
        for i, length in ((1, instances.shape[-2]), (0, instances.shape[-1])))
    part = instances[..., top:top + rows.shape[1], left:left + cols.shape[1]] == id_
    part = part.reshape(-1, *part.shape[-2:]).any(axis=0)
    return rows @ part.astype(np.float64) @ cols.T


def _weights(low: float, high: float, length: int, size: int) -> list:
    """Return a matrix (size, n), the weight of n pixels in each bin, and the first of them."""
    low, extent = float(low) - 0.5, float(high) - float(low)
    samples = int(np.ceil(extent / size))
    if samples <= 0:
        return [np.zeros((size, 1)), 0]
    at = low + extent / size * (np.arange(size * samples) + 0.5) / samples
    inside = (at >= -1) & (at <= length)
    at = np.clip(at, 0, length - 1)
    below = np.minimum(at.astype(int), max(length - 2, 0))
    first = int(below.min())
    weights = np.zeros((size * samples, int(below.max()) - first + 2))
    rows = np.arange(size * samples)
    share = at - below
    weights[rows, below - first] = (1 - share) * inside
    weights[rows, below - first + 1] += share * inside
    weights = weights.reshape(size, samples, -1).mean(axis=1)
    return [weights[:, :length - first], first]
