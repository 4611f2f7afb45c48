"""The image-level branches of CondInst: mask features (section 2.1) and auxiliary semantics."""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Optional, Union

from adaptis.runtime import mx
from panoptic_baselines.condinst.aligned import AlignedUpsample
from panoptic_baselines.fcos.head import PRIOR_BIAS
from panoptic_baselines.layers.norm import ConvNorm

nn = mx.gluon.nn
HybridBlock = mx.gluon.HybridBlock

# The initial values in the official code for 1x1 convolutions without a rule of their own.
_PLAIN = mx.init.Xavier('uniform', 'in', 1)


class MaskBranch(HybridBlock):
    """p3, p4, p5 (B, C, h, w) -> features (B, out_channels, h, w) at the stride of p3.

    A 3x3 convolution refines each level (``refine``).  The coarser levels are upsampled and added
    to the first one.  Then follows ``tower``: ``depth`` 3x3 convolutions and a 1x1 convolution to
    the output.

    Parameters
    ----------
    in_channels, out_channels : see above
    channels, depth : number of channels, and number, of the 3x3 convolutions
    levels : number of input levels
    norm_layer, norm_kwargs : the norm after every convolution except the last
    """

    def __init__(self, in_channels: int, out_channels: int = 8, channels: int = 128,
                 depth: int = 4, levels: int = 3, norm_layer: Union[str, type] = 'BatchNorm',
                 norm_kwargs: Optional[Mapping[str, Any]] = None):
        super().__init__()
        norm = dict(norm_layer=norm_layer, norm_kwargs=norm_kwargs)
        with self.name_scope():
            self.refine, self.tower, self.upsample = (nn.HybridSequential() for _ in range(3))
            for level in range(levels):
                self.refine.add(ConvNorm(channels, in_channels, **norm))
                self.upsample.add(AlignedUpsample(2 ** level))
            self.tower.add(*(ConvNorm(channels, channels, **norm) for _ in range(depth)))
            self.tower.add(nn.Conv2D(out_channels, 1, in_channels=channels,
                                     weight_initializer=_PLAIN,
                                     bias_initializer=mx.init.Uniform(channels ** -0.5)))

    def hybrid_forward(self, F, *features):
        parts = list(zip(features, self.refine, self.upsample))
        total = parts[0][1](parts[0][0])
        for x, refine, upsample in parts[1:]:
            total = total + upsample(refine(x))
        return self.tower(total)


class ThingsHead(HybridBlock):
    """p3 (B, C, h, w) -> independent logits (B, num_classes, h, w) of the things.

    Used only in training.  It consists of two 3x3 convolutions ``seg_head`` and a 1x1 convolution
    ``logits``.
    """

    def __init__(self, num_classes: int, in_channels: int, channels: int = 128,
                 norm_layer: Union[str, type] = 'BatchNorm',
                 norm_kwargs: Optional[Mapping[str, Any]] = None):
        super().__init__()
        norm = dict(norm_layer=norm_layer, norm_kwargs=norm_kwargs)
        with self.name_scope():
            self.seg_head = nn.HybridSequential()
            self.seg_head.add(ConvNorm(channels, in_channels, **norm),
                              ConvNorm(channels, channels, **norm))
            self.logits = nn.Conv2D(num_classes, 1, in_channels=channels,
                                    weight_initializer=_PLAIN,
                                    bias_initializer=mx.init.Constant(PRIOR_BIAS))

    def hybrid_forward(self, F, x):
        return self.logits(self.seg_head(x))
