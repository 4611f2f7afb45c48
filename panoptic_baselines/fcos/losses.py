"""The element-wise losses of FCOS and CondInst; the caller sums and normalises them.

The first argument of every function is ``F``, so they work on arrays and on symbols.
"""
from __future__ import annotations

from typing import Any

from panoptic_baselines.layers.losses import binary_cross_entropy

BOX_LOSSES = ('giou', 'iou', 'linear_iou')


def sigmoid_focal_loss(F: Any, logits: Any, targets: Any, alpha: float = 0.25) -> Any:
    """Return the focal loss of logits with gamma = 2 (Lin et al. 2017); ``targets`` are 0 or 1."""
    probability = F.sigmoid(logits)
    miss = probability + targets - 2 * probability * targets   # 1 - p_t
    weight = (1 - alpha) + (2 * alpha - 1) * targets
    return weight * F.square(miss) * binary_cross_entropy(F, logits, targets)


def intersection_over_union(F: Any, predicted: Any, target: Any,
                            smooth: float = 1.0) -> tuple[Any, Any]:
    """Return IoU and generalised IoU (...) of boxes around the same point.

    The boxes are given by non-negative distances (..., 4): left, top, right, bottom.  ``smooth`` is
    added to the intersection and the union; it is 1 in the official code.  It must not be 0 if
    either box may be empty.
    """
    def area(sides):
        left, top, right, bottom = F.split(sides, 4, axis=-1, squeeze_axis=True)
        return (left + right) * (top + bottom)
    inter = area(F.minimum(predicted, target))
    union = area(predicted) + area(target) - inter
    hull = area(F.maximum(predicted, target))
    iou = (inter + smooth) / (union + smooth)
    # If both boxes are empty, so is the hull, and the fraction is 0.
    return iou, iou - (hull - union) / F.maximum(hull, 1e-12)


def box_loss(F: Any, predicted: Any, target: Any, kind: str = 'giou', smooth: float = 1.0) -> Any:
    """Return one of ``BOX_LOSSES`` (...): 1 - GIoU, -log IoU, or 1 - IoU.

    See ``intersection_over_union`` for the distances and ``smooth``.
    """
    iou, giou = intersection_over_union(F, predicted, target, smooth)
    return -F.log(iou) if kind == 'iou' else 1 - (giou if kind == 'giou' else iou)


def dice_loss(F: Any, probabilities: Any, targets: Any) -> Any:
    """Return the dice loss (P,) of masks (P, H, W): probabilities and targets of 0 or 1.

    The denominator is a sum of squares, as in V-Net.
    """
    def product(a, b):
        return F.batch_dot(F.reshape(a, (0, 1, -1)), F.reshape(b, (0, 1, -1)),
                           transpose_b=True).reshape((-1,))
    overlap = 2 * product(probabilities, targets)
    total = product(probabilities, probabilities) + product(targets, targets)
    return 1 - overlap / (total + 1e-5)
