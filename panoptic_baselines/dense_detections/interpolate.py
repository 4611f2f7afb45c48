"""Bilinear resizing to the size of other maps, inside a graph, with align_corners=False."""
from __future__ import annotations

from adaptis.runtime import mx

HybridBlock = mx.gluon.HybridBlock


def resize_like(F, maps, like):
    """Resize maps to the size of others: (B, C, h, w), (any, any, H, W) -> (B, C, H, W).

    Output pixel i samples position (i + 1/2) * h / H - 1/2; border values continue outwards.  On a
    CPU, two matrix products and their gradients are several times as fast as MXNet's own operator.
    """
    maps_size, like_size = F.BlockGrad(maps), F.BlockGrad(like)
    wide = F.dot(maps, _weights(F, maps_size, like_size, 3), transpose_b=True).reshape((-3, 0, 0))
    rows = F.expand_dims(_weights(F, maps_size, like_size, 2), 0)
    rows = F.broadcast_like(rows, wide, lhs_axes=(0,), rhs_axes=(0,))
    return F.reshape_like(F.batch_dot(rows, wide), maps, lhs_begin=0, lhs_end=1, rhs_begin=0,
                          rhs_end=2)


def _weights(F, maps, like, axis):
    """Return (H, h): the weight of each old row (or column) in each new one."""
    old = F.contrib.arange_like(maps, axis=axis)
    new = F.contrib.arange_like(like, axis=axis)
    last = F.slice_axis(old, axis=0, begin=-1, end=None)
    ratio = (last + 1) / (F.slice_axis(new, axis=0, begin=-1, end=None) + 1)
    at = F.relu(F.broadcast_mul(new + 0.5, ratio) - 0.5)
    at = F.expand_dims(F.broadcast_minimum(at, last), 1)
    return F.relu(1 - F.abs(F.broadcast_sub(at, F.expand_dims(old, 0))))


class PyramidConv(HybridBlock):
    """A faster 3x3 convolution over pyramid levels that are resized to one size and concatenated.

    ``like`` (any, any, H, W) and features (B, C, h, w) per level -> (B, channels, H, W).

    Both steps are linear, and a 3x3 convolution is a sum of nine 1x1 convolutions whose results are
    shifted.  So each level is convolved at its own size to ``9 * channels`` maps, which are then
    resized, summed and shifted.  With few channels, this costs a tenth.  The weight has the layout
    of the joint convolution, (channels, levels * C, 3, 3).
    """

    def __init__(self, channels: int, in_channels: int, levels: int = 5):
        super().__init__()
        self._channels, self._in_channels = channels, in_channels
        with self.name_scope():
            self.weight = self.params.get('weight', shape=(channels, levels * in_channels, 3, 3))
            self.bias = self.params.get('bias', shape=(channels,), init='zeros')

    def hybrid_forward(self, F, like, *features, weight, bias):
        count = 9 * self._channels
        parts = []
        for i, x in enumerate(features):
            own = F.slice_axis(weight, axis=1, begin=i * self._in_channels,
                               end=(i + 1) * self._in_channels)
            own = F.transpose(own, (0, 2, 3, 1)).reshape((-3, -2)).reshape((-3, -1, 1, 1))
            x = F.Convolution(x, own, kernel=(1, 1), num_filter=count, no_bias=True)
            parts.append(resize_like(F, x, like))
        # Output c is the sum of its maps 9 * c + k, each shifted like tap k of a 3x3 kernel.
        shifts = F.one_hot(F.contrib.arange_like(F.tile(F.BlockGrad(bias), (9,))), count)
        shifts = F.transpose(shifts.reshape((-4, -1, 9, 0)), (0, 2, 1)).reshape((0, 0, 3, 3))
        return F.Convolution(F.add_n(*parts), shifts, bias, kernel=(3, 3), pad=(1, 1),
                             num_filter=self._channels)
