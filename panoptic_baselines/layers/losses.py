"""The loss of a semantic branch, and what losses are made of."""
from __future__ import annotations

from adaptis.runtime import mx
from panoptic_baselines.layers.semantic import Upsample

HybridBlock = mx.gluon.HybridBlock


def binary_cross_entropy(F, logits, targets):
    """Return the binary cross entropy of logits, element by element."""
    size = F.abs(logits)
    # Half of a sum, not relu(x): the gradient of that at 0, where training may begin, is 0.
    return (logits + size) / 2 - logits * targets + F.Activation(-size, 'softrelu')


def masked_mean(F, values, counted):
    """Return the mean over the entries where ``counted`` is 1; 0 if there is none."""
    return F.broadcast_div(F.sum(values * counted), F.maximum(F.sum(counted), 1))


class SemanticLoss(HybridBlock):
    """Mean cross entropy of the upsampled logits over the pixels; 0 if all are ignored.

    (B, C, h, w) logits, (B, scale * h, scale * w) classes, -1 = ignored -> a scalar.
    """

    def __init__(self, scale: int = 4):
        super().__init__()
        with self.name_scope():
            self.upsample = Upsample(scale)

    def hybrid_forward(self, F, logits, classes):
        logits = F.log_softmax(self.upsample(logits), axis=1)
        return masked_mean(F, -F.pick(logits, classes, axis=1), classes >= 0)
