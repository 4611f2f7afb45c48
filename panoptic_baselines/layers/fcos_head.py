"""The head of FCOS with the controller of CondInst (figure 3), shared by all levels."""
from __future__ import annotations

import math
from typing import Any, Mapping, Optional, Union

from adaptis.runtime import mx
from panoptic_baselines.layers.fcos import Tower

nn = mx.gluon.nn
HybridBlock = mx.gluon.HybridBlock

RARE = -math.log(99)
"""Bias at which a logit means a probability of 0.01, where a focal loss starts (RetinaNet, 4.1)."""


class FCOSHead(HybridBlock):
    """L levels (B, C, h, w) -> four lists of L maps, one after another.

    Class logits (B, num_classes, h, w), distances in strides (B, 4, h, w), centerness logits
    (B, 1, h, w), and the weights of the mask head (B, num_params, h, w).

    Parameters
    ----------
    num_classes, num_params, in_channels : see above
    levels : L
    depth : of the two towers ``cls_tower`` and ``bbox_tower``
    norm_layer, norm_kwargs : of the towers
    """

    def __init__(self, num_classes: int, num_params: int, in_channels: int, levels: int = 5,
                 depth: int = 4, norm_layer: Union[str, type] = 'GroupNorm',
                 norm_kwargs: Optional[Mapping[str, Any]] = None):
        super().__init__()
        tower = dict(channels=in_channels, in_channels=in_channels, depth=depth,
                     num_groups=math.gcd(32, in_channels), norm_layer=norm_layer,
                     norm_kwargs=norm_kwargs)
        conv = dict(kernel_size=3, padding=1, in_channels=in_channels)
        with self.name_scope():
            self.cls_tower, self.bbox_tower = Tower(**tower), Tower(**tower)
            self.cls_logits = nn.Conv2D(num_classes, bias_initializer=mx.init.Constant(RARE),
                                        **conv)
            self.bbox_pred = nn.Conv2D(4, **conv)
            self.ctrness = nn.Conv2D(1, **conv)
            self.controller = nn.Conv2D(num_params, **conv)
            self.scales = nn.HybridSequential()
            self.scales.add(*(Scale() for _ in range(levels)))

    def hybrid_forward(self, F, *features):
        outputs = [], [], [], []
        for x, scale in zip(features, self.scales):
            boxes = self.bbox_tower(x)
            for found, y in zip(outputs, (
                    self.cls_logits(self.cls_tower(x)), F.relu(scale(self.bbox_pred(boxes))),
                    self.ctrness(boxes), self.controller(boxes))):
                found.append(y)
        return sum(outputs, [])


class Scale(HybridBlock):
    """A learnt factor, 1 at first."""

    def __init__(self):
        super().__init__()
        with self.name_scope():
            self.scale = self.params.get('scale', shape=(1,), init='ones')

    def hybrid_forward(self, F, x, scale):
        return F.broadcast_mul(x, scale.reshape((1, 1, 1, 1)))
