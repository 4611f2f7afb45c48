"""The losses of CondInst (section 2.3); each is a separate graph that returns scalars.

The maps of L levels are passed as L consecutive arguments.  Their N locations are numbered level
by level, row by row and column by column.
"""
from __future__ import annotations

from adaptis.runtime import mx
from panoptic_baselines.fcos.gather import flatten_levels
from panoptic_baselines.fcos.losses import box_loss, dice_loss, sigmoid_focal_loss
from panoptic_baselines.layers.losses import binary_cross_entropy

HybridBlock = mx.gluon.HybridBlock


class DetectionLoss(HybridBlock):
    """Losses of classes, boxes and centerness at all locations: three scalars.

    Inputs: labels (B, N), distances (B, N, 4), centerness (B, N) and averages (B, 2), see
    ``CondInstTargets``; then L maps of class logits (B, K, h, w), L maps of distances in strides
    (B, 4, h, w) and L maps of centerness logits (B, 1, h, w).  The sums for classes and centerness
    are divided by the number of locations with an object, at least 1.  The sum for boxes, weighted
    by centerness, is divided by the sum of the weights.

    Parameters
    ----------
    num_classes : K
    box : one of ``BOX_LOSSES``
    """

    def __init__(self, num_classes: int, box: str = 'giou'):
        super().__init__()
        self._num_classes, self._box = num_classes, box

    def hybrid_forward(self, F, labels, distances, centerness, averages, *maps):
        levels = len(maps) // 3
        logits, boxes, centers = (flatten_levels(F, maps[i * levels:][:levels]) for i in range(3))
        averages = F.sum(averages, axis=0)   # from means over images; exact for any part
        count = F.maximum(F.slice_axis(averages, axis=0, begin=0, end=1), 1)
        weight = F.maximum(F.slice_axis(averages, axis=0, begin=1, end=2), 1e-6)
        entropy = binary_cross_entropy(F, F.reshape(centers, (0, -1)), centerness)
        sums = (F.sum(sigmoid_focal_loss(F, logits, F.one_hot(labels, self._num_classes))),
                F.sum(box_loss(F, boxes, distances, self._box) * centerness),
                F.sum(entropy * (labels >= 0)))
        return tuple(F.broadcast_div(total, by).reshape((1,))
                     for total, by in zip(sums, (count, weight, count)))


class LocationScores(HybridBlock):
    """Logits -> (B, N): the highest class probability of every location times its centerness."""

    def hybrid_forward(self, F, *maps):
        levels = len(maps) // 2
        classes, centers = (flatten_levels(F, part) for part in (maps[:levels], maps[levels:]))
        return F.sigmoid(F.max(classes, axis=2)) * F.sigmoid(F.reshape(centers, (0, -1)))


class DynamicMaskLoss(HybridBlock):
    """Mean dice loss of masks; 0 if no mask counts.

    Inputs: (P, h, w) logits; (B, G, h, w) objects; (2, P) image and row of each mask's object;
    (P,) 1 = the mask counts, 0 = it does not.
    """

    def hybrid_forward(self, F, logits, objects, index, counted):
        loss = dice_loss(F, F.sigmoid(logits), F.gather_nd(objects, index))
        return F.broadcast_div(F.sum(loss * counted), F.maximum(F.sum(counted), 1))


class ThingsLoss(HybridBlock):
    """Focal loss of the auxiliary semantic branch, which has only thing classes.

    (B, K, h, w) logits and (B, h, w) classes, -1 = no object (a negative for all classes) -> the
    sum divided by the number of pixels with an object, at least 1.
    """

    def __init__(self, num_classes: int):
        super().__init__()
        self._num_classes = num_classes

    def hybrid_forward(self, F, logits, classes):
        targets = F.transpose(F.one_hot(classes, self._num_classes), (0, 3, 1, 2))
        return F.broadcast_div(F.sum(sigmoid_focal_loss(F, logits, targets)),
                               F.maximum(F.sum(classes >= 0), 1))
