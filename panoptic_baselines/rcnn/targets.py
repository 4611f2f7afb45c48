"""Turn annotated images into the batches that a two-stage detector learns from, in NumPy alone."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from panoptic_baselines.batches import Batch, LearntObjects, ObjectTargets, Size, level_shapes, pad_rows
from panoptic_baselines.classes import IGNORED
from panoptic_baselines.rcnn.anchors import STRIDES, pyramid_anchors
from panoptic_baselines.rcnn.sampling import AnchorTargets, sample_anchors


@dataclass(frozen=True)
class DetectionTargets(ObjectTargets):
    """Makes batches for a region proposal network, which hold in addition:

    anchor_index    int64 (B, anchors): the sampled anchors, counted over all levels
    anchor_labels   float32 (B, anchors): 1, 0 or -1 = fewer were found
    anchor_deltas   float32 (B, anchors, 4): from the positive anchors to their objects

    Attributes
    ----------
    anchor_sizes : of the network
    anchors : how many are sampled in an image
    """

    anchor_sizes: tuple[float, ...] = (32, 64, 128, 256, 512)
    anchors: int = 256

    def _extra_targets(self, objects: LearntObjects, size: Size, rng: Any) -> Batch:
        shapes = level_shapes(size, STRIDES)
        anchors = np.concatenate(pyramid_anchors(shapes, self.anchor_sizes))
        targets = sample_anchors(anchors, objects.boxes, rng, self.anchors)
        return compact_anchor_targets(targets, self.anchors)


def compact_anchor_targets(targets: AnchorTargets, count: int) -> Batch:
    """Return only the sampled anchors of an image, padded to ``count`` rows."""
    index = np.flatnonzero(targets.labels >= 0)
    return {'anchor_index': pad_rows(index, count, 0),
            'anchor_labels': pad_rows(targets.labels[index], count, IGNORED),
            'anchor_deltas': pad_rows(targets.deltas[index], count, 0)}
