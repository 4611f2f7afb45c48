"""Bidirectional feature pyramid (Tan et al., EfficientDet, 2020) as CondInst uses it."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Optional, Union

from adaptis.runtime import mx
from panoptic_baselines.layers.norm import ConvNorm, make_norm

nn = mx.gluon.nn
HybridBlock = mx.gluon.HybridBlock

EPSILON = 1e-4   # keeps the normalised weights finite


class BiFPN(HybridBlock):
    """Backbone features at strides 8, 16, 32 -> p3, p4, p5 at the same strides, and coarser levels.

    The image's sides must be multiples of 32; levels beyond p5 have half the size, rounded up.

    Parameters
    ----------
    channels : number of channels of every level
    in_channels : numbers of channels of the backbone's feature maps
    repeats : how many times information passes down and up the pyramid
    top_levels : number of added levels; p6 is a 1x1 convolution ``top`` of the coarsest feature
        map, with a norm and max-pooling, and further levels are max-pooled
    norm_layer, norm_kwargs : type and options of all norms

    Children: ``repeat0``, ``repeat1``, ...  Each has the nodes that ``plan`` names; the first also
    has ``lateral0``, ``lateral1``, ..., which reduce the channels of the feature maps.
    """

    def __init__(self, channels: int, in_channels: Sequence[int], repeats: int = 6,
                 top_levels: int = 2, norm_layer: Union[str, type] = 'BatchNorm',
                 norm_kwargs: Optional[Mapping[str, Any]] = None):
        super().__init__()
        norm = dict(norm_layer=norm_layer, norm_kwargs=norm_kwargs)
        self._repeats, self._top_levels = repeats, top_levels
        with self.name_scope():
            self.top = (ConvNorm(channels, in_channels[-1], 1, relu=False, **norm)
                        if top_levels else None)
            sources = [*in_channels, *[channels] * top_levels]
            for i in range(repeats):
                setattr(self, f'repeat{i}', Repeat(channels, sources, norm))
                sources = [channels] * len(sources)

    def hybrid_forward(self, F, *features):
        maps = list(features)
        for i in range(self._top_levels):
            maps.append(_half(F, maps[-1] if i else self.top(maps[-1])))
        for i in range(self._repeats):
            maps = getattr(self, f'repeat{i}')(*maps)
        return maps


class Repeat(HybridBlock):
    """One pass over all levels of a pyramid, from top to bottom and back up."""

    def __init__(self, channels: int, in_channels: Sequence[int], norm: Mapping[str, Any]):
        super().__init__()
        self._plan = plan(len(in_channels))
        with self.name_scope():
            for i, source in enumerate(in_channels):
                if source != channels:
                    setattr(self, f'lateral{i}', Lateral(channels, source, **norm))
            for name, _, sources in self._plan:
                setattr(self, name, Node(channels, len(sources), norm))

    def hybrid_forward(self, F, *maps):
        maps = [getattr(self, f'lateral{i}')(x) if f'lateral{i}' in self._children else x
                for i, x in enumerate(maps)]
        of_level = list(range(len(maps)))
        origin = list(of_level)
        for name, level, sources in self._plan:
            maps.append(getattr(self, name)(*(
                _resize(F, maps[i], origin[i] - level, maps[level]) for i in sources)))
            origin.append(level)
            of_level[level] = len(maps) - 1
        return [maps[i] for i in of_level]


class Node(HybridBlock):
    """Maps of one size (B, C, h, w) -> their weighted mean, swish, 3x3 convolution and norm."""

    def __init__(self, channels: int, inputs: int, norm: Mapping[str, Any]):
        super().__init__()
        with self.name_scope():
            self.weights = self.params.get('weights', shape=(inputs,), init='ones')
            self.output = ConvNorm(channels, channels, relu=False, **norm)

    def hybrid_forward(self, F, *maps, weights):
        shares = F.Activation(weights, 'relu')
        shares = F.broadcast_div(shares, F.sum(shares, keepdims=True) + EPSILON)
        x = sum(F.broadcast_mul(x, F.slice_axis(shares, axis=0, begin=i, end=i + 1).reshape(
            (1, 1, 1, 1))) for i, x in enumerate(maps))
        return self.output(x * F.sigmoid(x))


class Lateral(nn.Conv2D):
    """1x1 convolution with bias, followed by a norm."""

    def __init__(self, channels: int, in_channels: int, norm_layer: Union[str, type],
                 norm_kwargs: Optional[Mapping[str, Any]]):
        super().__init__(channels, 1, in_channels=in_channels)
        with self.name_scope():
            self.norm = make_norm(norm_layer, channels, norm_kwargs)

    def hybrid_forward(self, F, x, weight, bias):
        return self.norm(super().hybrid_forward(F, x, weight, bias))


def plan(levels: int) -> list[tuple[str, int, list[int]]]:
    """Return (name, level, inputs) of each node; node numbers start after the ``levels`` inputs.

    The name 'f2_2_6_9' means a node at level 2 with the inputs 2, 6 and 9.
    """
    nodes: list[tuple[int, list[int]]] = []
    last = list(range(levels))
    for level in reversed(range(levels - 1)):
        nodes.append((level, [level, last[level + 1]]))
        last[level] = levels + len(nodes) - 1
    for level in range(1, levels):
        nodes.append((level, [*dict.fromkeys((level, last[level])), last[level - 1]]))
        last[level] = levels + len(nodes) - 1
    return [('_'.join(map(str, (f'f{level}', *inputs))), level, inputs)
            for level, inputs in nodes]


def _half(F, x):
    return F.Pooling(x, kernel=(3, 3), stride=(2, 2), pad=(1, 1), pool_type='max')


def _resize(F, x, steps: int, like):
    """Resize a map that lies ``steps`` levels above ``like`` (or below, if negative)."""
    if steps > 0:
        x = F.slice_like(F.UpSampling(x, scale=2 ** steps, sample_type='nearest'), like,
                         axes=(2, 3))
    for _ in range(-steps):
        x = _half(F, x)
    return x
