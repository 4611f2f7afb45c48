"""Squeeze-and-excitation (Hu et al. 2018)."""
from __future__ import annotations

from adaptis.errors import AdaptisError
from adaptis.runtime import mx

nn = mx.gluon.nn
HybridBlock = mx.gluon.HybridBlock


class SqueezeExcitation(HybridBlock):
    """Scales each channel by a factor from 0 to 1 that depends on all channels' means.

    The shape (B, C, h, w) stays the same.  Two layers ``fc1`` (C / ``reduction``, ReLU) and ``fc2``
    (C, sigmoid), with biases, compute the factors.
    Raises AdaptisError if fewer than one hidden channel would be left.
    """

    def __init__(self, channels: int, reduction: int = 16):
        super().__init__()
        if not 1 <= reduction <= channels:
            raise AdaptisError(f'reduction is {reduction} but must be from 1 to the {channels} '
                               'channels.')
        with self.name_scope():
            self.fc1 = nn.Dense(channels // reduction, activation='relu', in_units=channels)
            self.fc2 = nn.Dense(channels, in_units=channels // reduction)

    def gate(self, F, x):
        """Return (B, C): the factor of each channel."""
        means = F.Pooling(x, kernel=(1, 1), global_pool=True, pool_type='avg')
        return F.sigmoid(self.fc2(self.fc1(means)))

    def hybrid_forward(self, F, x):
        return F.broadcast_mul(x, self.gate(F, x).reshape((0, 0, 1, 1)))
