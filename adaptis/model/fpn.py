"""AdaptIS with a feature pyramid (Lin et al., CVPR 2017), as in the official repository."""
from __future__ import annotations

from adaptis.model.backbones import Trunk
from adaptis.model.layers import HybridBlock, Norm, batch_norm, conv_unit, nn, resize_like
from adaptis.model.resnet import ResNetAdaptIS

LEVELS = 4


class FPNAdaptIS(ResNetAdaptIS):
    """AdaptIS on a feature pyramid; the point head and the proposals use its finest level.

    The options are those of ``ResNetAdaptIS``; images must be 65x65 or larger.
    """

    dilated = False
    min_side = 65   # the 3x3 convolutions without padding need 3x3 pixels on the coarsest level

    def _features(self, trunk: Trunk, width: int, norm: Norm) -> HybridBlock:
        return Pyramid(trunk, width, norm)

    def _semantic(self, width: int, num_classes: int, norm: Norm) -> HybridBlock:
        return SemanticFPN(width, num_classes, norm)


class Pyramid(HybridBlock):
    """(B, 3, H, W) -> maps of ``width`` channels, 4, 8, 16 and 32 times smaller than the image.

    Each level is a lateral 1x1 unit plus the resized next coarser level, without a convolution
    afterwards.

    Parameters
    ----------
    trunk : a backbone that is not dilated
    width : channels of every level
    norm : creates the normalisation layers
    """

    def __init__(self, trunk: Trunk, width: int = 256, norm: Norm = batch_norm):
        super().__init__()
        with self.name_scope():
            self.trunk = trunk
            self.lateral = nn.HybridSequential()
            for channels in trunk.channels:
                self.lateral.add(conv_unit(width, channels, kernel=1, norm=norm))

    def hybrid_forward(self, F, x):
        levels = [lateral(stage) for lateral, stage in zip(self.lateral, self.trunk(x))]
        for i in reversed(range(len(levels) - 1)):
            levels[i] = levels[i] + resize_like(F, levels[i + 1], levels[i])
        return tuple(levels)


class SemanticFPN(HybridBlock):
    """Semantic logits from a pyramid, finest level first: (B, width, h, w), ... -> (B, K, h, w).

    Level i has i 3x3 units, each followed by a resize to the next finer level; level 0, the finest,
    has one 1x1 unit.  The classifier gets the sum of all levels.  The 3x3 convolutions have no
    padding, as in the official head.
    """

    def __init__(self, width: int, num_classes: int, norm: Norm = batch_norm):
        super().__init__()
        with self.name_scope():
            self.levels = nn.HybridSequential()
            for level in range(LEVELS):
                units = nn.HybridSequential()
                for _ in range(max(level, 1)):
                    units.add(conv_unit(width, width, kernel=3 if level else 1, padding=0,
                                        norm=norm))
                self.levels.add(units)
            self.classes = nn.Conv2D(num_classes, 1, in_channels=width)

    def hybrid_forward(self, F, *maps):
        total = None
        for level, units in enumerate(self.levels):
            x = maps[level]
            for i, unit in enumerate(units):
                x = unit(x)
                if level:
                    x = resize_like(F, x, maps[level - 1 - i])
            total = x if total is None else total + x
        return self.classes(total)
