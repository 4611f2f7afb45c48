"""The bilinear upsampling of CondInst, which differs from the two usual variants."""
from __future__ import annotations

from adaptis.runtime import mx

HybridBlock = mx.gluon.HybridBlock


class AlignedUpsample(HybridBlock):
    """(B, C, h, w) -> (B, C, factor * h, factor * w), for any size from 1x1 up.

    Pixel i of the result lies at ``(i - factor // 2) / factor`` of the input, whose border values
    continue outwards.  So the corner of a cell keeps its position, not its centre: a cell of
    stride s stands for a location s // 2 pixels further in, as in FCOS.
    """

    def __init__(self, factor: int = 2):
        super().__init__()
        self._factor = factor

    def hybrid_forward(self, F, x):
        if self._factor == 1:
            return F.identity(x)
        # Two matrix products do not depend on a shape, and on a CPU beat gathering neighbours.
        y = F.dot(x, self._weights(F, x, 3), transpose_b=True).reshape((-3, 0, 0))
        rows = F.expand_dims(self._weights(F, x, 2), 0)
        y = F.batch_dot(F.broadcast_like(rows, y, lhs_axes=(0,), rhs_axes=(0,)), y)
        return F.reshape_like(y, x, lhs_begin=0, lhs_end=1, rhs_begin=0, rhs_end=2)

    def _weights(self, F, x, axis):
        """Return (factor * n, n): the weight of an axis's n pixels in each pixel of the result."""
        pixel = F.contrib.arange_like(x, axis=axis)
        at = F.stack(*(pixel + (i - self._factor // 2) / self._factor
                       for i in range(self._factor)), axis=1).reshape((-1, 1))
        at = F.broadcast_minimum(F.relu(at), F.max(pixel).reshape((1, 1)))
        return F.relu(1 - F.abs(F.broadcast_sub(at, pixel.reshape((1, -1)))))
