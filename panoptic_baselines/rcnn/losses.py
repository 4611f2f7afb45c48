"""The losses of Mask R-CNN; each is a separate graph that returns scalars.

Rows of class -1 do not count.  So a batch without any foreground can still have one row.
"""
from __future__ import annotations

from adaptis.runtime import mx
from panoptic_baselines.layers.losses import binary_cross_entropy, masked_mean

HybridBlock = mx.gluon.HybridBlock


class GatherAnchors(HybridBlock):
    """Gathers the RPN's outputs at some anchors: logits (B, S) and deltas (B, S, 4).

    Inputs: ``index`` (B, S), which numbers the anchors of all levels by row, column and anchor;
    then L maps of logits (B, A, h, w) and L maps of deltas (B, 4 * A, h, w).
    """

    def hybrid_forward(self, F, index, *maps):
        levels = len(maps) // 2
        logits = [F.transpose(x, (0, 2, 3, 1)).reshape((0, -1)) for x in maps[:levels]]
        deltas = [F.transpose(x.reshape((0, -4, -1, 4, -2)), (0, 3, 4, 1, 2)).reshape((0, -1, 4))
                  for x in maps[levels:]]
        image = F.contrib.arange_like(index, axis=0).reshape((-1, 1))
        where = F.stack(F.broadcast_like(image, index), index, axis=0)
        return (F.gather_nd(F.concat(*logits, dim=1), where),
                F.gather_nd(F.concat(*deltas, dim=1), where))


class RPNLoss(HybridBlock):
    """Objectness and box losses of sampled anchors (Faster R-CNN, equation 1, with an L1 loss).

    (B, A) logits, (B, A, 4) deltas, (B, A) labels 1, 0 or -1 = not sampled, (B, A, 4) deltas of
    the positive anchors -> two scalars, sums over anchors divided by ``B * count``.
    """

    def __init__(self, count: int = 256):
        super().__init__()
        self._count = count

    def hybrid_forward(self, F, logits, deltas, labels, targets):
        positive = labels == 1
        objectness = binary_cross_entropy(F, logits, positive) * (labels >= 0)
        boxes = F.broadcast_mul(F.abs(deltas - targets), F.expand_dims(positive, 2))
        return (F.mean(F.sum(objectness, axis=1)) / self._count,
                F.mean(F.sum(boxes, axis=(1, 2))) / self._count)


class BoxLoss(HybridBlock):
    """Class and box losses of sampled RoIs.

    (R, K + 1) logits, background last; (R, 4 * K) deltas; (R,) classes, K = background, -1 = none;
    (R, 4) target deltas -> two scalars: the cross entropy, and the L1 distance of the deltas of the
    ground-truth class, both divided by the number of RoIs that have a class.
    """

    def __init__(self, num_classes: int):
        super().__init__()
        self._num_classes = num_classes

    def hybrid_forward(self, F, logits, deltas, classes, targets):
        counted = classes >= 0
        entropy = -F.pick(F.log_softmax(logits, axis=1), classes, axis=1)
        deltas = F.reshape(deltas, (0, -4, -1, 4))
        own = F.pick(deltas, F.broadcast_like(F.expand_dims(classes, 1), targets), axis=1)
        foreground = F.expand_dims(counted * (classes < self._num_classes), 1)
        boxes = F.sum(F.broadcast_mul(F.abs(own - targets), foreground))
        return (masked_mean(F, entropy, counted),
                boxes / F.maximum(F.sum(counted), 1))


class MaskLoss(HybridBlock):
    """Binary cross entropy, averaged over RoIs and pixels.

    (P, m, m) logits of each RoI's own class, (P,) classes, -1 = none, (P, m, m) masks of 0 and 1
    -> a scalar.
    """

    def hybrid_forward(self, F, logits, classes, targets):
        entropy = F.mean(binary_cross_entropy(F, logits, targets), axis=(1, 2))
        return masked_mean(F, entropy, classes >= 0)
