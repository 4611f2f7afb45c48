"""Match detections with objects and pixels with channels (section 3.5, equation 5).

A panoptic output has one channel per detection, then one per stuff class.
"""
from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

from adaptis.runtime import mx
from panoptic_baselines.layers.boxes import pairwise_iou

IGNORED = -1
MIN_IOU = 0.5


class Matching(NamedTuple):
    """The objects assigned to D detections.

    ``assigned`` int (D,), the object of each, -1 = none; ``duplicate`` bool (D,): whether another
    detection has taken the object that this one overlaps, so that this one is removed.
    """

    assigned: np.ndarray
    duplicate: np.ndarray


def same_class_iou(boxes: np.ndarray, classes: np.ndarray, gt_boxes: np.ndarray,
                   gt_classes: np.ndarray) -> np.ndarray:
    """Return the IoU (D, G) of the boxes of detections and objects; 0 if their classes differ."""
    same = np.reshape(classes, (-1, 1)) == np.reshape(gt_classes, (1, -1))
    return pairwise_iou(np.reshape(boxes, (-1, 4)), np.reshape(gt_boxes, (-1, 4))) * same


def match_detections(boxes: np.ndarray, classes: np.ndarray, gt_boxes: np.ndarray,
                     gt_classes: np.ndarray) -> Matching:
    """Match detections with objects of the same class so that the total IoU is largest.

    Pairs need an IoU of at least 0.5.  A detection without such an object is not a duplicate: it
    remains, but no pixel belongs to it, so that the network learns to suppress it.  An object
    without such a detection is not matched.
    """
    iou = same_class_iou(boxes, classes, gt_boxes, gt_classes)
    iou[iou < MIN_IOU] = 0
    rows, columns = linear_sum_assignment(iou, maximize=True)
    valid = iou[rows, columns] > 0
    assigned = np.full(len(iou), IGNORED)
    assigned[rows[valid]] = columns[valid]
    return Matching(assigned, (assigned < 0) & (iou > 0).any(axis=1))


def panoptic_target(instances: np.ndarray, semantic: np.ndarray, assigned: np.ndarray,
                    num_objects: int, num_stuff: int) -> np.ndarray:
    """Return int32 (h, w): the channel that each pixel belongs to, -1 = ignored.

    Parameters
    ----------
    instances : int (h, w), object g as g + 1, 0 = none
    semantic : int (h, w), class indices, stuff first, used where there is no object
    assigned : (D,), the objects of the detections without duplicates
    num_objects, num_stuff : numbers of objects and of stuff classes
    """
    channel = np.full(num_objects + 1, IGNORED, np.int32)
    found = np.flatnonzero(assigned >= 0)
    channel[assigned[found] + 1] = found
    stuff = (semantic >= 0) & (semantic < num_stuff)
    return np.where(instances > 0, channel[instances],
                    np.where(stuff, semantic + len(assigned), IGNORED)).astype(np.int32)


class PanopticMatchingLoss(mx.gluon.HybridBlock):
    """Softmax cross entropy of one image, which has its own number of channels (section 3.5).

    (1, D + S, h, w) logits, (1, h, w) channels, -1 = ignored, and the non-zero number (1,) of
    labelled pixels in the whole batch -> (1,): the image's share of the mean over these pixels.
    """

    def hybrid_forward(self, F, logits, channels, count):
        logits = F.log_softmax(logits, axis=1)
        entropy = -F.pick(logits, channels, axis=1) * (channels >= 0)
        return F.broadcast_div(F.sum(entropy), count)
