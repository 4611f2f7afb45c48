"""RoIAlign over a feature pyramid (Mask R-CNN, section 3; FPN, equation 1).

On a CPU, pooling is one sparse matrix product.  An output pixel is a weighted sum of a few feature
pixels, and the weights of all boxes, levels and images form one matrix.  It reads whole feature
vectors, so it is several times as fast as MXNet's operator, forwards and backwards.  On GPUs the
operator does it.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse

from adaptis.arrays import widen
from adaptis.runtime import mx
from panoptic_baselines.layers.sampling import pixels_first
from panoptic_baselines.rcnn.rois import (  # noqa: F401  (roi_levels is part of it)
    STRIDES,
    boxes_to_rois,
    replace_empty_boxes,
    roi_levels,
)


def pool_rois(features: Sequence[Any], boxes: Sequence[np.ndarray], size: int,
              strides: Sequence[int] = STRIDES) -> Any:
    """Return the features of boxes, each from the level that suits its size: (R, C, size, size).

    ``features`` are p2, ..., p5 (B, C, h, w), ``boxes`` one float32 (N, 4) in image pixels for
    each image; R counts them all.  The result is an NDArray, differentiable in the features.
    """
    features = [widen(feature) for feature in features]
    rois, levels = boxes_to_rois(boxes)
    if features[0].context.device_type == 'gpu' and len(rois):
        return _pool_by_operator(features, rois, levels, size, strides)
    return SparsePooling(rois, levels, (size, size), strides)(*features)


class RoIAlign(mx.gluon.HybridBlock):
    """One level's features (B, C, h, w), RoIs (N, 5) in its pixels -> (N, C, size, size).

    RoIs are image, x0, y0, x1, y1.  Exported networks pool with this graph.
    """

    def __init__(self, size: int):
        super().__init__()
        self._size = size

    def hybrid_forward(self, F, features, rois):
        return F.contrib.ROIAlign(features, rois, pooled_size=(self._size, self._size),
                                  spatial_scale=1.0, sample_ratio=-1, aligned=True)


class SparsePooling(mx.autograd.Function):
    """Pooling of given boxes on a CPU as a function of the features.

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
        pixels = np.concatenate([pixels_first(f.asnumpy()) for f in features])
        pooled = (self._matrix @ pixels).reshape(-1, size[0] * size[1], pixels.shape[1])
        pooled = np.ascontiguousarray(pooled.transpose(0, 2, 1))
        pooled = pooled.reshape(pooled.shape[:2] + size)
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


def pooling_matrix(shapes: Sequence[tuple[int, ...]], rois: np.ndarray, levels: np.ndarray,
                   size: tuple[int, int], strides: Sequence[int]) -> sparse.csr_matrix:
    """Return the sparse matrix (R * rows * columns, all pixels) of RoIAlign with an adaptive grid.

    Pixels are ordered by level (``shapes`` (B, C, h, w)), image, row and column.
    """
    shapes = np.array(shapes)
    heights, widths = shapes[levels, 2], shapes[levels, 3]
    before = np.cumsum([0, *(shapes[:, 0] * shapes[:, 2] * shapes[:, 3])])[levels]
    before = before + rois[:, 0].astype(np.int64) * heights * widths
    scaled = rois[:, 1:] * (1 / np.asarray(strides, np.float32))[levels, None] - np.float32(0.5)
    x = _axis_weights(scaled[:, 0], scaled[:, 2], size[1], widths)
    y = _axis_weights(scaled[:, 1], scaled[:, 3], size[0], heights)
    y_pixel = y.index * np.repeat(widths, y.per_box) + np.repeat(before, y.per_box)
    data, indices, indptr = _outer(y, y_pixel, x, len(rois), size)
    return sparse.csr_matrix((data, indices, indptr),
                             shape=(len(rois) * size[0] * size[1],
                                    int(np.sum(shapes[:, 0] * shapes[:, 2] * shapes[:, 3]))))


class AxisWeights(NamedTuple):
    """Weights of the pixels of one axis in the bins of every box, as the rows of a CSR matrix."""

    begin: np.ndarray      # (R * bins + 1,) where each bin's entries begin
    index: np.ndarray
    weight: np.ndarray
    per_box: np.ndarray    # (R,) entries


def _axis_weights(low: np.ndarray, high: np.ndarray, bins: int, sizes: np.ndarray) -> AxisWeights:
    """Average ceil(length / bins) bilinear samples per bin, 0 more than a pixel outside."""
    length = high - low
    grid = np.maximum(np.ceil(length / np.float32(bins)), 0).astype(np.int64)
    box = np.repeat(np.arange(len(low)), bins * grid)
    k = np.arange(len(box)) - np.repeat(np.cumsum(bins * grid) - bins * grid, bins * grid)
    bin_length, grid_of, last = (length / np.float32(bins))[box], grid[box], (sizes - 1)[box]
    bin_ = k // grid_of
    inside = ((k % grid_of) + np.float32(0.5)).astype(np.float32)
    at = (low[box] + bin_.astype(np.float32) * bin_length
          + inside * bin_length / grid_of.astype(np.float32))
    weight = ((at >= -1) & (at <= last + 1)) / grid_of.astype(np.float32)
    at = np.clip(at, 0, last.astype(np.float32))
    first = at.astype(np.int64)
    fraction = at - first
    rows = box * bins + bin_
    matrix = sparse.csr_matrix(
        (np.concatenate([weight * (1 - fraction), weight * fraction]).astype(np.float32),
         (np.concatenate([rows, rows]), np.concatenate([first, np.minimum(first + 1, last)]))),
        shape=(len(low) * bins, int(sizes.max(initial=1))))
    return AxisWeights(matrix.indptr, matrix.indices, matrix.data,
                       np.diff(matrix.indptr).reshape(-1, bins).sum(axis=1))


def _outer(y: AxisWeights, y_pixel: np.ndarray, x: AxisWeights, count: int,
           size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return data, indices and row starts of the matrix whose weights are products of two axes."""
    rows, columns = size
    in_y = np.repeat(np.diff(y.begin).reshape(count, rows, 1), columns, axis=2).ravel()
    in_x = np.repeat(np.diff(x.begin).reshape(count, 1, columns), rows, axis=1).ravel()
    begin_y = np.repeat(y.begin[:-1].reshape(count, rows, 1), columns, axis=2).ravel()
    begin_x = np.repeat(x.begin[:-1].reshape(count, 1, columns), rows, axis=1).ravel()
    entry_y = _ranges(begin_y, in_y)
    per_entry = np.repeat(in_x, in_y)
    entry_x = _ranges(np.repeat(begin_x, in_y), per_entry)
    data = np.repeat(y.weight[entry_y], per_entry) * x.weight[entry_x]
    indices = np.repeat(y_pixel[entry_y], per_entry) + x.index[entry_x]
    return data, indices, np.concatenate([[0], np.cumsum(in_y * in_x)])


def _ranges(begin: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Return arange(begin[0], begin[0] + count[0]), followed by the same for the others."""
    end = np.cumsum(count)
    return np.arange(end[-1] if len(end) else 0) + np.repeat(begin - (end - count), count)


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
