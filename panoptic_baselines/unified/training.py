"""The unified system as experiments see it: a network, its losses and its predictions.

Li, Qi, Torr 2020; section numbers are the paper's.  The panoptic output is learnt as it is used:
for the detections that the network itself makes, by the pixels that each of them should get.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Optional

import numpy as np

from adaptis.errors import AdaptisError
from adaptis.runtime import mx
from adaptis.types import Taxonomy
from panoptic_baselines.arguments import demand_choice, demand_number
from panoptic_baselines.layers.losses import MaskLoss, SemanticLoss
from panoptic_baselines.layers.upsample import SEMANTIC_STRIDE
from panoptic_baselines.rcnn.inference import BOX_SIZE, MASK_SIZE
from panoptic_baselines.rcnn.proposals import Detections, Proposals
from panoptic_baselines.rcnn.roi_align import pool_rois
from panoptic_baselines.rcnn.training import TwoStageSystem, objects_of
from panoptic_baselines.system import as_numpy, diverged, paint_padding
from panoptic_baselines.unified.lovasz import LovaszHinge, LovaszSoftmax
from panoptic_baselines.unified.matching import (
    PanopticMatchingLoss,
    match_detections,
    panoptic_target,
    shrink,
)
from panoptic_baselines.unified.predictor import UnifiedPredictor
from panoptic_baselines.unified.settings import UnifiedSettings

MASK_LOSSES = {'lovasz': LovaszHinge, 'cross_entropy': MaskLoss}
SEMANTIC_LOSSES = {'lovasz': LovaszSoftmax, 'cross_entropy': SemanticLoss}
DETECTIONS = ('predicted', 'ground_truth')
TRAINING = UnifiedSettings()   # the paper names no score that detections need to be learnt from


class Channels(NamedTuple):
    """The detections of an image that get a channel, duplicates removed.

    ``boxes`` float32 (D, 4), ``classes`` int (D,), ``assigned`` int (D,) the object of each, -1 =
    none; ``rois`` float32 (D, 4), the proposals that they came from, None if they are no
    predictions and have the score 1.
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
    taxonomy : what its classes mean
    detection_weight, semantic_weight, panoptic_weight : of the losses (section 4): 1, 0.2, 0.1 for
        COCO and 0.25, 1, 1 for Cityscapes; panoptic_weight 0 leaves the panoptic matching loss
        out, as for models A and C, which have no affinity head either (section 4.1)
    semantic_loss : 'cross_entropy' (COCO) or 'lovasz' (Cityscapes, appendix B)
    mask_loss : 'lovasz' (appendix A.2) or 'cross_entropy'
    detections : that the panoptic output learns from: those 'predicted', or the 'ground_truth',
        with the score 1 (appendix A.4, table H)
    rois, foreground : RoIs per image that the heads learn from, and the most of them on objects
    frozen_stages : how much of the backbone keeps its weights: 2 = stem and res2
    hybridize : train through cached graphs

    Raises AdaptisError for a choice that does not exist or a number out of range.
    """

    predictor = UnifiedPredictor

    def __init__(self, net: Any, taxonomy: Taxonomy, *, detection_weight: float = 1.0,
                 semantic_weight: float = 0.2, panoptic_weight: float = 0.1,
                 semantic_loss: str = 'cross_entropy', mask_loss: str = 'lovasz',
                 detections: str = 'predicted', rois: int = 512, foreground: float = 0.25,
                 frozen_stages: int = 2, hybridize: bool = False):
        demand_choice('semantic_loss', semantic_loss, SEMANTIC_LOSSES)
        demand_choice('mask_loss', mask_loss, MASK_LOSSES)
        demand_choice('detections', detections, DETECTIONS)
        self._weights = {'detection': detection_weight, 'semantic': semantic_weight,
                         'panoptic': panoptic_weight}
        for name, weight in self._weights.items():
            demand_number(f'{name}_weight', weight, 0)
        if not panoptic_weight and net.affinity is not None:
            raise AdaptisError('The affinity head learns from the panoptic matching loss alone: '
                               'give that a panoptic_weight, or set affinity to false.')
        self._predicts = detections == 'predicted'
        self._semantic_loss = SEMANTIC_LOSSES[semantic_loss]()
        self._panoptic_loss = PanopticMatchingLoss()
        self._counts = {'detections': 0.0, 'matched': 0.0}
        super().__init__(net, taxonomy, (self._semantic_loss, self._panoptic_loss), frozen_stages,
                         hybridize, rois=rois, foreground=foreground,
                         mask_loss=MASK_LOSSES[mask_loss]())

    def losses(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Weighted losses of a batch (see ``DetectionTargets``), inside ``autograd.record``.

        Scalars: 'rpn_objectness', 'rpn_boxes', 'classes', 'boxes' and, with a mask head, 'masks',
        means over the images; 'semantic' and, if it has a weight, 'panoptic' over the pixels.  What
        is sampled is drawn from ``numpy.random``.  Raises AdaptisError if the network has diverged.
        """
        maps = self.net(paint_padding(batch['image'], batch['sizes'], self.net.mean))
        proposals = self.propose(maps, batch)
        losses = {name: loss * self._weights['detection']
                  for name, loss in self.detector_losses(maps, batch, proposals).items()}
        losses['semantic'] = (self._semantic_loss(maps.semantic, batch['semantic'])
                              * self._weights['semantic'])
        if self._weights['panoptic']:
            channels = self.channels(maps, batch, proposals)
            losses['panoptic'] = (self.panoptic_loss(maps, batch, channels)
                                  * self._weights['panoptic'])
        return losses

    def channels(self, maps: Any, batch: dict[str, Any],
                 proposals: Sequence[Proposals]) -> list[Channels]:
        """What gets a channel in each image, without gradient."""
        objects = list(zip(*objects_of(batch)))
        if not self._predicts:
            return [Channels(boxes, classes, np.arange(len(boxes))) for boxes, classes in objects]
        detections = self.detect(maps, batch, proposals)
        return [match(found, rois.boxes, *of_image)
                for found, rois, of_image in zip(detections, proposals, objects)]

    def detect(self, maps: Any, batch: dict[str, Any],
               proposals: Sequence[Proposals]) -> list[Detections]:
        """Detections among the proposals of each image; AdaptisError for a diverged network."""
        sizes = as_numpy(batch['sizes']).astype(int).tolist()
        try:
            with mx.autograd.pause(train_mode=True):
                return self.net.detect_among(maps, [found.boxes for found in proposals], sizes,
                                             TRAINING)
        except AdaptisError as error:   # which would blame the checkpoint
            raise diverged() from error

    def panoptic_loss(self, maps: Any, batch: dict[str, Any], channels: Sequence[Channels]) -> Any:
        """Panoptic matching loss (section 3.5): its mean over the labelled pixels of the batch.

        Its gradient reaches the scores and the masks of the detections.
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
                         channels: Sequence[Channels]) -> list[np.ndarray]:
        """int32 (ceil(H/4), ceil(W/4)) for each image: the channel of each pixel, -1 = ignored."""
        instances, semantic = (shrink(as_numpy(batch[key]), SEMANTIC_STRIDE).astype(np.int32)
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
        """See ``TwoStageSystem``; and of the last step, how many detections an image has, and the
        share of the objects that have one, if the panoptic loss looks at that."""
        return {**super().metrics(), **(self._counts if self._weights['panoptic'] else {})}

    def _scores(self, features: Sequence[Any],
                channels: Sequence[Channels]) -> list[Optional[Any]]:
        """(D,) of each image: the probabilities of the detections' classes, with gradient."""
        classes = _classes(channels, features[0].context)
        if classes is None or not self._predicts:
            return _deal(None if classes is None else mx.nd.ones_like(classes), channels)
        rois = [found.rois for found in channels]
        logits, _ = self.net.box_head(pool_rois(features[:4], rois, BOX_SIZE))
        return _deal(mx.nd.pick(mx.nd.softmax(logits, axis=1), classes, axis=1), channels)

    def _masks(self, features: Sequence[Any], channels: Sequence[Channels]) -> list[Optional[Any]]:
        """(D, m, m) of each image: the probabilities of the detections' masks, with gradient."""
        classes = _classes(channels, features[0].context)
        if classes is None or not self.net.has_masks:
            return _deal(None, channels)
        pooled = pool_rois(features[:4], [found.boxes for found in channels], MASK_SIZE)
        return _deal(mx.nd.sigmoid(self.net.mask_head(pooled, classes)), channels)


def match(found: Detections, proposals: np.ndarray, boxes: np.ndarray,
          classes: np.ndarray) -> Channels:
    """Channels of an image for its detections, made of ``proposals`` (R, 4), by its objects."""
    assigned, duplicate = match_detections(found.boxes, found.classes, boxes, classes)
    kept = ~duplicate
    return Channels(found.boxes[kept], found.classes[kept], assigned[kept],
                    proposals[found.rows[kept]])


def _classes(channels: Sequence[Channels], ctx: Any) -> Optional[Any]:
    """(D,) of all images; None if there is no detection, as no layer takes empty arrays."""
    classes = np.concatenate([found.classes for found in channels])
    return mx.nd.array(classes, ctx, 'float32') if len(classes) else None


def _deal(rows: Optional[Any], channels: Sequence[Channels]) -> list[Optional[Any]]:
    """Rows of all images -> those of each, None where there are none."""
    ends = np.cumsum([0, *(len(found.boxes) for found in channels)])
    return [rows[begin:end] if rows is not None and end > begin else None
            for begin, end in zip(ends, ends[1:])]
