"""The semantic branch of Panoptic FPN (section 3.1, figure 3), and bilinear upsampling."""
from __future__ import annotations

from typing import Optional

from adaptis.errors import AdaptisError
from adaptis.runtime import mx
from panoptic_baselines.layers.norm import ConvNorm

nn = mx.gluon.nn
HybridBlock = mx.gluon.HybridBlock

JOINS = ('sum', 'concat')


class Upsample(HybridBlock):
    """(B, C, h, w) -> (B, C, scale * h, scale * w), bilinear, with align_corners=False.

    Parameters
    ----------
    scale : an even number
    channels : C, if known; from 32 on, a depthwise transposed convolution of the edge-padded input
        computes the same numbers several times as fast
    """

    def __init__(self, scale: int = 2, channels: Optional[int] = None):
        super().__init__()
        # Outside of training, MXNet refuses depthwise transposed convolutions of few channels.
        self._scale, self._channels = scale, channels if (channels or 0) >= 32 else None

    def hybrid_forward(self, F, x):
        scale = self._scale
        if self._channels is None:
            return F.contrib.BilinearResize2D(x, scale_height=scale, scale_width=scale,
                                              align_corners=False)
        x = F.Pad(x, mode='edge', pad_width=(0, 0, 0, 0, 1, 1, 1, 1))
        return F.Deconvolution(
            x, self._kernel(F, x), kernel=(2 * scale,) * 2, stride=(scale,) * 2,
            pad=(3 * scale // 2,) * 2, num_filter=self._channels, num_group=self._channels,
            no_bias=True)

    def _kernel(self, F, x):
        """Return (C, 1, 2 * scale, 2 * scale): a pyramid, like .25, .75, .75, .25 for scale = 2."""
        taps = [1 - abs(i + 0.5 - self._scale) / self._scale for i in range(2 * self._scale)]
        one = F.ones_like(F.BlockGrad(F.slice(x, begin=(0, None, 0, 0), end=(1, None, 1, 1))))
        one = F.transpose(one, (1, 0, 2, 3))
        row = F.concat(*(one * tap for tap in taps), dim=3)
        return F.concat(*(row * tap for tap in taps), dim=2)


class SemanticHead(HybridBlock):
    """p2, ..., p5 (B, C, h, w) -> logits (B, num_classes, h, w) at the stride of p2.

    Steps of 3x3 convolution, group norm, ReLU and bilinear upsampling bring each level to stride 4
    (p2 needs only one convolution).  The levels are summed or concatenated, and a 1x1 convolution
    ``predictor`` follows.  In the sequences ``p2`` to ``p5``, even children are convolutions and
    odd children upsample.
    """

    def __init__(self, in_channels: int, num_classes: int, channels: int = 128,
                 join: str = 'sum', num_groups: int = 32):
        super().__init__()
        if join not in JOINS:
            raise AdaptisError(f'The semantic branch cannot join its levels by "{join}": '
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
            tower.add(Upsample(2, channels))
    return tower
