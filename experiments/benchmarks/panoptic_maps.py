"""Drawn panoptic data: maps like those of COCO, and images of their size."""
from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from adaptis.data.coco_categories import COCO_TAXONOMY
from adaptis.ids import MAX_ID
from adaptis.types import PanopticResult, Segment

Size = tuple[int, int]
STUFF, THINGS = 8, 14
"""Segments per image; COCO has 11 on average, and up to about 90."""


class MapPair(NamedTuple):
    """The ground truth of an image, a prediction, and the crowds of the ground truth."""

    truth: PanopticResult
    found: PanopticResult
    crowd: frozenset[int]


def draw_pair(rng: np.random.Generator, size: Size) -> MapPair:
    """Draw regions of stuff with curved things in front, and a shifted copy as the prediction."""
    height, width = size
    shapes = [_Shape(rng, size) for _ in range(THINGS)]
    seeds = rng.uniform(0, 1, (STUFF, 2)) * (height, width)
    truth = _draw(rng, size, seeds, shapes)
    moved = [shape.moved(rng, size) for shape in shapes if rng.uniform() < 0.9]
    found = _draw(rng, size, seeds + rng.normal(0, 0.02 * height, seeds.shape), moved)
    things = [s.id for s in truth.segments if s.isthing]
    return MapPair(truth, found, frozenset(things[:1]))


def draw_picture(rng: np.random.Generator, size: Size) -> np.ndarray:
    """Draw an image with edges, gradients and noise: uint8 (H, W, 3)."""
    coarse = rng.integers(0, 256, (size[0] // 40 + 2, size[1] // 40 + 2, 3)).astype(np.uint8)
    image = cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC).astype(np.int16)
    for _ in range(THINGS):
        _Shape(rng, size).fill(image, rng.integers(0, 256, 3).tolist())
    return np.clip(image + rng.normal(0, 6, image.shape), 0, 255).astype(np.uint8)


class _Shape:
    """Return a polygon with 24 corners around a point."""

    def __init__(self, rng: np.random.Generator, size: Size):
        self.center = rng.uniform(0, 1, 2) * size[::-1]
        self.radius = rng.uniform(0.04, 0.25) * size[0] * rng.uniform(0.6, 1.3, 24)

    def moved(self, rng: np.random.Generator, size: Size) -> _Shape:
        other = _Shape(rng, size)
        other.center = self.center + rng.normal(0, 0.01 * size[0], 2)
        other.radius = self.radius * rng.uniform(0.9, 1.1, 24)
        return other

    def fill(self, image: np.ndarray, value: Sequence[float]) -> None:
        angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
        corners = self.center + self.radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)
        cv2.fillPoly(image, [np.rint(corners).astype(np.int32)], value)


def _draw(rng: np.random.Generator, size: Size, seeds: np.ndarray,
          shapes: Sequence[_Shape]) -> PanopticResult:
    rows, columns = np.mgrid[:size[0]:8, :size[1]:8]
    nearest = ((rows[..., None] - seeds[:, 0]) ** 2
               + (columns[..., None] - seeds[:, 1]) ** 2).argmin(axis=2)
    index = cv2.resize((nearest + 1).astype(np.int16), size[::-1],
                       interpolation=cv2.INTER_NEAREST)
    for k, shape in enumerate(shapes, start=1 + STUFF):
        shape.fill(index, [k])
    index[index == 1] = 0   # void
    areas = np.bincount(index.ravel(), minlength=1 + STUFF + len(shapes))
    ids = np.r_[0, rng.choice(np.arange(1, MAX_ID), len(areas) - 1, replace=False)]
    kinds = {False: [c for c in COCO_TAXONOMY.categories if not c.isthing],
             True: [c for c in COCO_TAXONOMY.categories if c.isthing]}
    segments = []
    for k in range(2, len(areas)):
        category = kinds[k > STUFF][k * 7 % (8 if k > STUFF else 50)]
        if areas[k]:
            segments.append(Segment(int(ids[k]), category.id, category.isthing, 1.0,
                                    int(areas[k]), category.name))
    return PanopticResult(ids[index].astype(np.int32), segments)
