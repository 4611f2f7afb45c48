"""FCOS (Tian et al. 2019): from boxes and classes predicted at every location to detections.

A location is the centre of a cell of a pyramid level.  The four numbers predicted there are its
distances to the left, upper, right and lower side of the box.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Optional

import numpy as np

from adaptis.arrays import expit
from panoptic_baselines.fcos.targets import locations
from panoptic_baselines.layers.nms import nms
from panoptic_baselines.layers.topk import topk


class Candidates(NamedTuple):
    """M candidates for detections in one image.

    ``boxes`` float32 (M, 4) in pixels, not clipped to the image; ``scores`` float32 (M,);
    ``classes`` (M,); ``locations`` float32 (M, 2), (x, y); ``levels`` (M,), 0 = the finest;
    ``cells`` (M,), the number ``y * w + x`` of the location in its level.
    """

    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray
    locations: np.ndarray
    levels: np.ndarray
    cells: np.ndarray

    def take(self, rows: np.ndarray) -> Candidates:
        """Return the candidates selected by row indices or by a mask over the rows."""
        return Candidates(*(part[rows] for part in self))


def distances_to_boxes(points: np.ndarray, distances: np.ndarray) -> np.ndarray:
    """Return boxes (M, 4), given the distances (M, 4) from points (M, 2) to their sides."""
    return np.concatenate([points - distances[:, :2], points + distances[:, 2:]], axis=1)


def find_candidates(logits: Sequence[np.ndarray], distances: Sequence[np.ndarray],
                    centerness: Sequence[np.ndarray], strides: Sequence[int], *,
                    threshold: float = 0.05, per_level: int = 1000,
                    thresh_with_ctr: bool = True, sqrt_scores: bool = True) -> Candidates:
    """Return the candidates of one image, ordered by level, location and class.

    Parameters
    ----------
    logits, distances, centerness : for each level, (K, h, w), (4, h, w) in pixels, (1, h, w) logits
    strides : strides of the levels
    threshold : a candidate's probability must be above this
    per_level : maximum number of candidates to keep on each level
    thresh_with_ctr : whether to compare the product of class probability and centerness with the
        threshold, instead of the class probability; the score is the product in both cases
    sqrt_scores : whether the score is the square root of the product
    """
    found: list[Candidates] = []
    for level, (logit, distance, center, stride) in enumerate(
            zip(logits, distances, centerness, strides)):
        cells, classes, scores = _likely(logit, expit(center).ravel(), threshold, thresh_with_ctr)
        if len(scores) > per_level:
            best = np.sort(topk(scores, per_level))
            cells, classes, scores = cells[best], classes[best], scores[best]
        points = locations(logit.shape[1:], stride)[cells]
        boxes = distances_to_boxes(points, distance.reshape(4, -1)[:, cells].T)
        found.append(Candidates(boxes, np.sqrt(scores) if sqrt_scores else scores, classes, points,
                                np.full(len(cells), level), cells))
    return Candidates(*(np.concatenate(parts) for parts in zip(*found)))


def select_detections(candidates: Candidates, nms_threshold: float = 0.6,
                      limit: Optional[int] = 100) -> Candidates:
    """Return the candidates by descending score after NMS in every class.

    Candidates that tie with the ``limit``-th are kept, so there may be more than ``limit``.
    """
    keep = nms(candidates.boxes, candidates.scores, nms_threshold, candidates.classes)
    return candidates.take(keep_top_scores(candidates.scores, keep, limit))


def keep_top_scores(scores: np.ndarray, order: np.ndarray, limit: Optional[int]) -> np.ndarray:
    """Return those of ``order``, sorted by descending score, that reach score number ``limit``."""
    if limit is None or len(order) <= limit:
        return order
    return order[scores[order] >= scores[order[limit - 1]]]


def _likely(logits: np.ndarray, centerness: np.ndarray, threshold: float,
            thresh_with_ctr: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return cells, classes and scores of logits (K, h, w) above the threshold, ordered by cell."""
    flat = logits.reshape(len(logits), -1)
    # A product is at most as high as its factors, so most logits do not need a sigmoid.
    with np.errstate(divide='ignore'):
        least = np.float32(np.log(threshold) - np.log1p(-threshold) - 1e-3)
    classes, cells = np.nonzero(flat > least)
    order = np.lexsort((classes, cells))
    classes, cells = classes[order], cells[order]
    likely = expit(flat[classes, cells])
    scores = likely * centerness[cells]
    keep = (scores if thresh_with_ctr else likely) > threshold
    return cells[keep], classes[keep], scores[keep]
