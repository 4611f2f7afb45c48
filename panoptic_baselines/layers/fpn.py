"""Feature pyramid network (Lin et al. 2017)."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

from adaptis.errors import AdaptisError
from adaptis.runtime import mx

nn = mx.gluon.nn
HybridBlock = mx.gluon.HybridBlock

TOPS = ('pool', 'p6p7', None)


class FPN(HybridBlock):
    """Backbone features at strides 4, 8, 16, 32 -> p2, ..., p5 at these strides, coarser levels.

    ``lateral2`` to ``lateral5`` are 1x1 convolutions and ``output2`` to ``output5`` are 3x3
    convolutions, all with bias and without norm or ReLU.  Nearest-neighbour upsampling and a sum
    join the levels.  If a size is odd, the size of the coarser level is rounded up.

    Parameters
    ----------
    channels : number of channels of every level
    in_channels : numbers of channels of the feature maps, the last at stride 32; pass three of them
        for p3, p4, p5
    top : 'pool' adds p6, every second pixel of p5; 'p6p7' adds two 3x3 convolutions of stride 2,
        ``p6`` of p5 and ``p7`` of p6 after a ReLU; None adds nothing
    """

    def __init__(self, channels: int, in_channels: Sequence[int], top: Optional[str] = 'pool'):
        super().__init__()
        if top not in TOPS:
            raise AdaptisError(f'A pyramid has no top {top!r}: choose one of {TOPS}.')
        self._levels, self._top = range(6 - len(in_channels), 6), top
        with self.name_scope():
            for level, source in zip(self._levels, in_channels):
                setattr(self, f'lateral{level}', nn.Conv2D(channels, 1, in_channels=source))
                setattr(self, f'output{level}',
                        nn.Conv2D(channels, 3, padding=1, in_channels=channels))
            if top == 'p6p7':
                self.p6, self.p7 = (nn.Conv2D(channels, 3, 2, 1, in_channels=channels)
                                    for _ in range(2))

    def hybrid_forward(self, F, *features):
        outputs, above = [], None
        for level, x in reversed(list(zip(self._levels, features))):
            x = getattr(self, f'lateral{level}')(x)
            if above is not None:
                above = F.UpSampling(above, scale=2, sample_type='nearest')
                x = x + F.slice_like(above, x, axes=(2, 3))   # where a side of x is odd
            above = x
            outputs.insert(0, getattr(self, f'output{level}')(x))
        return outputs + self._coarser(F, outputs[-1])

    def _coarser(self, F, x):
        if self._top == 'pool':
            return [F.Pooling(x, kernel=(1, 1), stride=(2, 2), pool_type='max')]
        if self._top is None:
            return []
        x = self.p6(x)
        return [x, self.p7(F.Activation(x, 'relu'))]
