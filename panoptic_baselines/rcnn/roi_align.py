"""RoIAlign over a feature pyramid (Mask R-CNN, section 3; FPN, equation 1).

On a CPU, pooling is one sparse matrix product (see ``sparse_pooling``), several times as fast as
MXNet's operator, forward and backward.  On GPUs, MXNet's operator is used.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from adaptis.arrays import widen
from adaptis.runtime import mx
from panoptic_baselines.rcnn.rois import (  # noqa: F401  (roi_levels is part of it)
    STRIDES,
    boxes_to_rois,
    replace_empty_boxes,
    roi_levels,
)
from panoptic_baselines.rcnn.sparse_pooling import pool_with_matrix, pooling_matrix


def pool_rois(features: Sequence[Any], boxes: Sequence[np.ndarray], size: int,
              strides: Sequence[int] = STRIDES) -> Any:
    """Pool the features of each box from the level that suits its size: (R, C, size, size).

    ``features`` are p2, ..., p5 (B, C, h, w), ``boxes`` one float32 (N, 4) in image pixels for
    each image; R is the number of all boxes.  The result is an NDArray, differentiable in the
    features.
    """
    features = [widen(feature) for feature in features]
    rois, levels = boxes_to_rois(boxes)
    if features[0].context.device_type == 'gpu' and len(rois):
        return _pool_by_operator(features, rois, levels, size, strides)
    return SparsePooling(rois, levels, (size, size), strides)(*features)


class RoIAlign(mx.gluon.HybridBlock):
    """Features (B, C, h, w) of one level, RoIs (N, 5) in its pixels -> (N, C, size, size).

    RoIs are image, x0, y0, x1, y1.  Exported networks pool with this graph.
    """

    def __init__(self, size: int):
        super().__init__()
        self._size = size

    def hybrid_forward(self, F, features, rois):
        return F.contrib.ROIAlign(features, rois, pooled_size=(self._size, self._size),
                                  spatial_scale=1.0, sample_ratio=-1, aligned=True)


class SparsePooling(mx.autograd.Function):
    """Pools given boxes on a CPU, as a differentiable function of the features.

    Parameters
    ----------
    rois : float32 (R, 5): image, x0, y0, x1, y1
    levels : int (R,)
    size : (rows, columns) of the output
    strides : of the levels
    """

    def __init__(self, rois: np.ndarray, levels: np.ndarray, size: tuple[int, int],
                 strides: Sequence[int]):
        super().__init__()
        self._arguments = rois, levels, size, strides
        self._matrix, self._shapes = None, []

    def forward(self, *features):
        size = self._arguments[2]
        self._shapes = [f.shape for f in features]
        self._matrix = pooling_matrix(self._shapes, *self._arguments)
        pooled = pool_with_matrix(self._matrix, [f.asnumpy() for f in features], size)
        context = features[0].context
        if context == mx.cpu(0):
            return mx.nd.from_numpy(pooled)   # without a copy, and only there
        return mx.nd.array(pooled, ctx=context)

    def backward(self, gradient):
        flat = gradient.asnumpy().reshape(gradient.shape[:2] + (-1,))
        flat = np.ascontiguousarray(flat.transpose(0, 2, 1)).reshape(-1, flat.shape[1])
        pixels = self._matrix.T @ flat
        gradients, begin = [], 0
        for b, c, h, w in self._shapes:
            part = pixels[begin:begin + b * h * w].reshape(b, h * w, c).transpose(0, 2, 1)
            gradients.append(mx.nd.array(part.reshape(b, c, h, w), ctx=gradient.context))
            begin += b * h * w
        return tuple(gradients)


def _pool_by_operator(features: Sequence[Any], rois: np.ndarray, levels: np.ndarray, size: int,
                      strides: Sequence[int]) -> Any:
    """Pool with ``contrib.ROIAlign``, level by level; it must not see an empty box."""
    ctx = features[0].context
    rois, flat = replace_empty_boxes(rois)
    parts: list[Any] = []
    for level, (feature, stride) in enumerate(zip(features, strides)):
        chosen = rois[levels == level]
        if len(chosen):
            parts.append(mx.nd.contrib.ROIAlign(
                feature, mx.nd.array(chosen, ctx=ctx), pooled_size=(size, size),
                spatial_scale=1 / stride, sample_ratio=-1, aligned=True))
    pooled = mx.nd.concat(*parts, dim=0)
    back = np.argsort(np.argsort(levels, kind='stable'), kind='stable')
    pooled = mx.nd.take(pooled, mx.nd.array(back, ctx=ctx))
    return pooled * mx.nd.array(~flat, ctx=ctx).reshape((-1, 1, 1, 1)) if flat.any() else pooled
