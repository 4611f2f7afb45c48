"""The dense instance affinity head (Li, Qi, Torr 2020, section 3.4.2)."""
from __future__ import annotations

from adaptis.runtime import mx
from panoptic_baselines.arguments import check_choice

nn = mx.gluon.nn
HybridBlock = mx.gluon.HybridBlock

ACTIVATIONS = ('relu', 'sigmoid', 'tanh', 'softrelu', 'softsign')


class Affinity(HybridBlock):
    """Adds to each pixel's potentials those of all other pixels, weighted by their affinity.

    Features Q (B, C, h, w) and potentials Psi (B, K, h, w) -> P like Psi.  With one row per pixel,
    ``P = Psi + phi0(Q) (phi1(Q)^T Psi)`` (equation 4).  This order avoids the matrix of all pairs
    of pixels, so memory is linear in the number of pixels.  K may change from call to call.

    Parameters
    ----------
    channels : C
    activation : activation after the 1x1 convolutions ``phi0`` and ``phi1`` (C channels each)

    Raises AdaptisError for an unknown activation.
    """

    def __init__(self, channels: int = 128, activation: str = 'relu'):
        super().__init__()
        check_choice('activation', activation, ACTIVATIONS)
        self.channels = channels
        with self.name_scope():
            for name in ('phi0', 'phi1'):
                # The sum over all pixels is large: initialise it to about one potential.
                setattr(self, name, nn.Conv2D(channels, 1, in_channels=channels,
                                              activation=activation,
                                              weight_initializer=mx.init.Normal(0.001)))

    def hybrid_forward(self, F, features, potentials):
        ours, theirs = (phi(features).reshape((0, 0, -1)) for phi in (self.phi0, self.phi1))
        flat = potentials.reshape((0, 0, -1))
        shared = F.batch_dot(flat, theirs, transpose_b=True)                # (B, K, C)
        return potentials + F.reshape_like(F.batch_dot(shared, ours), potentials)
