"""Measure how much a mask depends on the click, with many points on every object.

Figure 2 of the AdaptIS paper shows that any point of an object yields its mask, but gives no
number.
"""
from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Callable

import cv2
import numpy as np

from adaptis.errors import AdaptisError
from adaptis.types import Sample

WHERE = ('uniform', 'middle', 'border')
"""Places of the clicks: anywhere on the object, or on the quarter of its pixels that is farthest
from its border, or nearest to it."""

MEASURES = ('iou', 'worst', 'found', 'agreement')
"""For the clicks on one object: mean and minimum IoU with it, fraction with an IoU above 0.5, and
mean IoU between two of the masks."""

FOUND = 0.5

Masks = Callable[[np.ndarray], np.ndarray]
"""Points (N, 2), row and column -> masks, bool (N, H, W)."""


class ClickQuality:
    """Accumulate ``MEASURES`` for each object and each of ``WHERE``."""

    def __init__(self) -> None:
        self._rows: dict[int, np.ndarray] = {}

    def add(self, image_id: int, rows: np.ndarray) -> None:
        """Add the objects of an image, as ``click_image`` returns them."""
        if image_id in self._rows:
            raise AdaptisError(f'The clicks of image {image_id} were added twice.')
        self._rows[image_id] = rows

    def merge(self, other: ClickQuality) -> None:
        """Add the images of ``other``."""
        for image_id, rows in other._rows.items():
            self.add(image_id, rows)

    def result(self) -> dict[str, Any]:
        """Return the number of ``objects``, and for each of ``WHERE`` their means, or NaN."""
        rows = self._all()
        means = {where: {name: _mean(rows[:, i, k]) for k, name in enumerate(MEASURES)}
                 for i, where in enumerate(WHERE)}
        return {'objects': len(rows), **means}

    def state(self) -> dict[str, np.ndarray]:
        """Return what ``load_state`` needs."""
        ids = sorted(self._rows)
        return {'images': np.array(ids, np.int64), 'rows': self._all(),
                'counts': np.array([len(self._rows[i]) for i in ids], np.int64)}

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Load what ``state`` returned; ValueError if it has another shape."""
        rows, counts = state['rows'], state['counts']
        if rows.shape[1:] != (len(WHERE), len(MEASURES)) or counts.sum() != len(rows):
            raise ValueError(f'clicks of shape {rows.shape}')
        parts = np.split(rows, np.cumsum(counts)[:-1])
        self._rows = dict(zip(state['images'].tolist(), parts))

    def _all(self) -> np.ndarray:
        """Return all rows in the order of the images, so that sums are reproducible."""
        empty = np.zeros((0, len(WHERE), len(MEASURES)))
        return np.concatenate([empty, *(self._rows[i] for i in sorted(self._rows))])


def click_image(masks_at: Masks, sample: Sample, count: int,
                rng: np.random.Generator) -> np.ndarray:
    """Click on every object of an image ``count`` times for each of ``WHERE``.

    Ignored objects (crowds) are skipped, and their pixels are excluded from every IoU. Returns
    float64 (objects, len(WHERE), len(MEASURES)).
    """
    valid = (sample.instances >= 0) & ~np.isin(sample.instances, list(sample.ignored))
    ids = [i for i in np.unique(sample.instances[valid]) if i > 0]
    rows = np.zeros((len(ids), len(WHERE), len(MEASURES)))
    for row, object_id in zip(rows, ids):
        truth = sample.instances == object_id
        for k, points in enumerate(click_points(truth, count, rng)):
            row[k] = _judge(masks_at(points)[:, valid], truth[valid])
    return rows


def click_points(truth: np.ndarray, count: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Return ``count`` points (row, column) of an object for each of ``WHERE``: float32 (count, 2).

    No point is repeated before all points were used once.
    """
    pixels = np.argwhere(truth)
    order = np.argsort(_depth(truth)[truth], kind='stable')
    quarter = max(1, len(pixels) // 4)
    zones = (order, order[-quarter:], order[:quarter])
    return [pixels[_draw(zone, count, rng)].astype(np.float32) for zone in zones]


def innermost_pixel(mask: np.ndarray) -> tuple[int, int]:
    """Return (x, y) of the pixel of a mask, bool (H, W), that is farthest from its border."""
    y, x = np.unravel_index(_depth(mask).argmax(), mask.shape)
    return int(x), int(y)


def _depth(mask: np.ndarray) -> np.ndarray:
    """Return the distance of each pixel to the border of a mask or of the image."""
    padded = np.pad(mask.astype(np.uint8), 1)
    return cv2.distanceTransform(padded, cv2.DIST_L2, 5)[1:-1, 1:-1]


def _draw(zone: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    decks = [rng.permutation(zone) for _ in range(-(-count // len(zone)))]
    return np.concatenate(decks)[:count]


def _judge(masks: np.ndarray, truth: np.ndarray) -> tuple[float, float, float, float]:
    """Return ``MEASURES`` for the masks of clicks on one object, bool (N, P); truth bool (P,)."""
    ious = _overlaps(masks, truth[None])[:, 0]
    between = _overlaps(masks, masks)[np.triu_indices(len(masks), 1)]
    return (float(ious.mean()), float(ious.min()), float((ious > FOUND).mean()), _mean(between))


def _overlaps(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the IoU of each mask of ``a`` with each of ``b``; 1 if both are empty."""
    a, b = a.astype(np.float32), b.astype(np.float32)   # exact up to 16 million pixels
    both = (a @ b.T).astype(np.float64)
    either = a.sum(axis=1)[:, None] + b.sum(axis=1) - both
    return np.where(either > 0, both / np.maximum(either, 1), 1.0)


def _mean(values: np.ndarray) -> float:
    return float(np.mean(values)) if len(values) else math.nan
