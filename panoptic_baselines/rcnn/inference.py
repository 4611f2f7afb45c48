"""Inference of Faster and Mask R-CNN on a feature pyramid.

Panoptic FPN and the unified network share it.
"""
from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from adaptis.arrays import as_numpy, expit
from adaptis.deploy.backends import DeviceArray
from panoptic_baselines.layers.boxes import Size, clip, nonempty, scale
from panoptic_baselines.merge import Instances
from panoptic_baselines.predictor import check_finite
from panoptic_baselines.rcnn.anchors import pyramid_anchors
from panoptic_baselines.rcnn.paste import paste_masks
from panoptic_baselines.rcnn.proposals import Detections, Proposals, detect, propose
from panoptic_baselines.rcnn.rois import pool_by_level
from panoptic_baselines.rcnn.settings import TwoStageSettings

NUM_LEVELS = 5
BOX_SIZE, MASK_SIZE = 7, 14
POOL_SIZES = {'pool_box': BOX_SIZE, 'pool_mask': MASK_SIZE}
NO_DETECTIONS = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32),
                           np.zeros(0, np.int64), np.zeros(0, np.int64))


class TwoStageInference:
    """Inference of Faster R-CNN or Mask R-CNN, given the outputs of its stages.

    A subclass has ``anchor_sizes`` (of p2, ..., p6) and runs the stages 'box_head' and, if it has
    masks, 'mask_head'.  With arrays of ONNX Runtime, it may also run 'pool_box' and 'pool_mask'.
    Its maps have ``features`` p2, ..., p6, ``rpn_logits`` (B, A, h, w) and ``rpn_deltas``
    (B, 4 * A, h, w), one of each per level.
    """

    anchor_sizes: Sequence[float]

    if TYPE_CHECKING:
        def run(self, stage: str, **inputs: Any) -> list[Any]: ...

    def propose(self, maps: Any, sizes: Sequence[Size], *, per_level: int = 1000,
                limit: int = 1000, threshold: float = 0.7) -> list[Proposals]:
        """Return the proposals of each image; ``sizes`` are (H, W) without padding.

        See ``rcnn.proposals.propose`` for the other arguments.
        """
        logits = [check_finite(level, 'objectness logits') for level in maps.rpn_logits]
        deltas = [as_numpy(level) for level in maps.rpn_deltas]
        anchors = pyramid_anchors([level.shape[2:] for level in logits], self.anchor_sizes)
        return [propose([level[i] for level in logits], [level[i] for level in deltas], anchors,
                        size, per_level=per_level, limit=limit, threshold=threshold)
                for i, size in enumerate(sizes)]

    def detect(self, maps: Any, sizes: Sequence[Size],
               settings: TwoStageSettings) -> list[Detections]:
        """Return the detections of each image, in pixels of the network's input, without masks."""
        proposals = [found.boxes for found in self.propose(
            maps, sizes, per_level=settings.proposals_per_level, limit=settings.proposals,
            threshold=settings.proposal_nms)]
        return self.detect_in_proposals(maps, proposals, sizes, settings)

    def detect_in_proposals(self, maps: Any, proposals: Sequence[np.ndarray], sizes: Sequence[Size],
                            settings: TwoStageSettings) -> list[Detections]:
        """Return the detections among given proposals, boxes (R, 4) for each image."""
        if not any(map(len, proposals)):   # MXNet has no empty batches
            return [NO_DETECTIONS] * len(sizes)
        logits, deltas = self.run('box_head', pooled=self._pool('pool_box', maps, proposals))
        logits, deltas = check_finite(logits, 'class logits of boxes'), as_numpy(deltas)
        ends = np.cumsum([len(boxes) for boxes in proposals])[:-1]
        return [detect(*outputs, size, score_threshold=settings.score_threshold,
                       nms_threshold=settings.nms_threshold,
                       limit=settings.detections_per_image)
                for *outputs, size in zip(np.split(logits, ends), np.split(deltas, ends),
                                          proposals, sizes)]

    def mask_logits(self, maps: Any, detections: Sequence[Detections]) -> list[np.ndarray]:
        """Return float32 (N, 28, 28) for the N detections of each image."""
        classes = np.concatenate([found.classes for found in detections])
        if not len(classes):
            return [np.zeros((0, 28, 28), np.float32) for _ in detections]
        pooled = self._pool('pool_mask', maps, [found.boxes for found in detections])
        logits, = self.run('mask_head', pooled=pooled, classes=classes)
        ends = np.cumsum([len(found.boxes) for found in detections])[:-1]
        return np.split(as_numpy(logits), ends)

    def _pool(self, stage: str, maps: Any, boxes: Sequence[np.ndarray]) -> Any:
        """Return features (R, C, size, size) of the boxes (N, 4) of each image."""
        features = maps.features[:4]
        if isinstance(features[0], np.ndarray) and importlib.util.find_spec('scipy'):
            from panoptic_baselines.rcnn.sparse_pooling import pool_arrays  # loads SciPy
            return pool_arrays(features, boxes, POOL_SIZES[stage])
        if isinstance(features[0], (np.ndarray, DeviceArray)):
            return pool_by_level(features, boxes, lambda level, rois: as_numpy(self.run(
                stage, features=level, rois=rois)[0]))
        from panoptic_baselines.rcnn.roi_align import pool_rois  # loads MXNet and SciPy
        return pool_rois(features, boxes, POOL_SIZES[stage])


def filter_by_score(found: Detections, min_score: float) -> Detections:
    """Return the detections with a score of at least ``min_score``."""
    return Detections(*(part[found.scores >= min_score] for part in found))


def to_instances(found: Detections, mask_logits: np.ndarray, size: Size, output_size: Size,
                 threshold: float) -> Instances:
    """Convert detections in an image of ``size`` to instances of the image at ``output_size``."""
    boxes = clip(scale(found.boxes, size, output_size), output_size)
    left = nonempty(boxes)
    masks = paste_masks(expit(mask_logits[left]), boxes[left], output_size, threshold)
    return Instances(boxes[left], found.scores[left], found.classes[left], masks)
