"""Training of Faster and Mask R-CNN, which Panoptic FPN and the unified system share."""
from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Optional

import numpy as np

from adaptis.arrays import as_numpy
from adaptis.errors import AdaptisError
from adaptis.runtime import mx
from adaptis.types import Taxonomy
from panoptic_baselines.arguments import check_counts, check_number
from panoptic_baselines.layers.boxes import encode
from panoptic_baselines.rcnn.losses import BoxLoss, GatherAnchors, MaskLoss, RPNLoss
from panoptic_baselines.rcnn.mask_targets import bitmap_targets
from panoptic_baselines.rcnn.proposals import BOX_WEIGHTS, Proposals
from panoptic_baselines.rcnn.roi_align import pool_rois
from panoptic_baselines.rcnn.sampling import RoITargets, sample_rois
from panoptic_baselines.rcnn.targets import DetectionTargets
from panoptic_baselines.system import BaseSystem, divergence_error

LOSSES = ('rpn_objectness', 'rpn_boxes', 'classes', 'boxes', 'masks')
PROPOSALS_PER_LEVEL = 2000   # before NMS; 1000 at inference


class RoIs(NamedTuple):
    """The RoIs that the heads learn from in a step; boxes are one array (N, 4) for each image.

    ``classes`` (R,) and ``deltas`` (R, 4) belong to ``boxes``; ``mask_classes`` (P,) and ``masks``
    (P, 28, 28) belong to ``mask_boxes``, the foreground.  R and P are at least 1; a placeholder has
    the class -1.
    """

    boxes: list[np.ndarray]
    classes: np.ndarray
    deltas: np.ndarray
    mask_boxes: list[np.ndarray]
    mask_classes: np.ndarray
    masks: np.ndarray


class TwoStageSystem(BaseSystem):
    """A system whose network is a ``TwoStageInference``; subclasses add ``losses``.

    Parameters
    ----------
    rois, foreground : number of RoIs per image that the heads learn from, and the maximum share of
        them on objects
    mask_loss : the loss of the mask head, see ``MaskLoss``
    others : see ``BaseSystem``
    """

    host_keys = 'boxes', 'classes', 'instances', 'layers'

    def __init__(self, net: Any, taxonomy: Taxonomy, blocks: Iterable[Any], frozen_stages: int,
                 hybridize: bool, *, rois: int, foreground: float, mask_loss: Any = None):
        check_counts(rois=rois)
        check_number('foreground', foreground, 0, 1)
        self._rois = dict(count=rois, share=foreground)
        self._take_anchors, self._rpn_loss = GatherAnchors(), RPNLoss()
        self._box_loss, self._mask_loss = BoxLoss(net.num_things), mask_loss or MaskLoss()
        self._foreground = 0.0
        super().__init__(net, taxonomy, (self._take_anchors, self._rpn_loss, self._box_loss,
                                         self._mask_loss, *blocks), frozen_stages, hybridize)

    def targets(self) -> DetectionTargets:
        """Return the picklable callable that makes batches for ``losses``."""
        return DetectionTargets(self.taxonomy, self.net.merge_things, self.net.has_instances,
                                anchor_sizes=self.net.anchor_sizes)

    def detector_losses(self, maps: Any, batch: dict[str, Any],
                        proposals: Optional[list[Proposals]] = None) -> dict[str, Any]:
        """Return 'rpn_objectness', 'rpn_boxes', 'classes', 'boxes' and, with a mask head, 'masks'.

        They are averaged over the images of a batch (see ``DetectionTargets``).  Pass ``proposals``
        if they are already computed.  Samples are drawn from ``numpy.random``.
        """
        if proposals is None:
            rois = self.sample_rois(maps, batch)
        else:
            rois = self.sample_from_proposals(proposals, batch)
        return dict(zip(LOSSES, (*self._anchor_losses(maps, batch),
                                 *self.roi_losses(maps.features, rois))))

    def _anchor_losses(self, maps: Any, batch: dict[str, Any]) -> tuple[Any, Any]:
        logits, deltas = self._take_anchors(batch['anchor_index'], *maps.rpn_logits,
                                            *maps.rpn_deltas)
        return self._rpn_loss(logits, deltas, batch['anchor_labels'], batch['anchor_deltas'])

    def sample_rois(self, maps: Any, batch: dict[str, Any]) -> RoIs:
        """Sample RoIs from the network's proposals, without gradient.

        Raises AdaptisError if the network has diverged.
        """
        return self.sample_from_proposals(self.propose(maps, batch), batch)

    def propose(self, maps: Any, batch: dict[str, Any]) -> list[Proposals]:
        """Return the proposals for training; AdaptisError if the network has diverged."""
        sizes = as_numpy(batch['sizes']).astype(int).tolist()
        try:
            return self.net.propose(maps, sizes, per_level=PROPOSALS_PER_LEVEL)
        except AdaptisError as error:   # whose message would blame the checkpoint
            raise divergence_error() from error

    def sample_from_proposals(self, proposals: Sequence[Proposals], batch: dict[str, Any]) -> RoIs:
        """Sample RoIs from given proposals."""
        objects, classes = unpad_objects(batch)
        chosen = [sample_rois(found.boxes, boxes, kinds, self.net.num_things, np.random,
                              **self._rois)
                  for found, boxes, kinds in zip(proposals, objects, classes)]
        maps = as_numpy(batch.get('layers', batch['instances']))
        return batch_rois(chosen, objects, maps, self.net.num_things)

    def roi_losses(self, features: Sequence[Any], rois: RoIs) -> tuple[Any, ...]:
        """Return the losses of classes, boxes and, with a mask head, masks for given RoIs."""
        def put(array: np.ndarray) -> Any:
            return mx.nd.array(array, ctx=features[0].context, dtype='float32')
        self._foreground = float((rois.mask_classes >= 0).sum() / max(1, len(rois.classes)))
        logits, deltas = self.net.box_head(pool_rois(features[:4], rois.boxes, 7))
        losses = tuple(self._box_loss(logits, deltas, put(rois.classes), put(rois.deltas)))
        if self.net.mask_head is None:
            return losses
        mask_classes = put(rois.mask_classes)
        masks = self.net.mask_head(pool_rois(features[:4], rois.mask_boxes, 14), mask_classes)
        return (*losses, self._mask_loss(masks, mask_classes, put(rois.masks)))

    def metrics(self) -> dict[str, float]:
        """Return the share of the last step's RoIs that were on objects."""
        return {'foreground': self._foreground} if self.net.has_instances else {}


