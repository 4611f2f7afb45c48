"""The head of FCOS with the controller of CondInst (figure 3), shared by all levels."""
from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Optional, Union

from adaptis.runtime import mx
from panoptic_baselines.layers.norm import make_norm

nn = mx.gluon.nn
HybridBlock = mx.gluon.HybridBlock

PRIOR_BIAS = -math.log(99)
"""Bias that gives a logit the prior probability 0.01 of the focal loss (RetinaNet, section 4.1)."""


class FCOSHead(HybridBlock):
    """L levels (B, C, h, w) -> a flat list of four times L maps.

    These are class logits (B, num_classes, h, w), distances in strides (B, 4, h, w), centerness
    logits (B, 1, h, w), and the weights of the mask head (B, num_params, h, w).

    Parameters
    ----------
    num_classes, num_params : see above
    in_channels : C
    levels : L
    depth : number of convolutions in each of ``cls_tower`` and ``bbox_tower``
    share_depth : number of convolutions in ``share_tower``, which precedes both
    norm_layer, norm_kwargs : norm of the towers: 'GroupNorm', or a batch normalisation with one
        norm per level, see ``PerLevelNormTower``
    """

    def __init__(self, num_classes: int, num_params: int, in_channels: int, levels: int = 5,
                 depth: int = 4, share_depth: int = 0,
                 norm_layer: Union[str, type] = 'GroupNorm',
                 norm_kwargs: Optional[Mapping[str, Any]] = None):
        super().__init__()

        def tower(depth):
            if norm_layer == 'GroupNorm':
                return Tower(in_channels, in_channels, depth, math.gcd(32, in_channels),
                             norm_kwargs=norm_kwargs)
            return PerLevelNormTower(in_channels, depth, levels, norm_layer, norm_kwargs)
        conv = dict(kernel_size=3, padding=1, in_channels=in_channels)
        with self.name_scope():
            self.share_tower, self.cls_tower, self.bbox_tower = (
                tower(share_depth), tower(depth), tower(depth))
            self.cls_logits = nn.Conv2D(num_classes, bias_initializer=mx.init.Constant(PRIOR_BIAS),
                                        **conv)
            self.bbox_pred = nn.Conv2D(4, **conv)
            self.ctrness = nn.Conv2D(1, **conv)
            self.controller = nn.Conv2D(num_params, **conv)
            self.scales = nn.HybridSequential()
            self.scales.add(*(Scale() for _ in range(levels)))

    def hybrid_forward(self, F, *features):
        outputs = [], [], [], []
        for level, (x, scale) in enumerate(zip(features, self.scales)):
            x = _run(self.share_tower, x, level)
            classes, boxes = (_run(tower, x, level) for tower in (self.cls_tower, self.bbox_tower))
            for found, y in zip(outputs, (
                    self.cls_logits(classes), F.relu(scale(self.bbox_pred(boxes))),
                    self.ctrness(boxes), self.controller(boxes))):
                found.append(y)
        return [y for found in outputs for y in found]


class Tower(nn.HybridSequential):
    """``depth`` times a 3x3 convolution with bias, a norm and ReLU, on (B, C, h, w).

    Children 0, 3, 6, ... are convolutions and 1, 4, 7, ... are norms, as in the official towers.

    Parameters
    ----------
    channels, in_channels : output channels of all convolutions, input channels of the first one
    depth : number of convolutions; 0 = an empty tower
    num_groups : number of groups of the group normalisation
    norm_layer, norm_kwargs : a different normalisation, see ``layers.norm.make_norm``
    """

    def __init__(self, channels: int, in_channels: int, depth: int = 4, num_groups: int = 32,
                 norm_layer: Union[str, type] = 'GroupNorm',
                 norm_kwargs: Optional[Mapping[str, Any]] = None):
        super().__init__()
        if norm_layer == 'GroupNorm':
            norm_kwargs = {'num_groups': num_groups, **(norm_kwargs or {})}
        with self.name_scope():
            for _ in range(depth):
                self.add(nn.Conv2D(channels, 3, padding=1, in_channels=in_channels),
                         make_norm(norm_layer, channels, norm_kwargs),
                         nn.Activation('relu'))
                in_channels = channels


class PerLevelNormTower(nn.HybridSequential):
    """``depth`` times a 3x3 convolution with bias, batch normalisation and ReLU, on (B, C, h, w).

    Children 0, 3, 6, ... are convolutions that all levels share.  Children 1, 4, 7, ... are
    sequences of one norm per level, because the levels' statistics differ.
    """

    def __init__(self, channels: int, depth: int, levels: int, norm_layer: Union[str, type],
                 norm_kwargs: Optional[Mapping[str, Any]] = None):
        super().__init__()
        with self.name_scope():
            for _ in range(depth):
                norms = nn.HybridSequential()
                norms.add(*(make_norm(norm_layer, channels, norm_kwargs)
                            for _ in range(levels)))
                self.add(nn.Conv2D(channels, 3, padding=1, in_channels=channels), norms,
                         nn.Activation('relu'))


def _run(tower: nn.HybridSequential, x: Any, level: int) -> Any:
    for layer in tower:
        x = (layer[level] if isinstance(layer, nn.HybridSequential) else layer)(x)
    return x


class Scale(HybridBlock):
    """A learned factor that starts at 1."""

    def __init__(self):
        super().__init__()
        with self.name_scope():
            self.scale = self.params.get('scale', shape=(1,), init='ones')

    def hybrid_forward(self, F, x, scale):
        return F.broadcast_mul(x, scale.reshape((1, 1, 1, 1)))
