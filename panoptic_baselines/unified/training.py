"""Training of the unified system: the losses of its network.

Li, Qi, Torr 2020; section numbers are the paper's.  The panoptic output is trained the way it is
used: on the network's own detections.  The targets are the pixels that each of them should get.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Optional

import numpy as np

from adaptis.arrays import as_numpy
from adaptis.errors import AdaptisError
from adaptis.runtime import mx
from adaptis.types import Taxonomy
from panoptic_baselines.arguments import check_choice, check_number
from panoptic_baselines.layers.losses import SemanticLoss
from panoptic_baselines.layers.resize import subsample
from panoptic_baselines.layers.upsample import SEMANTIC_STRIDE
from panoptic_baselines.rcnn.inference import BOX_SIZE, MASK_SIZE
from panoptic_baselines.rcnn.losses import MaskLoss
from panoptic_baselines.rcnn.proposals import Detections, Proposals
from panoptic_baselines.rcnn.roi_align import pool_rois
from panoptic_baselines.rcnn.training import TwoStageSystem, unpad_objects
from panoptic_baselines.system import divergence_error
from panoptic_baselines.unified.lovasz import LovaszHinge, LovaszSoftmax
from panoptic_baselines.unified.matching import (
    PanopticMatchingLoss,
    match_detections,
    panoptic_target,
)
from panoptic_baselines.unified.predictor import UnifiedPredictor
from panoptic_baselines.unified.settings import UnifiedSettings

MASK_LOSSES = {'lovasz': LovaszHinge, 'cross_entropy': MaskLoss}
SEMANTIC_LOSSES = ('lovasz', 'cross_entropy')
DETECTIONS = ('predicted', 'ground_truth')
TRAINING = UnifiedSettings()   # the paper gives no score threshold for training


class MatchedDetections(NamedTuple):
    """The detections of an image that get a channel, without duplicates.

    ``boxes`` float32 (D, 4), ``classes`` int (D,), ``assigned`` int (D,) the object of each, -1 =
    none; ``rois`` float32 (D, 4), the proposals that they came from, or None if they are ground
    truth, which has the score 1.
    """

    boxes: np.ndarray
    classes: np.ndarray
    assigned: np.ndarray
    rois: Optional[np.ndarray] = None


class UnifiedSystem(TwoStageSystem):
    """Losses and predictions of a ``Unified``.

    Parameters
    ----------
    net : an initialised network
    taxonomy : the classes of the network
    detection_weight, semantic_weight, panoptic_weight : weights of the losses (section 4): 1, 0.2,
        0.1 for COCO and 0.25, 1, 1 for Cityscapes.  With panoptic_weight = 0 there is no panoptic
        matching loss, as for models A and C, which have no affinity head either (section 4.1)
    semantic_loss : 'cross_entropy' (COCO) or 'lovasz' (Cityscapes, appendix B)
    mask_loss : 'lovasz' (appendix A.2) or 'cross_entropy'
    detections : the detections that the panoptic output learns from: 'predicted', or
        'ground_truth' with score 1 (appendix A.4, table H)
    rois, foreground : number of RoIs per image that the heads learn from, and the maximum share of
        them on objects
    frozen_stages : number of backbone stages that are frozen: 2 = stem and res2
    hybridize : whether to train with cached graphs

    Raises AdaptisError for a choice that does not exist or a number out of range.
    """

    predictor = UnifiedPredictor

    def __init__(self, net: Any, taxonomy: Taxonomy, *, detection_weight: float = 1.0,
                 semantic_weight: float = 0.2, panoptic_weight: float = 0.1,
                 semantic_loss: str = 'cross_entropy', mask_loss: str = 'lovasz',
                 detections: str = 'predicted', rois: int = 512, foreground: float = 0.25,
                 frozen_stages: int = 2, hybridize: bool = False):
        check_choice('semantic_loss', semantic_loss, SEMANTIC_LOSSES)
        check_choice('mask_loss', mask_loss, MASK_LOSSES)
        check_choice('detections', detections, DETECTIONS)
        self._weights = {'detection': detection_weight, 'semantic': semantic_weight,
                         'panoptic': panoptic_weight}
        for name, weight in self._weights.items():
            check_number(f'{name}_weight', weight, 0)
        if not panoptic_weight and net.affinity is not None:
            raise AdaptisError('panoptic_weight is 0, but the affinity head learns only from the '
                               'panoptic matching loss: raise panoptic_weight, or set affinity to '
                               'false.')
        self._predicts = detections == 'predicted'
        self._semantic_loss = (LovaszSoftmax(net.num_stuff + net.num_things)
                               if semantic_loss == 'lovasz' else SemanticLoss())
        self._panoptic_loss = PanopticMatchingLoss()
        self._counts = {'detections': 0.0, 'matched': 0.0}
        super().__init__(net, taxonomy, (self._semantic_loss, self._panoptic_loss), frozen_stages,
                         hybridize, rois=rois, foreground=foreground,
                         mask_loss=MASK_LOSSES[mask_loss]())

    def losses(self, batch: dict[str, Any], outputs: Any = None) -> dict[str, Any]:
        """Return the weighted losses of a batch (see ``DetectionTargets``), in ``autograd.record``.

        Scalars: 'rpn_objectness', 'rpn_boxes', 'classes', 'boxes' and, with a mask head, 'masks',
        averaged over the images; 'semantic' and, if its weight is not 0, 'panoptic', averaged over
        the pixels.  Samples are drawn from ``numpy.random``.  Raises AdaptisError if the network
        has diverged.
        """
        maps = self.forward(batch) if outputs is None else outputs
        proposals = self.propose(maps, batch)
        losses = {name: loss * self._weights['detection']
                  for name, loss in self.detector_losses(maps, batch, proposals).items()}
        losses['semantic'] = (self._semantic_loss(maps.semantic, batch['semantic'])
                              * self._weights['semantic'])
        if self._weights['panoptic']:
            channels = self.select_channels(maps, batch, proposals)
            losses['panoptic'] = (self.panoptic_loss(maps, batch, channels)
                                  * self._weights['panoptic'])
        return losses

    def select_channels(self, maps: Any, batch: dict[str, Any],
                        proposals: Sequence[Proposals]) -> list[MatchedDetections]:
        """Return the detections that get a channel in each image, without gradient."""
        objects = list(zip(*unpad_objects(batch)))
        if not self._predicts:
            return [MatchedDetections(boxes, classes, np.arange(len(boxes)))
                    for boxes, classes in objects]
        detections = self.detect(maps, batch, proposals)
        return [match_channels(found, rois.boxes, *of_image)
                for found, rois, of_image in zip(detections, proposals, objects)]

    def detect(self, maps: Any, batch: dict[str, Any],
               proposals: Sequence[Proposals]) -> list[Detections]:
        """Return each image's detections among its proposals.

        Raises AdaptisError if the network has diverged.
        """
        sizes = as_numpy(batch['sizes']).astype(int).tolist()
        try:
            with mx.autograd.pause(train_mode=True):
                return self.net.detect_in_proposals(
                    maps, [found.boxes for found in proposals], sizes, TRAINING)
        except AdaptisError as error:   # whose message would blame the checkpoint
            raise divergence_error() from error

    def panoptic_loss(self, maps: Any, batch: dict[str, Any],
                      channels: Sequence[MatchedDetections]) -> Any:
        """Return the panoptic matching loss (section 3.5), averaged over the labelled pixels.

        Its gradient flows into the scores and the masks of the detections.
        """
        sizes = as_numpy(batch['sizes']).astype(int).tolist()
        targets = self.panoptic_targets(batch, channels)
        ctx = maps.semantic.context
        count = mx.nd.array([max(1, sum((t >= 0).sum() for t in targets))], ctx, 'float32')
        total = 0
        for i, (found, scores, masks, target, size) in enumerate(zip(
                channels, self._scores(maps.features, channels),
                self._masks(maps.features, channels), targets, sizes)):
            logits = self.net.panoptic_logits(maps, i, size, found.boxes, found.classes, scores,
                                              masks)
            total = total + self._panoptic_loss(logits, mx.nd.array(target[None], ctx, 'float32'),
                                                count)
        return total

    def panoptic_targets(self, batch: dict[str, Any],
                         channels: Sequence[MatchedDetections]) -> list[np.ndarray]:
        """Return each pixel's channel, -1 = ignored: int32 (ceil(H/4), ceil(W/4)) per image."""
        instances, semantic = (subsample(as_numpy(batch[key]), SEMANTIC_STRIDE).astype(np.int32)
                               for key in ('instances', 'semantic'))
        classes, targets = as_numpy(batch['classes']), []
        for found, kinds, ids, labels, size in zip(
                channels, classes, instances, semantic, as_numpy(batch['sizes']).astype(int)):
            height, width = -(-size // SEMANTIC_STRIDE)
            targets.append(panoptic_target(
                ids[:height, :width], labels[:height, :width], found.assigned,
                int((kinds >= 0).sum()), self.net.num_stuff))
        objects = max(1, int((classes >= 0).sum()))
        assigned = np.concatenate([found.assigned for found in channels])
        self._counts = {'detections': len(assigned) / len(channels),
                        'matched': float((assigned >= 0).sum() / objects)}
        return targets

    def metrics(self) -> dict[str, float]:
        """Return the metrics of ``TwoStageSystem`` and, with a panoptic loss, two more.

        They are the number of detections per image and the share of objects with a detection, in
        the last step.
        """
        return {**super().metrics(), **(self._counts if self._weights['panoptic'] else {})}

    def _scores(self, features: Sequence[Any],
                channels: Sequence[MatchedDetections]) -> list[Optional[Any]]:
        """Return (D,) of each image: the class probabilities of the detections, with gradient."""
        classes = _classes(channels, features[0].context)
        if classes is None or not self._predicts:
            return _split_by_image(None if classes is None else mx.nd.ones_like(classes), channels)
        rois = [found.rois for found in channels]
        logits, _ = self.net.box_head(pool_rois(features[:4], rois, BOX_SIZE))
        return _split_by_image(mx.nd.pick(mx.nd.softmax(logits, axis=1), classes, axis=1), channels)

    def _masks(self, features: Sequence[Any],
               channels: Sequence[MatchedDetections]) -> list[Optional[Any]]:
        """Return (D, m, m) of each image: mask probabilities of the detections, with gradient."""
        classes = _classes(channels, features[0].context)
        if classes is None or not self.net.has_masks:
            return _split_by_image(None, channels)
        pooled = pool_rois(features[:4], [found.boxes for found in channels], MASK_SIZE)
        return _split_by_image(mx.nd.sigmoid(self.net.mask_head(pooled, classes)), channels)


def match_channels(found: Detections, proposals: np.ndarray, boxes: np.ndarray,
                   classes: np.ndarray) -> MatchedDetections:
    """Match the detections of an image, which come from ``proposals`` (R, 4), with its objects."""
    assigned, duplicate = match_detections(found.boxes, found.classes, boxes, classes)
    kept = ~duplicate
    return MatchedDetections(found.boxes[kept], found.classes[kept], assigned[kept],
                             proposals[found.rows[kept]])


def _classes(channels: Sequence[MatchedDetections], ctx: Any) -> Optional[Any]:
    """Return (D,) of all images, or None without detections: MXNet has no empty arrays."""
    classes = np.concatenate([found.classes for found in channels])
    return mx.nd.array(classes, ctx, 'float32') if len(classes) else None


def _split_by_image(rows: Optional[Any],
                    channels: Sequence[MatchedDetections]) -> list[Optional[Any]]:
    """Split the rows of all images by image; None for an image without rows."""
    ends = np.cumsum([0, *(len(found.boxes) for found in channels)])
    return [rows[begin:end] if rows is not None and end > begin else None
            for begin, end in zip(ends, ends[1:])]
