"""The losses of Mask R-CNN and of a semantic branch; each a graph of its own.

They give one scalar.  Rows of class -1 do not count, so that a batch without any foreground can
still be a batch of one row.
"""
from __future__ import annotations

from adaptis.runtime import mx
from panoptic_baselines.layers.semantic import Upsample

HybridBlock = mx.gluon.HybridBlock


def binary_cross_entropy(F, logits, targets):
    """Element by element, from logits."""
    size = F.abs(logits)
    # Half of a sum in place of relu(x), whose gradient at 0, where training may begin, is 0.
    return (logits + size) / 2 - logits * targets + F.Activation(-size, 'softrelu')


def masked_mean(F, values, counted):
    """Mean over the entries where ``counted`` is 1; 0 if there is none."""
    return F.broadcast_div(F.sum(values * counted), F.maximum(F.sum(counted), 1))


class SemanticLoss(HybridBlock):
    """(B, C, h, w) logits, (B, scale * h, scale * w) classes, -1 = ignored -> a scalar.

    Mean over pixels of the cross entropy of the upsampled logits; 0 if all are ignored.
    """

    def __init__(self, scale: int = 4):
        super().__init__()
        with self.name_scope():
            self.upsample = Upsample(scale)

    def hybrid_forward(self, F, logits, classes):
        logits = F.log_softmax(self.upsample(logits), axis=1)
        return masked_mean(F, -F.pick(logits, classes, axis=1), classes >= 0)
