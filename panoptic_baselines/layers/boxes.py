"""Boxes as NumPy arrays: float32 (N, 4), (x0, y0, x1, y1) in pixels; the width is x1 - x0."""
from __future__ import annotations

import math

import numpy as np

MAX_LOG_SCALE = math.log(1000.0 / 16)
"""A decoded box is at most exp(MAX_LOG_SCALE) times as long as the original box."""

Size = tuple[int, int]


def encode(boxes: np.ndarray, targets: np.ndarray,
           weights: tuple[float, ...] = (1, 1, 1, 1)) -> np.ndarray:
    """Return deltas (N, 4) from ``boxes`` to ``targets``: relative shifts and log scales."""
    center, size = _center_size(boxes)
    target_center, target_size = _center_size(targets)
    shift = (target_center - center) / size
    return np.concatenate([shift, np.log(target_size / size)], axis=1) * np.float32(weights)


def decode(deltas: np.ndarray, boxes: np.ndarray,
           weights: tuple[float, ...] = (1, 1, 1, 1)) -> np.ndarray:
    """Apply deltas (N, 4 * K) to ``boxes`` (N, 4) -> (N, 4 * K), one box per class.

    Sizes grow by at most ``MAX_LOG_SCALE``; nothing else is limited.
    """
    center, size = _center_size(boxes)
    deltas = deltas.reshape(len(boxes), deltas.shape[1] // 4, 4) / np.float32(weights)
    center = deltas[..., :2] * size[:, None] + center[:, None]
    scale = np.exp(np.minimum(deltas[..., 2:], np.float32(MAX_LOG_SCALE)))
    half = np.float32(0.5) * (scale * size[:, None])
    decoded = np.concatenate([center - half, center + half], axis=2)
    return decoded.reshape(len(boxes), 4 * decoded.shape[1])


def clip(boxes: np.ndarray, size: Size) -> np.ndarray:
    """Clip boxes of any shape (..., 4) to an image of ``size`` (H, W)."""
    height, width = size
    return np.clip(boxes, 0, np.array([width, height, width, height], boxes.dtype))


def nonempty(boxes: np.ndarray) -> np.ndarray:
    """Return bool (N,): which boxes have a width and a height above 0."""
    return (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])


def area(boxes: np.ndarray) -> np.ndarray:
    """Return the areas (N,) of boxes."""
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def scale(boxes: np.ndarray, source: Size, target: Size) -> np.ndarray:
    """Scale boxes of an image of size ``source`` (H, W) to the same image resized to ``target``."""
    ratio = np.float32([target[1] / source[1], target[0] / source[0]])
    return boxes * np.tile(ratio, 2)


def pairwise_iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the IoU of every pair of boxes: (N, 4), (M, 4) -> (N, M); 0 if they are disjoint.

    For the anchors of an image, computing on single coordinates in place is five times as fast.
    """
    left, top, right, bottom = a.T[:, :, None]
    other_left, other_top, other_right, other_bottom = np.ascontiguousarray(b.T)
    inter = _overlap(left, right, other_left, other_right)
    inter *= _overlap(top, bottom, other_top, other_bottom)
    union = area(a)[:, None] + area(b)[None]
    union -= inter
    iou = np.zeros(inter.shape, np.float32)
    return np.divide(inter, union, out=iou, where=inter > 0, casting='same_kind')


def _overlap(low: np.ndarray, high: np.ndarray, other_low: np.ndarray,
             other_high: np.ndarray) -> np.ndarray:
    length = np.minimum(high, other_high)
    length -= np.maximum(low, other_low)
    return np.maximum(length, 0, out=length)


def _center_size(boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    size = boxes[:, 2:] - boxes[:, :2]
    return boxes[:, :2] + np.float32(0.5) * size, size
