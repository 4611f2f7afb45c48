"""Lovasz losses (Berman et al. 2018): smooth surrogates of the Jaccard index of masks and classes.

Both sort errors in descending order and weight each by the growth of the Jaccard loss with it.  So
their gradient is that of the index that measures them.  All are graphs.  Errors are not negative,
and ignored pixels have errors of 0, so that they come last and do not count.
"""
from __future__ import annotations

from adaptis.errors import AdaptisError
from adaptis.runtime import mx
from panoptic_baselines.layers.losses import masked_mean
from panoptic_baselines.layers.semantic import Upsample

HybridBlock = mx.gluon.HybridBlock

CLASSES = ('present', 'all')


def lovasz_extension(F, errors, foreground):
    """Return N losses for errors >= 0 (N, P) of N sets of P pixels; ``foreground`` is 1 in the set.

    A ReLU makes the errors finite and turns NaN to 0, because no sort survives NaN.
    """
    errors, order = F.topk(F.relu(errors), axis=1, k=0, ret_typ='both', dtype='int32')
    row = F.broadcast_like(F.contrib.arange_like(order, axis=0).reshape((-1, 1)), order)
    where = F.stack(F.cast(row, 'int32'), order, axis=0)
    weights = lovasz_grad(F, F.gather_nd(F.BlockGrad(foreground), where))
    return F.sum(errors * F.BlockGrad(weights), axis=1)


def lovasz_grad(F, foreground):
    """Return the growth of the Jaccard loss as pixel after pixel gets wrong: (N, P) of 0 and 1."""
    total = F.sum(foreground, axis=1, keepdims=True)
    kept = F.broadcast_sub(total, F.cumsum(foreground, axis=1))
    seen = F.contrib.arange_like(foreground, axis=1).reshape((1, -1)) + 1
    union = F.broadcast_add(kept, seen)
    loss = 1 - kept / union
    before = F.concat(F.zeros_like(total), F.slice_axis(loss, axis=1, begin=0, end=-1), dim=1)
    return loss - before


class LovaszHinge(HybridBlock):
    """Mean over masks of the Lovasz hinge loss of each mask (appendix A.2).

    (P, m, m) logits of each RoI's own class, (P,) classes, -1 = none, (P, m, m) masks of 0 and 1,
    -1 = ignored -> a scalar: a ``MaskLoss`` with another formula.
    """

    def hybrid_forward(self, F, logits, classes, targets):
        logits, targets = logits.reshape((0, -1)), targets.reshape((0, -1))
        errors = (1 - logits * (2 * targets - 1)) * (targets >= 0)
        losses = lovasz_extension(F, errors, targets == 1)
        return masked_mean(F, losses, classes >= 0)


class LovaszSoftmax(HybridBlock):
    """Mean over classes of the Lovasz loss of their probabilities, over all pixels of a batch.

    (B, C, h, w) logits, (B, scale * h, scale * w) classes, -1 = ignored -> a scalar: a
    ``SemanticLoss`` with another formula.

    Parameters
    ----------
    scale : logits are upsampled by it first; 1 = they are not
    classes : whose mean is taken: those 'present' in the batch, or 'all'

    Raises AdaptisError for other ``classes``.
    """

    def __init__(self, scale: int = 4, classes: str = 'present'):
        super().__init__()
        if classes not in CLASSES:
            raise AdaptisError(f'The Lovasz loss has no classes "{classes}": choose one of '
                               f'{list(CLASSES)}.')
        self._classes = classes
        with self.name_scope():
            self.upsample = Upsample(scale) if scale > 1 else None

    def hybrid_forward(self, F, logits, classes):
        if self.upsample is not None:
            logits = self.upsample(logits)
        return self.of_probabilities(F, F.softmax(logits, axis=1), classes)

    def of_probabilities(self, F, probabilities, classes):
        """Return a scalar for probabilities (B, C, h, w) and classes (B, h, w)."""
        flat = F.transpose(probabilities, (1, 0, 2, 3)).reshape((0, -1))
        labels = classes.reshape((1, -1))
        each = F.contrib.arange_like(flat, axis=0).reshape((-1, 1))
        foreground = F.broadcast_equal(F.broadcast_like(labels, flat, lhs_axes=(0,), rhs_axes=(0,)),
                                       each)
        errors = F.broadcast_mul(F.abs(foreground - flat), labels >= 0)
        losses = lovasz_extension(F, errors, foreground)
        counted = F.max(foreground, axis=1)
        return masked_mean(F, losses,
                           counted if self._classes == 'present' else F.ones_like(counted))
