"""The loss of a semantic branch, and building blocks of losses."""
from __future__ import annotations

from adaptis.runtime import mx
from panoptic_baselines.layers.semantic import Upsample

HybridBlock = mx.gluon.HybridBlock


def binary_cross_entropy(F, logits, targets):
    """Return the binary cross entropy of logits, element by element."""
    size = F.abs(logits)
    # Not relu(x): its gradient is 0 at x = 0, where training may start.
    return (logits + size) / 2 - logits * targets + F.Activation(-size, 'softrelu')


def masked_mean(F, values, counted):
    """Return the mean over the entries where ``counted`` is 1; 0 if there are none."""
    return F.broadcast_div(F.sum(values * counted), F.maximum(F.sum(counted), 1))


class SemanticLoss(HybridBlock):
    """Mean cross entropy of the upsampled logits over the pixels; 0 if all are ignored.

    (B, C, h, w) logits and (B, scale * h, scale * w) classes, -1 = ignored -> a scalar.
    """

    def __init__(self, scale: int = 4):
        super().__init__()
        with self.name_scope():
            self.upsample = Upsample(scale)

    def hybrid_forward(self, F, logits, classes):
        logits = F.log_softmax(self.upsample(logits), axis=1)
        return masked_mean(F, -F.pick(logits, classes, axis=1), classes >= 0)
