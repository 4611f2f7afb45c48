"""Sample the proposals that a training step learns from."""
from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from panoptic_baselines.layers.boxes import pairwise_iou
from panoptic_baselines.rcnn.matcher import NEGATIVE, POSITIVE, match


def sample_balanced(positives: np.ndarray, negatives: np.ndarray, count: int, share: float,
                    rng: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return at most ``count`` of the given indices; at most ``share`` of them are positives.

    ``rng`` is a NumPy generator or ``numpy.random`` itself.
    """
    some = _choose(positives, int(count * share), rng)
    return some, _choose(negatives, count - len(some), rng)


def _choose(indices: np.ndarray, count: int, rng: Any) -> np.ndarray:
    return indices[rng.permutation(len(indices))[:count]]


class RoITargets(NamedTuple):
    """The sampled RoIs of an image, foreground first.

    ``index`` (R,) into the proposals with the ground-truth boxes appended; ``boxes`` (R, 4);
    ``classes`` (R,), background = the number of classes; ``gt`` (R,), index of the ground truth
    that each overlaps most (0 if there is none).
    """

    index: np.ndarray
    boxes: np.ndarray
    classes: np.ndarray
    gt: np.ndarray


def sample_rois(proposals: np.ndarray, gt_boxes: np.ndarray, gt_classes: np.ndarray,
                num_classes: int, rng: Any, count: int = 512, share: float = 0.25,
                positive: float = 0.5) -> RoITargets:
    """Sample from the proposals (P, 4) of an image and its ground-truth boxes (G, 4).

    The ground truth is added to the proposals, so that there are positives from the beginning.
    """
    boxes = np.concatenate([proposals, gt_boxes]).astype(np.float32)
    index, labels = match(pairwise_iou(gt_boxes, boxes), positive)
    positives, negatives = sample_balanced(
        np.flatnonzero(labels == POSITIVE), np.flatnonzero(labels == NEGATIVE), count, share, rng)
    chosen = np.concatenate([positives, negatives])
    classes = np.full(len(chosen), num_classes, np.int64)
    classes[:len(positives)] = gt_classes[index[positives]]
    return RoITargets(chosen, boxes[chosen], classes, index[chosen])