def unpad_objects(batch: dict[str, Any]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return boxes (G, 4) and classes int64 (G,) of the objects, for each image of a batch."""
    boxes, classes = as_numpy(batch['boxes']), as_numpy(batch['classes'])
    return ([of_image[kinds >= 0] for of_image, kinds in zip(boxes, classes)],
            [kinds[kinds >= 0].astype(np.int64) for kinds in classes])


def batch_rois(chosen: Sequence[RoITargets], objects: Sequence[np.ndarray], instances: np.ndarray,
               background: int) -> RoIs:
    """Return the targets of all images' RoIs.

    In ``instances`` (B, H, W), or (B, L, H, W) with layers, object g has the value g + 1.
    """
    boxes, deltas, mask_boxes, masks = [], [], [], []
    for rois, gt_boxes, id_map in zip(chosen, objects, instances):
        count = int((rois.classes < background).sum())   # the foreground comes first
        targets = np.zeros_like(rois.boxes)
        targets[:count] = encode(rois.boxes[:count], gt_boxes[rois.gt[:count]], BOX_WEIGHTS)
        boxes.append(rois.boxes)
        deltas.append(targets)
        mask_boxes.append(rois.boxes[:count])
        masks.append(bitmap_targets(id_map, rois.gt[:count] + 1, rois.boxes[:count]))
    classes = np.concatenate([rois.classes for rois in chosen])
    return add_placeholder(RoIs(boxes, classes, np.concatenate(deltas), mask_boxes,
                                classes[classes < background], np.concatenate(masks)))


def add_placeholder(rois: RoIs) -> RoIs:
    """Add one RoI of class -1 if there are none, because MXNet does not support empty arrays."""
    boxes = [np.float32([[0, 0, 1, 1]]), *rois.boxes[1:]]
    if not len(rois.classes):
        rois = rois._replace(boxes=boxes, classes=np.array([-1]), deltas=np.zeros((1, 4)))
    if not len(rois.mask_classes):
        rois = rois._replace(mask_boxes=[boxes[0], *rois.mask_boxes[1:]],
                             mask_classes=np.array([-1]), masks=np.zeros((1, 28, 28)))
    return rois
