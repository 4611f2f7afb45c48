"""Losses of dense detections (Hou et al. 2020, sections 4.2, 4.3); each is a graph of its own."""
from __future__ import annotations

from typing import Any

from adaptis.runtime import mx
from panoptic_baselines.dense_detections.boxes import best_location_probability
from panoptic_baselines.fcos.gather import flatten_levels
from panoptic_baselines.fcos.losses import box_loss, sigmoid_focal_loss
from panoptic_baselines.layers.losses import binary_cross_entropy
from panoptic_baselines.layers.semantic import Upsample

HybridBlock = mx.gluon.HybridBlock

NORMALIZERS = ('locations', 'foreground')
"""What the focal loss is divided by: the number of all locations (text after equation 12), or the
number of locations on objects, as in FCOS."""


class DetectionLoss(HybridBlock):
    """Losses of classes, boxes and centerness at every location (equations 11 and 12).

    Inputs: labels (B, N), distances (B, N, 4), centerness (B, N) and averages (B, 2), see
    ``DenseDetectionsTargets``; then L maps of class logits (B, C, h, w), L maps of distances
    (B, 4, h, w) in pixels and L maps of centerness logits (B, 1, h, w).  Returns three scalars: the
    focal loss summed over classes; -ln IoU and cross entropy, both divided by the number of
    locations on objects in the batch.

    Parameters
    ----------
    num_classes : C
    box_smooth : added to the intersection and union of boxes: 0 (UnitBox) or 1 (FCOS)
    normalizer : normaliser of the focal loss, one of ``NORMALIZERS``
    """

    def __init__(self, num_classes: int, box_smooth: float = 0.0, normalizer: str = 'locations'):
        super().__init__()
        self._num_classes, self._smooth = num_classes, box_smooth
        self._by_foreground = normalizer == 'foreground'

    def hybrid_forward(self, F, labels, distances, centerness, averages, *maps):
        levels = len(maps) // 3
        logits, predicted, center = (flatten_levels(F, maps[i * levels:][:levels])
                                     for i in range(3))
        foreground = labels >= 0
        count = F.maximum(F.sum(F.slice_axis(averages, axis=1, begin=0, end=1)), 1)
        focal = F.sum(sigmoid_focal_loss(F, logits, F.one_hot(labels, self._num_classes)))
        total = count if self._by_foreground else F.sum(F.ones_like(labels))
        centers = binary_cross_entropy(F, F.reshape_like(center, centerness), centerness)
        boxes = self._box_losses(F, predicted, distances, foreground)
        return (F.broadcast_div(focal, total), F.broadcast_div(boxes, count),
                F.broadcast_div(F.sum(centers * foreground), count))

    def _box_losses(self, F, predicted, distances, foreground):
        """Return the sum over locations on objects with non-empty boxes; others have no IoU."""
        sides = (F.slice_axis(distances, axis=2, begin=0, end=2)
                 + F.slice_axis(distances, axis=2, begin=2, end=4))
        counted = foreground * (F.min(sides, axis=2) > 0)
        rows = F.broadcast_like(F.expand_dims(counted, 2), distances)
        # Ones elsewhere: the gradient of an empty box is NaN, and 0 times NaN is NaN.
        ones = F.ones_like(distances)
        losses = box_loss(F, F.where(rows, predicted, ones), F.where(rows, distances, ones),
                          kind='iou', smooth=self._smooth)
        return F.sum(losses * counted)


class LevelnessLoss(HybridBlock):
    """Mean cross entropy (equation 13): logits (B, 1 + L, h, w), levels (B, h, w), 0 = none."""

    def hybrid_forward(self, F, logits, levels):
        return -F.mean(F.pick(F.log_softmax(logits, axis=1), levels, axis=1))


