"""The plain semantic branch of CondInst (section 2.5)."""
from __future__ import annotations

from adaptis.runtime import mx
from panoptic_baselines.layers.semantic import Upsample

nn = mx.gluon.nn


class PlainSemanticHead(mx.gluon.HybridBlock):
    """p2, ..., p5 (B, C, h, w) -> logits (B, num_classes, h, w) at the stride of p2.

    In the paper (section 2.5), the coarser levels are upsampled, all levels are concatenated, and a
    1x1 convolution follows.  This block computes the same result in a fraction of the time: each
    level passes its part of that convolution (``p2`` to ``p5``), and the results are upsampled and
    summed.
    """

    def __init__(self, in_channels: int, num_classes: int):
        super().__init__()
        with self.name_scope():
            for i in range(4):
                setattr(self, f'p{i + 2}', nn.Conv2D(num_classes, 1, use_bias=not i,
                                                     in_channels=in_channels))
                if i:
                    setattr(self, f'upsample{i + 2}', Upsample(2 ** i, num_classes))

    def hybrid_forward(self, F, p2, p3, p4, p5):
        return (self.p2(p2) + self.upsample3(self.p3(p3)) + self.upsample4(self.p4(p4))
                + self.upsample5(self.p5(p5)))
