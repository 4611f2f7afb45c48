"""Deep layer aggregation (Yu et al. 2018): DLA-34, the backbone of the real-time detectors.

GluonCV's DLA-34 does not support frozen norms, nor synchronised norms in all layers.
"""
from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any, Optional, Union

from adaptis.errors import AdaptisError
from adaptis.runtime import mx
from panoptic_baselines.layers.norm import ConvNorm
from panoptic_baselines.layers.resnet import IMAGENET_MEAN, IMAGENET_STD

HybridBlock = mx.gluon.HybridBlock

CHANNELS = (16, 32, 64, 128, 256, 512)   # of the base and levels 0 to 5
DEPTHS = (1, 2, 2, 1)   # of the trees of levels 2 to 5


class DLA34(HybridBlock):
    """(B, 3, H, W) -> feature maps at strides 4, 8, 16, 32, with ``channels`` channels.

    ``mean`` and ``std`` (RGB) are what the ImageNet weights expect.

    Parameters
    ----------
    norm_layer, norm_kwargs : see ``layers.norm.make_norm``

    Children: ``base_layer`` (a 7x7 convolution), ``level0`` and ``level1`` (3x3 convolutions), then
    the trees ``level2`` to ``level5``.  Trees of depth 2 contain trees.  They lack the additional
    projection of the official code, because no result depends on it.
    """

    mean, std = IMAGENET_MEAN, IMAGENET_STD

    def __init__(self, norm_layer: Union[str, type] = 'BatchNorm',
                 norm_kwargs: Optional[Mapping[str, Any]] = None):
        super().__init__()
        norm = dict(norm_layer=norm_layer, norm_kwargs=norm_kwargs)
        self.channels = list(CHANNELS[2:])
        with self.name_scope():
            self.base_layer = ConvNorm(CHANNELS[0], 3, 7, **norm)
            self.level0 = ConvNorm(CHANNELS[0], CHANNELS[0], **norm)
            self.level1 = ConvNorm(CHANNELS[1], CHANNELS[0], 3, 2, **norm)
            for level, depth in enumerate(DEPTHS, 2):
                source = CHANNELS[level - 1]
                setattr(self, f'level{level}', Tree(
                    depth, CHANNELS[level], source, 2, source if level > 2 else 0, norm))

    def freeze(self, stages: int) -> None:
        """Freeze the first ``stages`` of: stem (up to level 1), level2, ..., level5.

        Raises AdaptisError if this is not a whole number from 0 to 5.
        """
        parts = [[self.base_layer, self.level0, self.level1], [self.level2], [self.level3],
                 [self.level4], [self.level5]]
        if type(stages) is not int or not 0 <= stages <= len(parts):
            raise AdaptisError(f'DLA-34 has 5 stages, so {stages} of them cannot be frozen: choose '
                               'a whole number from 0 to 5.')
        for part in itertools.chain.from_iterable(parts[:stages]):
            part.collect_params().setattr('grad_req', 'null')

    def hybrid_forward(self, F, x):
        x = self.level1(self.level0(self.base_layer(x)))
        features: list[Any] = []
        for level in (self.level2, self.level3, self.level4, self.level5):
            x = level(x)
            features.append(x)
        return features


class Tree(HybridBlock):
    """Two halves, and a ``root`` that joins their outputs with those of earlier layers.

    Parameters
    ----------
    depth : 1 = the halves are residual blocks; more = they are trees, and the second has the root
    channels, in_channels, strides : as for a block
    joined : number of channels of x, at the tree's stride, that are also input to the root
    norm : type and options of the norms
    outside : number of channels of the root's other inputs
    """

    def __init__(self, depth: int, channels: int, in_channels: int, strides: int, joined: int,
                 norm: Mapping[str, Any], outside: int = 0):
        super().__init__()
        self._strides, self._joined, leaf = strides, bool(joined), depth == 1
        with self.name_scope():
            if leaf:
                self.tree1 = Block(channels, in_channels, strides, norm)
                self.tree2 = Block(channels, channels, 1, norm)
            else:
                self.tree1 = Tree(depth - 1, channels, in_channels, strides, 0, norm)
                self.tree2 = Tree(depth - 1, channels, channels, 1, 0, norm,
                                  outside + joined + channels)
            self.root = ConvNorm(channels, 2 * channels + joined + outside, 1,
                                 **norm) if leaf else None
            self.project = ConvNorm(channels, in_channels, 1, relu=False,
                                    **norm) if leaf and in_channels != channels else None

    def hybrid_forward(self, F, x, *outside):
        below = x
        if self._strides > 1:
            below = F.Pooling(x, kernel=(self._strides,) * 2, stride=(self._strides,) * 2,
                              pool_type='max')
        if self._joined:
            outside = (*outside, below)
        if self.root is None:
            first = self.tree1(x)
            return self.tree2(first, *outside, first)
        first = self.tree1(x, self.project(below) if self.project else below)
        second = self.tree2(first, first)
        return self.root(F.concat(second, first, *outside, dim=1))


class Block(HybridBlock):
    """Two 3x3 convolutions; a second input is added to their output before the ReLU."""

    def __init__(self, channels: int, in_channels: int, strides: int, norm: Mapping[str, Any]):
        super().__init__()
        with self.name_scope():
            self.conv1 = ConvNorm(channels, in_channels, 3, strides, **norm)
            self.conv2 = ConvNorm(channels, channels, relu=False, **norm)

    def hybrid_forward(self, F, x, shortcut):
        return F.Activation(self.conv2(self.conv1(x)) + shortcut, 'relu')
