"""AdaptIS with DeepLabV3+ features (Chen et al., ECCV 2018), for Cityscapes, Vistas and COCO."""
from __future__ import annotations

from collections.abc import Sequence

from adaptis.model.backbones import Trunk
from adaptis.model.layers import (
    HybridBlock,
    Norm,
    batch_norm,
    conv_norm_relu,
    nn,
    resize_like,
    separable_unit,
    stack_separable,
)
from adaptis.model.resnet import ResNetAdaptIS

ASPP_RATES = 12, 24, 36
ASPP_DROPOUT = 0.5
SKIP_CHANNELS = 32


class DeepLabAdaptIS(ResNetAdaptIS):
    """AdaptIS on DeepLabV3+ features; the options are those of ``ResNetAdaptIS``."""

    dilated = True

    def _features(self, trunk: Trunk, width: int, norm: Norm) -> HybridBlock:
        return DeepLabFeatures(trunk, width, norm)

    def _semantic(self, width: int, num_classes: int, norm: Norm) -> HybridBlock:
        middle = width * 3 // 4
        return stack_separable([width, middle, middle], last=num_classes, norm=norm)


class DeepLabFeatures(HybridBlock):
    """DeepLabV3+ without its classifier: (B, 3, H, W) -> (B, width, about H / 4, about W / 4).

    Parameters
    ----------
    trunk : a dilated backbone
    width : channels of the result and of the branches of ASPP
    norm : creates the normalisation layers
    """

    def __init__(self, trunk: Trunk, width: int = 256, norm: Norm = batch_norm):
        super().__init__()
        with self.name_scope():
            self.trunk = trunk
            self.aspp = ASPP(trunk.channels[-1], width, norm=norm)
            self.skip = conv_norm_relu(SKIP_CHANNELS, trunk.channels[0], norm=norm)
            self.join = nn.HybridSequential()
            self.join.add(separable_unit(width, width + SKIP_CHANNELS, norm),
                          separable_unit(width, width, norm),
                          nn.Conv2D(width, 1, in_channels=width))

    def hybrid_forward(self, F, x):
        first, *_, last = self.trunk(x)
        skip = self.skip(first)
        return self.join(F.concat(resize_like(F, self.aspp(last), skip), skip, dim=1))


class ASPP(HybridBlock):
    """Atrous spatial pyramid pooling: (B, in_channels, h, w) -> (B, channels, h, w).

    The branches are a 1x1 convolution, one 3x3 convolution for each dilation in ``rates``, and the
    mean of the map.  They are concatenated in this order and projected.
    """

    def __init__(self, in_channels: int, channels: int, rates: Sequence[int] = ASPP_RATES,
                 dropout: float = ASPP_DROPOUT, norm: Norm = batch_norm):
        super().__init__()
        with self.name_scope():
            self.branches = nn.HybridSequential()
            self.branches.add(conv_norm_relu(channels, in_channels, norm=norm))
            for rate in rates:
                self.branches.add(conv_norm_relu(channels, in_channels, 3, rate, norm))
            self.pool = nn.GlobalAvgPool2D()
            self.pooled = conv_norm_relu(channels, in_channels, norm=norm)
            self.project = conv_norm_relu(channels, (len(rates) + 2) * channels, norm=norm)
            self.dropout = nn.Dropout(dropout)

    def hybrid_forward(self, F, x):
        branches = [branch(x) for branch in self.branches]
        pooled = F.broadcast_like(self.pooled(self.pool(x)), branches[0], lhs_axes=(2, 3),
                                  rhs_axes=(2, 3))
        return self.dropout(self.project(F.concat(*branches, pooled, dim=1)))