class BootstrappedLoss(HybridBlock):
    """Cross entropy of the pixels with the largest loss (equation 15).

    (B, C, h, w) logits and (B, scale * h, scale * w) classes, -1 = ignored -> a scalar: the mean
    over images of the mean over a ``share`` of the labelled pixels, or 0 for an image without any.
    Pixels that tie at the limit of this share are weighted equally, so that the share is exact.
    """

    def __init__(self, scale: int = 8, share: float = 0.3):
        super().__init__()
        self._share = share
        with self.name_scope():
            self.upsample = Upsample(scale)

    def hybrid_forward(self, F, logits, classes):
        logits = F.log_softmax(self.upsample(logits), axis=1)
        counted = (classes >= 0).reshape((0, -1))
        losses = -F.pick(logits, classes, axis=1).reshape((0, -1)) * counted
        # Block the gradient before the weights, not after: MXNet cannot differentiate a sort.
        weights = self._weights(F, F.BlockGrad(losses), counted)
        return F.mean(F.sum(losses * weights, axis=1))

    def _weights(self, F, losses, counted):
        valid = F.sum(counted, axis=1, keepdims=True)
        # 1e-3 keeps a product that is a whole number from being rounded down in single precision.
        count = F.maximum(F.floor(valid * self._share + 1e-3), F.minimum(valid, 1))
        ranked = F.sort(F.where(counted, losses, -F.ones_like(losses)), axis=1, is_ascend=False)
        last = F.pick(ranked, F.maximum(count - 1, 0), axis=1, keepdims=True)
        above = F.broadcast_greater(losses, last) * counted
        equal = F.broadcast_equal(losses, last) * counted
        room = F.broadcast_div(count - F.sum(above, axis=1, keepdims=True),
                               F.maximum(F.sum(equal, axis=1, keepdims=True), 1))
        return F.broadcast_div(above + F.broadcast_mul(equal, room), F.maximum(count, 1))


class QueryMaskLoss(HybridBlock):
    """Mask loss: how well the masks of queries fit their objects (equations 16 to 18).

    Inputs, for one image: boxes (4 * L, H, W) of all pixels of a grid; queries (Q, 4); the index
    (Q,) of the object that each should find, -1 = none, and the object's box (Q, 4); the object of
    every pixel (H * W,), -1 = none.  Returns the losses (Q,), and 1 or 0 (Q,) for whether each
    counts, that is, whether the query has an object with a pixel on the grid.

    Parameters
    ----------
    overlap : 'iou', or 'giou' for the smoothed generalised IoU of the official inference code
    detach_beta : whether to block the gradient through beta, a query's IoU with its object
    levels : L; if a pixel has several boxes, each query takes the one that fits best
    """

    def __init__(self, overlap: str = 'iou', detach_beta: bool = True, levels: int = 1):
        super().__init__()
        self._overlap, self._detach, self._levels = overlap, detach_beta, levels

    def hybrid_forward(self, F, boxes, queries, objects, object_boxes, pixels):
        found = best_location_probability(F, boxes.reshape((0, -1)), queries, self._overlap,
                                          self._levels)
        masks = F.broadcast_equal(F.expand_dims(objects, 1), F.expand_dims(pixels, 0))
        size = F.sum(masks, axis=1)
        counted = (objects >= 0) * (size > 0)
        errors = F.sum(found * (1 - 2 * masks), axis=1) + size   # E_FP + E_FN
        beta = paired_iou(F, queries, object_boxes)
        beta = F.BlockGrad(beta) if self._detach else beta
        return beta * errors / F.maximum(size, 1) * counted, counted


def paired_iou(F: Any, boxes: Any, others: Any) -> Any:
    """Return the IoU (Q,) of pairs of boxes, (Q, 4) and (Q, 4); 0 for two empty boxes."""
    def corner(sides: Any, which: int) -> Any:
        return F.slice_axis(sides, axis=1, begin=2 * which, end=2 * which + 2)
    common = F.relu(F.minimum(corner(boxes, 1), corner(others, 1))
                    - F.maximum(corner(boxes, 0), corner(others, 0)))
    inter, own, other = (_product(F, x) for x in (
        common, corner(boxes, 1) - corner(boxes, 0), corner(others, 1) - corner(others, 0)))
    return inter / F.maximum(own + other - inter, 1e-7)


def _product(F: Any, sides: Any) -> Any:
    """Return areas (Q,) of sides (Q, 2); the gradient of ``F.prod`` is NaN where a side is 0."""
    width, height = F.split(sides, num_outputs=2, axis=1, squeeze_axis=True)
    return width * height
