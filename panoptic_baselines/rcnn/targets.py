"""Turn annotated images into the batches that a two-stage detector learns from, with NumPy only."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from panoptic_baselines.batches import (
    Batch,
    LearntObjects,
    ObjectTargets,
    Size,
    level_shapes,
    pad_rows,
)
from panoptic_baselines.classes import IGNORED
from panoptic_baselines.rcnn.anchors import STRIDES
from panoptic_baselines.rcnn.nearby import SampledAnchors, anchor_grids, sample_anchors


@dataclass(frozen=True)
class DetectionTargets(ObjectTargets):
    """Makes batches for a region proposal network.

    In addition to the arrays of ``ObjectTargets``, they contain:

    anchor_index    int64 (B, anchors): the sampled anchors, numbered over all levels
    anchor_labels   float32 (B, anchors): 1, 0, or -1 for unused entries
    anchor_deltas   float32 (B, anchors, 4): from the positive anchors to their objects

    Attributes
    ----------
    anchor_sizes : the anchor sizes of the network
    anchors : number of anchors that are sampled per image
    """

    anchor_sizes: tuple[float, ...] = (32, 64, 128, 256, 512)
    anchors: int = 256

    def _extra_targets(self, objects: LearntObjects, size: Size, rng: Any) -> Batch:
        grids = anchor_grids(level_shapes(size, STRIDES), self.anchor_sizes)
        found = sample_anchors(grids, objects.boxes, rng, self.anchors)
        return padded_targets(found, self.anchors)


def padded_targets(found: SampledAnchors, count: int) -> Batch:
    """Return the arrays of a batch for an image's sampled anchors, padded to ``count`` rows."""
    return {'anchor_index': pad_rows(found.index, count, 0),
            'anchor_labels': pad_rows(found.labels, count, IGNORED),
            'anchor_deltas': pad_rows(found.deltas, count, 0)}
