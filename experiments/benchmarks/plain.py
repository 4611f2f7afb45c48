"""The plain approach of the official code, for benchmarks: same parameters, same results."""
from __future__ import annotations

from adaptis.model import AdaptIS
from adaptis.model.layers import AdaIN, HybridBlock, PointConv, nn


class PlainPointConv(PointConv):
    """Repeats the features for every point, concatenates the coordinates, and convolves them."""

    def split(self) -> tuple[HybridBlock, HybridBlock]:
        """Nothing is computed once per image."""
        return nn.HybridSequential(), self

    def hybrid_forward(self, F, features, coordinates, points, weight, bias):
        repeated = F.repeat(features, repeats=points.shape[1], axis=0)
        joined = F.concat(coordinates, repeated, dim=1) if self._coordinates else repeated
        return F.Convolution(joined, weight, bias, **self._kwargs)


class PlainAdaIN(AdaIN):
    """AdaIN with mean and deviation from reductions, applied with broadcast operators."""

    def hybrid_forward(self, F, x, query):
        x = F.broadcast_sub(x, F.mean(x, axis=(2, 3), keepdims=True))
        variance = F.mean(F.square(x), axis=(2, 3), keepdims=True)
        x = F.broadcast_div(x, F.sqrt(variance + self._epsilon))
        x = F.broadcast_mul(x, self.scale(query).reshape((0, 0, 1, 1)))
        return F.broadcast_add(x, self.bias(query).reshape((0, 0, 1, 1)))


def make_plain(net: AdaptIS) -> AdaptIS:
    """Make a network compute with the plain approach; it must not be hybridized."""
    net.point_head.first.__class__ = PlainPointConv
    net.point_head.adain.__class__ = PlainAdaIN
    return net
