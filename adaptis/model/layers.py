"""Building blocks that the networks share.

No block depends on a size, so a block is hybridized once for all image sizes and numbers of points.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Callable, Optional

from adaptis.runtime import mx

nn = mx.gluon.nn
HybridBlock = mx.gluon.HybridBlock

COORDINATES = {'relative': 3, 'absolute': 3, 'none': 0}
Norm = Callable[[int], HybridBlock]
"""Creates a normalisation layer for a number of channels."""


def batch_norm(channels: int) -> HybridBlock:
    """Return plain batch normalisation."""
    return nn.BatchNorm(in_channels=channels)


def conv_unit(channels: int, in_channels: int, kernel: int = 3, bias: bool = True,
              padding: Optional[int] = None, norm: Norm = batch_norm) -> HybridBlock:
    """Return convolution -> ReLU -> BatchNorm, in this order (official AdaptIS units).

    ``padding`` None keeps the size of the map.
    """
    unit = nn.HybridSequential()
    unit.add(nn.Conv2D(channels, kernel, padding=kernel // 2 if padding is None else padding,
                       in_channels=in_channels, use_bias=bias),
             nn.Activation('relu'),
             norm(channels))
    return unit


def conv_norm_relu(channels: int, in_channels: int, kernel: int = 1, dilation: int = 1,
                   norm: Norm = batch_norm) -> HybridBlock:
    """Return convolution without bias -> BatchNorm -> ReLU, with "same" padding (as in DeepLab)."""
    unit = nn.HybridSequential()
    unit.add(nn.Conv2D(channels, kernel, padding=kernel // 2 * dilation, dilation=dilation,
                       in_channels=in_channels, use_bias=False),
             norm(channels),
             nn.Activation('relu'))
    return unit


def separable_unit(channels: int, in_channels: int, norm: Norm = batch_norm) -> HybridBlock:
    """Return depthwise 3x3 convolution -> 1x1 convolution -> BatchNorm -> ReLU, without biases."""
    unit = nn.HybridSequential()
    unit.add(nn.Conv2D(in_channels, 3, padding=1, groups=in_channels, in_channels=in_channels,
                       use_bias=False),
             nn.Conv2D(channels, 1, in_channels=in_channels, use_bias=False),
             norm(channels),
             nn.Activation('relu'))
    return unit


def stack_separable(widths: Sequence[int], last: int, dropout: float = 0.0,
                    norm: Norm = batch_norm) -> HybridBlock:
    """Return separable units from ``widths[0]`` to ``widths[-1]`` channels and a 1x1 convolution.

    ``dropout`` is the dropout rate after the first unit in training.
    """
    layers = nn.HybridSequential()
    for source, target in zip(widths, widths[1:]):
        layers.add(separable_unit(target, source, norm))
        if dropout and len(layers) == 1:
            layers.add(nn.Dropout(dropout))
    layers.add(nn.Conv2D(last, 1, in_channels=widths[-1]))
    return layers


def stack_dense(widths: Sequence[int], norm: Norm = batch_norm) -> HybridBlock:
    """Return dense -> ReLU -> BatchNorm units, from ``widths[0]`` to ``widths[-1]`` features."""
    layers = nn.HybridSequential()
    for source, target in zip(widths, widths[1:]):
        unit = nn.HybridSequential()
        unit.add(nn.Dense(target, in_units=source), nn.Activation('relu'), norm(target))
        layers.add(unit)
    return layers


class Normalize(HybridBlock):
    """RGB images 0..255 -> (x / 255 - mean) / std, channel by channel; any shape (B, 3, H, W)."""

    def __init__(self, mean: Sequence[float], std: Sequence[float]):
        super().__init__()
        self._affine = [(1.0 / (255.0 * s), -m / s) for m, s in zip(mean, std)]

    def hybrid_forward(self, F, x):
        channels = [F.slice_axis(x, axis=1, begin=i, end=i + 1) * scale + shift
                    for i, (scale, shift) in enumerate(self._affine)]
        return F.concat(*channels, dim=1)


class SamplePoints(HybridBlock):
    """Bilinear samples of a map at points: (B, C, h, w), (B, N, 2) -> (B*N, C).

    A point is (row, col) in image pixels; ``stride`` is image pixels per map pixel.  Positions up
    to one pixel outside the map are clamped to its border, and positions further away yield 0, as
    in RoIAlign with a single sample at the point.
    """

    def __init__(self, stride: int = 1):
        super().__init__()
        self._scale = 1.0 / stride

    def hybrid_forward(self, F, feature_map, points):
        points = F.BlockGrad(points) * self._scale
        image = F.broadcast_like(
            F.contrib.arange_like(points, axis=0).reshape((-1, 1, 1)), points,
            lhs_axes=(1,), rhs_axes=(1,))
        cols_rows = F.reverse(points, axis=2)
        rois = F.concat(image, cols_rows - 0.5, cols_rows + 0.5, dim=2).reshape((-3, 0))
        return F.flatten(F.contrib.ROIAlign(
            feature_map, rois, pooled_size=(1, 1), spatial_scale=1.0, sample_ratio=1))


class CoordinateMaps(HybridBlock):
    """Coordinate features of points on the grid of a feature map (AdaptIS, section 3).

    (B, C, h, w), (B, N, 2) -> (B*N, 3, h, w): row offset, column offset and distance.  The paper
    has only the two offsets; the distance comes from the official code.  ``kind='relative'``
    measures them from the point, in units of ``radius`` image pixels, clipped to [-1, 1] (Relative
    CoordConv; the distance is computed before clipping).  ``kind='absolute'`` is plain CoordConv:
    rows and columns range from -1 to 1 over the map, and the distance is from its centre.
    """

    def __init__(self, kind: str, radius: float, stride: int = 1):
        super().__init__()
        self._kind = kind
        self._stride = stride
        self._radius = float(radius)

    def hybrid_forward(self, F, feature_map, points):
        rows = F.contrib.arange_like(feature_map, axis=2).reshape((1, 1, -1, 1))
        cols = F.contrib.arange_like(feature_map, axis=3).reshape((1, 1, 1, -1))
        points = F.BlockGrad(points).reshape((-3, 0))
        row = F.slice_axis(points, axis=1, begin=0, end=1).reshape((-1, 1, 1, 1))
        col = F.slice_axis(points, axis=1, begin=1, end=2).reshape((-1, 1, 1, 1))
        if self._kind == 'relative':
            dy = self._relative(F, rows, row)
            dx = self._relative(F, cols, col)
        else:
            dy = F.broadcast_add(self._centred(F, rows), row * 0)
            dx = F.broadcast_add(self._centred(F, cols), col * 0)
        distance = F.sqrt(F.broadcast_add(dy * dy, dx * dx))
        maps = F.concat(F.broadcast_like(dy, distance), F.broadcast_like(dx, distance), distance,
                        dim=1)
        return F.clip(maps, -1, 1)

    def _relative(self, F, grid, origin):
        return F.broadcast_sub(grid, origin / self._stride) * (self._stride / self._radius)

    @staticmethod
    def _centred(F, grid):
        half = F.max(grid) / 2
        return F.broadcast_div(F.broadcast_sub(grid, half), F.broadcast_maximum(half, half * 0 + 1))


class ResizeLike(HybridBlock):
    """``resize_like`` as a block."""

    def hybrid_forward(self, F, maps, like):
        return resize_like(F, maps, like)


def resize_like(F, maps, like):
    """Resize maps to the size of other maps: (M, C, h, w), (B, K, H, W) -> (M, C, H, W).

    Bilinear with aligned corners: output i samples position i * (h - 1) / (H - 1).  M may differ
    from B.
    """
    # The operator's gradient needs equal batch sizes, so both are reshaped to one image.
    like = F.BlockGrad(F.slice_axis(F.slice_axis(like, axis=0, begin=0, end=1),
                                    axis=1, begin=0, end=1))
    flat = F.expand_dims(maps.reshape((-3, 0, 0)), 0)
    flat = F.contrib.BilinearResize2D(flat, like, mode='like')
    return F.reshape_like(F.squeeze(flat, axis=0), maps, lhs_begin=0, lhs_end=1, rhs_begin=0,
                          rhs_end=2)


class PointConv(HybridBlock):
    """3x3 convolution of concat(coordinates, features), without building that concatenation.

    A convolution is linear in its input channels.  So the contribution of the features is computed
    once per image, and only that of the coordinates once per point: (B, C, h, w), (B*N, K, h, w),
    (B, N, 2) -> (B*N, channels, h, w), equal to convolving [coordinates, features] up to rounding.
    The weights keep the layout of the joint convolution, coordinates first.
    """

    def __init__(self, channels: int, in_channels: int, coordinates: int):
        super().__init__()
        self._coordinates = coordinates
        self._kwargs = dict(kernel=(3, 3), pad=(1, 1), num_filter=channels)
        with self.name_scope():
            shape = channels, coordinates + in_channels, 3, 3
            self.weight = self.params.get('weight', shape=shape)
            self.bias = self.params.get('bias', shape=(channels,), init='zeros')

    def split(self) -> tuple[HybridBlock, HybridBlock]:
        """Return blocks ``share`` and ``add`` for the contributions, with the same parameters.

        ``share(features)`` runs once per image; ``add(share(features), coordinates, points)``
        equals the whole layer.
        """
        return _FeatureShare(self), _CoordinateShare(self)

    def hybrid_forward(self, F, features, coordinates, points, weight, bias):
        return self.add_coordinates(F, self.convolve_features(F, features, weight, bias),
                                    coordinates, points, weight)

    def convolve_features(self, F, features, weight, bias):
        """Return the contribution of the features: (B, C, h, w) -> (B, channels, h, w)."""
        weight = F.slice_axis(weight, axis=1, begin=self._coordinates, end=None)
        return F.Convolution(features, weight, bias, **self._kwargs)

    def add_coordinates(self, F, per_image, coordinates, points, weight):
        """Add the contribution of the coordinates to the features: (B*N, channels, h, w)."""
        repeated = repeat_per_point(F, per_image, points)
        if not self._coordinates:
            return repeated
        # Not ``+``, which is ``broadcast_add`` for arrays and copies them from oneDNN's layout.
        return F.elemwise_add(self.convolve_coordinates(F, coordinates, weight), repeated)

    def convolve_coordinates(self, F, coordinates, weight):
        """Return the contribution of the coordinates: (B*N, K, h, w) -> (B*N, channels, h, w)."""
        weight = F.slice_axis(weight, axis=1, begin=0, end=self._coordinates)
        return F.Convolution(coordinates, weight, no_bias=True, **self._kwargs)


class _FeatureShare(HybridBlock):
    def __init__(self, whole: PointConv):
        super().__init__(params=whole.params)
        self._convolve = whole.convolve_features
        self.weight, self.bias = self.params.get('weight'), self.params.get('bias')

    def hybrid_forward(self, F, features, weight, bias):
        return self._convolve(F, features, weight, bias)


class _CoordinateShare(HybridBlock):
    def __init__(self, whole: PointConv):
        super().__init__(params=whole.params)
        self._convolve = whole.convolve_coordinates if whole._coordinates else None
        if self._convolve:
            self.weight = self.params.get('weight')

    def hybrid_forward(self, F, per_image, coordinates, points, weight=None):
        if self._convolve is None:
            return repeat_per_point(F, per_image, points)
        return F.broadcast_add(self._convolve(F, coordinates, weight), per_image)


def repeat_per_point(F, per_image, points):
    """Repeat the maps of images for each point: (B, C, h, w), (B, N, 2) -> (B*N, C, h, w)."""
    if is_eager_training(F):
        return _repeat_eagerly(F, per_image, points.shape[1])
    return F.broadcast_like(F.expand_dims(per_image, 1), points, lhs_axes=(1,),
                            rhs_axes=(1,)).reshape((-3, 0, 0, 0))


def _repeat_eagerly(F, per_image, times: int):
    """Do the same by concatenation, whose gradient is a sum: four times as fast on a CPU."""
    images = [per_image]
    if len(per_image) > 1:
        images = F.split(per_image, num_outputs=len(per_image), axis=0)
    return F.concat(*[image for image in images for _ in range(times)], dim=0)


def is_eager_training(F) -> bool:
    """Return whether a block runs imperatively inside ``autograd.record``."""
    return F is mx.nd and mx.autograd.is_training()


class AdaIN(HybridBlock):
    """Adaptive instance normalisation (AdaptIS, section 3, Figure 4).

    (P, C, h, w), (P, Q) -> (P, C, h, w): every channel of every point is normalised to zero mean
    and unit standard deviation over the map.  Then it is multiplied by a scale and shifted by a
    bias, which two dense layers compute from the query of the point.

    Parameters
    ----------
    epsilon
        Added to the variance.  The official code has none (0), so a constant channel, for instance
        after a dead ReLU, turns the mask into NaN.
    """

    def __init__(self, channels: int, query_channels: int, epsilon: float = 1e-5):
        super().__init__()
        self._epsilon = epsilon
        with self.name_scope():
            self.scale = nn.Dense(channels, in_units=query_channels, bias_initializer='ones')
            self.bias = nn.Dense(channels, in_units=query_channels)

    def hybrid_forward(self, F, x, query):
        scale, bias = self.scale(query), self.bias(query)
        if is_eager_training(F):
            return self._by_batch_norm(F, x, scale, bias)
        # Sums as matrix products are as fast as LayerNorm and, unlike its naive sum, accurate.  A
        # rank-1 product adds a number to every row in half the time of a broadcast operator.
        flat = x.reshape((-3, -3))
        ones = F.ones_like(F.BlockGrad(F.slice_axis(flat, axis=0, begin=0, end=1)).reshape((-1,)))
        pixel_share, row = 1 / F.sum(ones), F.expand_dims(ones, 0)
        mean = F.broadcast_mul(F.dot(flat, ones), pixel_share)
        flat = F.linalg.gemm(F.expand_dims(mean, 1), row, flat, alpha=-1.0)
        variance = F.broadcast_mul(F.dot(F.square(flat), ones), pixel_share) + self._epsilon
        scale = F.expand_dims(scale.reshape((-1,)) / F.sqrt(variance), 1)
        bias = F.expand_dims(bias.reshape((-1,)), 1)
        return F.reshape_like(F.linalg.gemm(bias, row, F.broadcast_mul(flat, scale)), x)

    def _by_batch_norm(self, F, x, scale, bias):
        """Do the same with the BatchNorm kernel, whose gradient is twice as fast on a CPU."""
        shape = x.shape
        flat = x.reshape((1, -1) + shape[2:])
        unused = F.zeros((flat.shape[1],), ctx=x.context)
        flat = F.BatchNorm(flat, scale.reshape((-1,)), bias.reshape((-1,)), unused, unused.copy(),
                           eps=self._epsilon, fix_gamma=False)
        return flat.reshape(shape)


def stack_units(widths: Sequence[int], kernel: int = 3, last: Optional[int] = None,
                norm: Norm = batch_norm) -> HybridBlock:
    """Return units from ``widths[0]`` to ``widths[-1]`` channels, and 1x1 to ``last``."""
    layers = nn.HybridSequential()
    for source, target in zip(widths, widths[1:]):
        layers.add(conv_unit(target, source, kernel, norm=norm))
    if last is not None:
        layers.add(nn.Conv2D(last, 1, in_channels=widths[-1]))
    return layers
