"""Select boxes from the outputs of the RPN and the box head, with NumPy."""
from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from panoptic_baselines.layers.boxes import Size, clip, decode, nonempty
from panoptic_baselines.layers.nms import nms
from panoptic_baselines.layers.topk import topk

BOX_WEIGHTS = (10.0, 10.0, 5.0, 5.0)
"""Weights of the box head's deltas; the RPN's deltas are not weighted."""


class Proposals(NamedTuple):
    """Boxes (N, 4) by descending objectness, with ``logits`` and ``levels`` (0 = p2), both (N,)."""

    boxes: np.ndarray
    logits: np.ndarray
    levels: np.ndarray


class Detections(NamedTuple):
    """Boxes (N, 4) by descending score; ``scores``, ``classes``, ``rows`` of the RoIs, all (N,)."""

    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray
    rows: np.ndarray


def propose(logits: Sequence[np.ndarray], deltas: Sequence[np.ndarray],
            anchors: Sequence[np.ndarray], size: Size, *, per_level: int = 1000,
            limit: int = 1000, threshold: float = 0.7) -> Proposals:
    """Return the proposals of one image from the RPN's outputs.

    Parameters
    ----------
    logits, deltas : for each level, (A, h, w) and (4 * A, h, w)
    anchors : for each level, (h * w * A, 4)
    size : (H, W) of the image without its padding, to which boxes are clipped
    per_level, limit, threshold : see ``select_proposals``; training uses 2000 per level
    """
    candidates = []
    for logit, delta, anchor in zip(logits, deltas, anchors):
        score = logit.transpose(1, 2, 0).ravel()
        best = topk(score, per_level)
        cell, kind = best // len(logit), best % len(logit)
        delta = delta.reshape(len(logit), 4, -1)[kind, :, cell]
        candidates.append((decode(delta, anchor[best]), score[best]))
    return select_proposals(*zip(*candidates), size, limit, threshold)


def select_proposals(boxes: Sequence[np.ndarray], logits: Sequence[np.ndarray], size: Size,
                     limit: int = 1000, threshold: float = 0.7) -> Proposals:
    """Return the best ``limit`` boxes after NMS on each level.

    ``threshold`` is the IoU threshold of NMS.  Boxes are clipped to the image first; those that are
    not finite or become empty are dropped.
    """
    kept = []
    for level, (box, logit) in enumerate(zip(boxes, logits)):
        finite = np.isfinite(box).all(axis=1) & np.isfinite(logit)
        box, logit = clip(box[finite], size), logit[finite]
        left = nonempty(box)
        box, logit = box[left], logit[left]
        keep = nms(box, logit, threshold)
        kept.append((box[keep], logit[keep], np.full(len(keep), level)))
    proposals = Proposals(*(np.concatenate(arrays) for arrays in zip(*kept)))
    best = np.argsort(-proposals.logits, kind='stable')[:limit]
    return Proposals(*(array[best] for array in proposals))


def detect(logits: np.ndarray, deltas: np.ndarray, proposals: np.ndarray, size: Size, *,
           score_threshold: float = 0.05, nms_threshold: float = 0.5,
           limit: int = 100) -> Detections:
    """Return the detections of one image from the box head's outputs.

    Parameters
    ----------
    logits, deltas : (R, K + 1), the background last, and (R, 4 * K)
    proposals : (R, 4)
    size : (H, W) of the image without its padding
    """
    rows, classes, scores = _likely(softmax(logits), score_threshold)
    deltas = deltas.reshape(len(logits), -1, 4)[rows, classes]
    boxes = decode(deltas, proposals[rows], BOX_WEIGHTS)
    return _select(boxes, scores, classes, rows, size, nms_threshold, limit)


def select_detections(boxes: np.ndarray, probabilities: np.ndarray, size: Size, *,
                      score_threshold: float = 0.05, nms_threshold: float = 0.5,
                      limit: int = 100) -> Detections:
    """Return the best boxes of all classes: (R, 4 * K), (R, K + 1) -> at most ``limit`` detections.

    Boxes are clipped to the image.  Those above ``score_threshold`` go through NMS in each class,
    with the IoU threshold ``nms_threshold``.
    """
    rows, classes, scores = _likely(probabilities, score_threshold)
    boxes = boxes.reshape(len(probabilities), -1, 4)[rows, classes]
    return _select(boxes, scores, classes, rows, size, nms_threshold, limit)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return probabilities over the last axis."""
    exponent = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponent / exponent.sum(axis=-1, keepdims=True)


def _likely(probabilities: np.ndarray,
            threshold: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return rows, classes and scores above the threshold, without the background."""
    rows, classes = np.nonzero(probabilities[:, :-1] > threshold)
    return rows, classes, probabilities[rows, classes]


def _select(boxes: np.ndarray, scores: np.ndarray, classes: np.ndarray, rows: np.ndarray,
            size: Size, threshold: float, limit: int) -> Detections:
    boxes = clip(boxes, size)
    finite = np.flatnonzero(np.isfinite(boxes).all(axis=1))
    keep = finite[nms(boxes[finite], scores[finite], threshold, classes[finite], limit)]
    return Detections(boxes[keep], scores[keep], classes[keep], rows[keep])
