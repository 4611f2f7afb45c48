"""The dense instance affinity head (Li, Qi, Torr 2020, section 3.4.2)."""
from __future__ import annotations

from adaptis.runtime import mx
from panoptic_baselines.arguments import check_choice

nn = mx.gluon.nn
HybridBlock = mx.gluon.HybridBlock

ACTIVATIONS = ('relu', 'sigmoid', 'tanh', 'softrelu', 'softsign')


class Affinity(HybridBlock):
    """Adds to the potentials of each pixel those of all others, weighted by their affinity.

    Features Q (B, C, h, w) and potentials Psi (B, K, h, w) -> P like Psi: with rows for pixels,
    ``P = Psi + phi0(Q) (phi1(Q)^T Psi)`` (equation 4).  In this order no matrix of all pairs of
    pixels is ever made: memory is linear in their number.  K may differ from call to call.

    Parameters
    ----------
    channels : C
    activation : after the 1x1 convolutions ``phi0`` and ``phi1``, of C channels each

    Raises AdaptisError for an activation that does not exist.
    """

    def __init__(self, channels: int = 128, activation: str = 'relu'):
        super().__init__()
        check_choice('activation', activation, ACTIVATIONS)
        self.channels = channels
        with self.name_scope():
            for name in ('phi0', 'phi1'):
                # The sum over all pixels is large: start it about as large as one potential.
                setattr(self, name, nn.Conv2D(channels, 1, in_channels=channels,
                                              activation=activation,
                                              weight_initializer=mx.init.Normal(0.001)))

    def hybrid_forward(self, F, features, potentials):
        ours, theirs = (phi(features).reshape((0, 0, -1)) for phi in (self.phi0, self.phi1))
        flat = potentials.reshape((0, 0, -1))
        shared = F.batch_dot(flat, theirs, transpose_b=True)                # (B, K, C)
        return potentials + F.reshape_like(F.batch_dot(shared, ours), potentials)
