"""Sample the anchors of a pyramid, examining only those near each object.

An image of 800 x 1216 pixels has 243,000 anchors, nearly all of them far from a given object.  So
the IoU is computed only where it can reach the threshold between background and ignored, or the
best IoU of an object.  The labels equal those of ``matcher.match`` for all pairs, bit for bit.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from panoptic_baselines.layers.boxes import area, encode, pairwise_iou
from panoptic_baselines.rcnn.anchors import RATIOS, STRIDES, cell_anchors
from panoptic_baselines.rcnn.matcher import IGNORED, NEGATIVE, POSITIVE
from panoptic_baselines.rcnn.sampling import sample_balanced

Shape = tuple[int, int]
_SLACK = 1e-4
"""Relative margin: bounds are computed in double precision, but the IoU in single precision."""


class SampledAnchors(NamedTuple):
    """S anchors of an image: ``index`` int64 (S,), ascending, over all levels; ``labels`` float32
    (S,), 1 or 0; ``deltas`` float32 (S, 4), 0 for the background."""

    index: np.ndarray
    labels: np.ndarray
    deltas: np.ndarray


class AnchorGrid(NamedTuple):
    """The anchors of one ratio on one level (h, w).

    ``x`` float32 (2, w), left and right of each column; ``y`` (2, h), top and bottom of each row;
    ``size`` float64 (2,), width and height.  The anchor at (row, column) is number
    ``first + (row * w + column) * step`` of the pyramid, the order of ``pyramid_anchors``.
    """

    x: np.ndarray
    y: np.ndarray
    size: np.ndarray
    first: int
    step: int

    @property
    def count(self) -> int:
        """The number of anchors."""
        return self.x.shape[1] * self.y.shape[1]


def anchor_grids(shapes: Sequence[Shape], sizes: Sequence[float]) -> list[AnchorGrid]:
    """Return the grids of a pyramid, level by level, given the map sizes ``shapes`` (h, w)."""
    grids, first = [], 0
    for (height, width), stride, size in zip(shapes, STRIDES, sizes):
        rows, columns = (np.arange(n, dtype=np.float32) * stride for n in (height, width))
        for ratio, cell in enumerate(cell_anchors(size)):
            grids.append(AnchorGrid(columns + cell[[0, 2], None], rows + cell[[1, 3], None],
                                    (cell[2:] - cell[:2]).astype(np.float64), first + ratio,
                                    len(RATIOS)))
        first += height * width * len(RATIOS)
    return grids


def sample_anchors(grids: Sequence[AnchorGrid], gt_boxes: np.ndarray, rng: Any, count: int = 256,
                   share: float = 0.5) -> SampledAnchors:
    """Return the targets of at most ``count`` anchors of an image with objects (G, 4)."""
    labels = label_anchors(grids, gt_boxes)
    positives, negatives = sample_balanced(
        np.flatnonzero(labels == POSITIVE), np.flatnonzero(labels == NEGATIVE), count, share, rng)
    return anchor_targets(grids, positives, negatives, match_anchors(grids, positives, gt_boxes))


def label_anchors(grids: Sequence[AnchorGrid], gt_boxes: np.ndarray, positive: float = 0.7,
                  negative: float = 0.3) -> np.ndarray:
    """Return int8 (A,): POSITIVE, NEGATIVE or IGNORED, see ``matcher.match`` with ``keep_best``."""
    best = np.zeros(sum(grid.count for grid in grids), np.float32)
    sizes = np.stack([grid.size for grid in grids])
    kept = [_look_around(grids, sizes, box, best, negative) for box in gt_boxes]
    labels = np.full(len(best), IGNORED, np.int8)
    labels[best < negative] = NEGATIVE
    labels[best >= positive] = POSITIVE
    for index in kept:
        labels[index] = POSITIVE
    return labels


def match_anchors(grids: Sequence[AnchorGrid], index: np.ndarray,
                  gt_boxes: np.ndarray) -> np.ndarray:
    """Return the boxes (N, 4) that the anchors ``index`` (N,) overlap most; 0 without objects."""
    if not len(gt_boxes):
        return np.zeros((len(index), 4), np.float32)
    return gt_boxes[pairwise_iou(gt_boxes, take_anchors(grids, index)).argmax(axis=0)]


def anchor_targets(grids: Sequence[AnchorGrid], positives: np.ndarray, negatives: np.ndarray,
                   boxes: np.ndarray) -> SampledAnchors:
    """Return the targets for a given sample; ``boxes`` (P, 4) belong to the positives."""
    index = np.concatenate([positives, negatives])
    deltas = np.zeros((len(index), 4), np.float32)
    deltas[:len(positives)] = encode(take_anchors(grids, positives), boxes)
    order = np.argsort(index)
    return SampledAnchors(index[order], (order < len(positives)).astype(np.float32), deltas[order])


def take_anchors(grids: Sequence[AnchorGrid], index: np.ndarray) -> np.ndarray:
    """Return the anchors ``index`` (N,) of the pyramid, float32 (N, 4)."""
    anchors = np.empty((len(index), 4), np.float32)
    for grid in grids:
        place, other = np.divmod(index - grid.first, grid.step)
        here = np.flatnonzero((other == 0) & (place >= 0) & (place < grid.count))
        y, x = np.divmod(place[here], grid.x.shape[1])
        anchors[here, 0::2], anchors[here, 1::2] = grid.x[:, x].T, grid.y[:, y].T
    return anchors


def _look_around(grids: Sequence[AnchorGrid], sizes: np.ndarray, box: np.ndarray,
                 best: np.ndarray, negative: float) -> np.ndarray:
    """Update ``best`` (A,) with an object's IoU where it matters; return its best anchors."""
    smaller = np.minimum(sizes, (box[2:] - box[:2]).astype(np.float64))
    areas = sizes.prod(axis=1) + float(area(box[None])[0])
    bounds = smaller.prod(axis=1) / (areas - smaller.prod(axis=1))
    most, found = np.float32(0), [np.zeros(0, np.int64)]
    for k in np.argsort(-bounds):
        least = min(negative, float(most)) * (1 - _SLACK)
        if bounds[k] < least:
            break
        overlap = least / (1 + least) * areas[k]   # the smallest that reaches this IoU
        iou, index = _iou_near(grids[k], box, overlap / smaller[k, ::-1])
        if iou.size:
            best[index] = np.maximum(best[index], iou)
            highest = iou.max()
            if highest > most:
                most, found = highest, []
            if highest == most > 0:
                found.append(index[iou == highest])
    return np.concatenate(found)


def _iou_near(grid: AnchorGrid, box: np.ndarray, least: np.ndarray
              ) -> tuple[np.ndarray, np.ndarray]:
    """Return the IoU and the indices of the anchors that overlap by ``least`` along x and y."""
    wide, tall = (np.maximum(np.minimum(box[k + 2], side[1]) - np.maximum(box[k], side[0]), 0)
                  for k, side in enumerate((grid.x, grid.y)))
    columns, rows = (np.flatnonzero((length > 0) & (length >= limit))
                     for length, limit in zip((wide, tall), least))
    inter = wide[columns] * tall[rows, None]
    lengths = grid.x[1] - grid.x[0], grid.y[1] - grid.y[0]
    union = area(box[None])[0] + lengths[0][columns] * lengths[1][rows, None]
    union -= inter
    index = grid.first + grid.step * (rows[:, None] * grid.x.shape[1] + columns)
    return inter / union, index
