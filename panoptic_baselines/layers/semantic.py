"""The semantic branch of Panoptic FPN (section 3.1, figure 3)."""
from __future__ import annotations

from adaptis.errors import AdaptisError
from adaptis.runtime import mx
from panoptic_baselines.layers.norm import ConvNorm

nn = mx.gluon.nn
HybridBlock = mx.gluon.HybridBlock

JOINS = ('sum', 'concat')


class Upsample(HybridBlock):
    """(B, C, h, w) -> (B, C, scale * h, scale * w), bilinear, corners not aligned."""

    def __init__(self, scale: int = 2):
        super().__init__()
        self._kwargs = dict(scale_height=scale, scale_width=scale, align_corners=False)

    def hybrid_forward(self, F, x):
        return F.contrib.BilinearResize2D(x, **self._kwargs)


class SemanticHead(HybridBlock):
    """p2, ..., p5 (B, C, h, w) -> logits (B, num_classes, h, w) at the stride of p2.

    Each level is brought to stride 4 by steps of 3x3 convolution, group norm, ReLU and bilinear
    upsampling (p2: a convolution only); the levels are summed, or concatenated, and a 1x1
    convolution ``predictor`` follows.  Children ``p2`` to ``p5`` are sequences in which even
    members are convolutions and odd ones upsample.
    """

    def __init__(self, in_channels: int, num_classes: int, channels: int = 128,
                 join: str = 'sum', num_groups: int = 32):
        super().__init__()
        if join not in JOINS:
            raise AdaptisError(f'The semantic branch cannot join levels by "{join}": '
                               f'choose one of {list(JOINS)}.')
        self._join = join
        with self.name_scope():
            for level in range(2, 6):
                setattr(self, f'p{level}', _tower(level - 2, in_channels, channels, num_groups))
            self.predictor = nn.Conv2D(
                num_classes, 1, in_channels=channels * (4 if join == 'concat' else 1))

    def towers(self, *features):
        """p2, ..., p5 -> four maps (B, channels, h, w) at the stride of p2."""
        return [tower(x) for tower, x in zip((self.p2, self.p3, self.p4, self.p5), features)]

    def hybrid_forward(self, F, *features):
        maps = self.towers(*features)
        return self.predictor(F.concat(*maps, dim=1) if self._join == 'concat'
                              else maps[0] + maps[1] + maps[2] + maps[3])


def _tower(steps: int, in_channels: int, channels: int, num_groups: int) -> HybridBlock:
    tower = nn.HybridSequential()
    for _ in range(max(1, steps)):
        tower.add(ConvNorm(channels, in_channels, norm_kwargs={'num_groups': num_groups}))
        in_channels = channels
        if steps:
            tower.add(Upsample())
    return tower
