"""Feature pyramid network (Lin et al. 2017)."""
from __future__ import annotations

from typing import Sequence

from adaptis.runtime import mx

nn = mx.gluon.nn
HybridBlock = mx.gluon.HybridBlock


class FPN(HybridBlock):
    """Backbone features at strides 4, 8, 16, 32 -> p2, ..., p5 at the same and p6 at stride 64.

    ``lateral2`` to ``lateral5`` are 1x1, ``output2`` to ``output5`` 3x3 convolutions with bias,
    without normalisation or ReLU; levels are joined by nearest-neighbour upsampling and a sum;
    p6 takes every second pixel of p5.  The image's sides must be multiples of 32.
    """

    def __init__(self, channels: int, in_channels: Sequence[int]):
        super().__init__()
        self._levels = range(2, 2 + len(in_channels))
        with self.name_scope():
            for level, source in zip(self._levels, in_channels):
                setattr(self, f'lateral{level}', nn.Conv2D(channels, 1, in_channels=source))
                setattr(self, f'output{level}',
                        nn.Conv2D(channels, 3, padding=1, in_channels=channels))

    def hybrid_forward(self, F, *features):
        outputs, above = [], None
        for level, x in reversed(list(zip(self._levels, features))):
            x = getattr(self, f'lateral{level}')(x)
            if above is not None:
                x = x + F.UpSampling(above, scale=2, sample_type='nearest')
            above = x
            outputs.insert(0, getattr(self, f'output{level}')(x))
        outputs.append(F.Pooling(outputs[-1], kernel=(1, 1), stride=(2, 2), pool_type='max'))
        return outputs
