"""Lovasz losses (Berman et al. 2018): surrogates of the Jaccard index of masks and classes.

Both losses sort errors in descending order and weight each by the resulting growth of the Jaccard
loss.  So they optimise the index that evaluation measures.  All parts are graphs.  Errors are not
negative, and ignored pixels have errors of 0, so that they come last and do not count.

The operators are chosen for GPUs.  There, MXNet's ``cumsum`` uses one thread per row, which reads
it pixel by pixel, and ``gather_nd`` checks its indices with one thread per axis.  A class of eight
Cityscapes crops has four million pixels.  So sums first run along short rows (``running_sum``), and
pixels are sorted with ``take``, which has a thread for every pixel and no check.
"""
from __future__ import annotations

from adaptis.errors import AdaptisError
from adaptis.runtime import mx
from panoptic_baselines.arguments import check_counts
from panoptic_baselines.layers.losses import masked_mean
from panoptic_baselines.layers.semantic import Upsample

HybridBlock = mx.gluon.HybridBlock

CLASSES = ('present', 'all')


def lovasz_extension(F, errors, foreground):
    """Return N losses for errors >= 0 of N sets of pixels; ``foreground`` is 1 inside the set.

    Both are (N, B, h, w): every set has B maps of h x w pixels.  A ReLU turns NaN into 0, because
    sorting does not support NaN.
    """
    falling, order = F.topk(F.relu(errors).reshape((0, -1)), axis=1, k=0, ret_typ='both',
                            dtype='int32')
    begin = F.slice_axis(F.contrib.arange_like(order), axis=1, begin=0, end=1)
    index = F.broadcast_add(order, begin)
    sorted_foreground = F.take(F.BlockGrad(foreground).reshape((-1,)), index, mode='clip')
    weights = lovasz_grad(F, sorted_foreground, errors)
    return F.sum(falling * F.BlockGrad(weights), axis=1)


def lovasz_grad(F, foreground, maps):
    """Return the growth of the Jaccard loss with each wrong pixel, for (N, P) of 0 and 1.

    ``maps`` are any arrays (N, B, h, w) with B * h * w = P (see ``running_sum``).
    """
    total = F.sum(foreground, axis=1, keepdims=True)
    wrong = running_sum(F, F.reshape_like(foreground, F.BlockGrad(maps))).reshape((0, -1))
    kept = F.broadcast_sub(total, wrong)
    seen = F.contrib.arange_like(foreground, axis=1).reshape((1, -1)) + 1
    union = F.broadcast_add(kept, seen)
    loss = 1 - kept / union
    before = F.concat(F.zeros_like(total), F.slice_axis(loss, axis=1, begin=0, end=-1), dim=1)
    return loss - before


def running_sum(F, values, axis=3):
    """Return the cumulative sums, in row-major order, of N sets (N, B, h, w).

    This is a hierarchical scan: along the rows, then over the row totals of each map, then over the
    maps.  A thread adds w, h and B values instead of B * h * w, and all rows run in parallel.  In
    float32, counts of pixels are exact below 2 ** 24, in any order.
    """
    inside = F.cumsum(values, axis=axis)
    if axis == 1:
        return inside
    ends = F.slice_axis(inside, axis=axis, begin=-1, end=None)
    return F.broadcast_add(inside, running_sum(F, ends, axis - 1) - ends)


class LovaszHinge(HybridBlock):
    """Mean over masks of the Lovasz hinge loss of each mask (appendix A.2).

    (P, m, m) logits of each RoI's own class, (P,) classes, -1 = none, (P, m, m) masks of 0 and 1,
    -1 = ignored -> a scalar.  It can replace a ``MaskLoss``.
    """

    def hybrid_forward(self, F, logits, classes, targets):
        logits, targets = F.expand_dims(logits, axis=1), F.expand_dims(targets, axis=1)
        errors = (1 - logits * (2 * targets - 1)) * (targets >= 0)
        losses = lovasz_extension(F, errors, targets == 1)
        return masked_mean(F, losses, classes >= 0)


class LovaszSoftmax(HybridBlock):
    """Mean over classes of the Lovasz loss of their probabilities, over all pixels of a batch.

    (B, C, h, w) logits and (B, scale * h, scale * w) classes, -1 = ignored -> a scalar.  It can
    replace a ``SemanticLoss``.

    Classes are sorted one after another.  MXNet computes the workspace of ``topk``, 28 bytes per
    element, with 32 bits.  Above 76.7 million elements, this overflows and looks like a lack of
    memory.  All 19 classes of eight Cityscapes crops have 79.7 million elements, one class has 4.2
    million.

    Parameters
    ----------
    num_classes : C, at least 2
    scale : factor by which logits are upsampled first; 1 = no upsampling
    classes : the classes to average over: those 'present' in the batch, or 'all'

    Raises AdaptisError for an invalid ``classes`` or ``num_classes``.
    """

    def __init__(self, num_classes: int, scale: int = 4, classes: str = 'present'):
        super().__init__()
        if classes not in CLASSES:
            raise AdaptisError(f'classes of the Lovasz loss is {classes!r}: choose one of '
                               f'{list(CLASSES)}.')
        check_counts(num_classes=num_classes)
        self._num_classes, self._classes = num_classes, classes
        with self.name_scope():
            self.upsample = Upsample(scale) if scale > 1 else None

    def hybrid_forward(self, F, logits, classes):
        if self.upsample is not None:
            logits = self.upsample(logits)
        return self.of_probabilities(F, F.softmax(logits, axis=1), classes)

    def of_probabilities(self, F, probabilities, classes):
        """Return a scalar for probabilities (B, C, h, w) and classes (B, h, w)."""
        labelled, losses, present = classes >= 0, [], []
        for number, probability in enumerate(F.split(
                probabilities, num_outputs=self._num_classes, axis=1, squeeze_axis=True)):
            foreground = classes == number
            errors = F.abs(foreground - probability) * labelled
            losses.append(lovasz_extension(F, F.expand_dims(errors, axis=0),
                                           F.expand_dims(foreground, axis=0)))
            present.append(F.max(foreground))
        losses, present = F.concat(*losses, dim=0), F.concat(*present, dim=0)
        return masked_mean(F, losses,
                           present if self._classes == 'present' else F.ones_like(present))
