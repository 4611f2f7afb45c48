"""Panoptic FPN as experiments see it: a network, its losses and its predictions."""
from __future__ import annotations

from typing import Any, Dict, List, NamedTuple, Sequence, Tuple

import numpy as np

from adaptis.errors import AdaptisError
from adaptis.runtime import mx
from adaptis.types import Taxonomy
from panoptic_baselines.batches import DetectionTargets
from panoptic_baselines.layers.boxes import encode
from panoptic_baselines.layers.losses import BoxLoss, MaskLoss, RPNLoss, SemanticLoss, TakeAnchors
from panoptic_baselines.layers.mask_targets import bitmap_targets
from panoptic_baselines.layers.proposals import BOX_WEIGHTS
from panoptic_baselines.layers.roi_align import pool_rois
from panoptic_baselines.layers.sampling import RoITargets, sample_rois
from panoptic_baselines.system import BaseSystem, as_numpy, demand_number, paint_padding

UPDATES = ('combined', 'alternate')
INSTANCE_LOSSES = ('rpn_objectness', 'rpn_boxes', 'classes', 'boxes', 'masks')
PROPOSALS_PER_LEVEL = 2000   # before suppression; at test time 1000


class RoIs(NamedTuple):
    """What the heads learn from in a step; boxes are one array (N, 4) for each image.

    ``classes`` (R,) and ``deltas`` (R, 4) belong to ``boxes``; ``mask_classes`` (P,) and ``masks``
    (P, 28, 28) to ``mask_boxes``, which are of the foreground.  There is at least one of each; its
    class is -1 if there should be none.
    """

    boxes: List[np.ndarray]
    classes: np.ndarray
    deltas: np.ndarray
    mask_boxes: List[np.ndarray]
    mask_classes: np.ndarray
    masks: np.ndarray


class PanopticFPNSystem(BaseSystem):
    """Losses and predictions of a ``PanopticFPN``; of either branch alone if it has no other.

    Parameters
    ----------
    net : an initialised network
    taxonomy : what its classes mean
    instance_weight, semantic_weight : lambda_i and lambda_s (section 3.2)
    updates : 'combined' learns both branches in every step; 'alternate' the instances in even and
        the semantics in odd ones (table 3c), for which ``begin_step`` tells the step
    rois, foreground : RoIs per image that the heads learn from, and the most of them on objects
    frozen_stages : how much of the backbone keeps its weights: 2 = stem and res2
    hybridize : train through cached graphs

    Raises AdaptisError for a choice that does not exist or a number out of range.
    """

    host_keys = 'boxes', 'classes', 'instances'

    def __init__(self, net: Any, taxonomy: Taxonomy, *, instance_weight: float = 1.0,
                 semantic_weight: float = 0.5, updates: str = 'combined', rois: int = 512,
                 foreground: float = 0.25, frozen_stages: int = 2, hybridize: bool = False):
        if updates not in UPDATES:
            raise AdaptisError(f'There is no way "{updates}" to update the branches: '
                               f'choose one of {list(UPDATES)}.')
        if updates == 'alternate' and not (net.has_instances and net.has_semantic):
            raise AdaptisError('Updates can alternate between two branches only, '
                               'and the network has one.')
        demand_number('instance_weight', instance_weight, 0, float('inf'))
        demand_number('semantic_weight', semantic_weight, 0, float('inf'))
        demand_number('rois', rois, 1, float('inf'))
        demand_number('foreground', foreground, 0, 1)
        self._weights = {'instances': instance_weight, 'semantic': semantic_weight}
        self._alternates, self._step = updates == 'alternate', None
        self._rois = dict(count=rois, share=foreground)
        self._take_anchors, self._rpn_loss = TakeAnchors(), RPNLoss()
        self._box_loss, self._mask_loss = BoxLoss(net.num_things), MaskLoss()
        self._semantic_loss = SemanticLoss()
        self._foreground = 0.0
        super().__init__(net, taxonomy, (self._take_anchors, self._rpn_loss, self._box_loss,
                                         self._mask_loss, self._semantic_loss),
                         frozen_stages, hybridize)

    def targets(self) -> DetectionTargets:
        """What makes batches for ``losses`` of samples; picklable."""
        return DetectionTargets(self.taxonomy, self.net.merge_things, self.net.has_instances,
                                self.net.anchor_sizes)

    def begin_step(self, step: int) -> None:
        """Tell which step the next ``losses`` belong to."""
        self._step = step

    def losses(self, batch: Dict[str, Any]) -> Dict[str, Any]:
        """Weighted losses of a batch (see ``DetectionTargets``), inside ``autograd.record``.

        Scalars, means over the images: 'rpn_objectness', 'rpn_boxes', 'classes', 'boxes', 'masks'
        and 'semantic', as far as the network has the branches.  What is sampled is drawn from
        ``numpy.random``.
        """
        maps = self.net(paint_padding(batch['image'], batch['sizes'], self.net.mean))
        weights, losses = self._branch_weights(), {}
        if self.net.has_instances:
            found = (*self._anchor_losses(maps, batch),
                     *self.roi_losses(maps.features, self.sample(maps, batch)))
            losses = {name: loss * weights['instances']
                      for name, loss in zip(INSTANCE_LOSSES, found)}
        if self.net.has_semantic:
            losses['semantic'] = (self._semantic_loss(maps.semantic, batch['semantic'])
                                  * weights['semantic'])
        return losses

    def _branch_weights(self) -> Dict[str, float]:
        if not self._alternates:
            return self._weights
        if self._step is None:
            raise ValueError('updates alternate, so begin_step must be called before losses')
        # A weight of 0 and not a loss left out: the optimizer's momentum goes on all the same.
        turn = 'semantic' if self._step % 2 else 'instances'
        return {branch: weight * (branch == turn) for branch, weight in self._weights.items()}

    def _anchor_losses(self, maps: Any, batch: Dict[str, Any]) -> Tuple[Any, Any]:
        logits, deltas = self._take_anchors(batch['anchor_index'], *maps.rpn_logits,
                                            *maps.rpn_deltas)
        return self._rpn_loss(logits, deltas, batch['anchor_labels'], batch['anchor_deltas'])

    def sample(self, maps: Any, batch: Dict[str, Any]) -> RoIs:
        """Choose RoIs of the network's proposals, without gradient.

        Raises AdaptisError if the network has diverged.
        """
        sizes, boxes, classes, instances = (
            as_numpy(batch[key]) for key in ('sizes', 'boxes', 'classes', 'instances'))
        try:
            proposals = self.net.propose(maps, sizes.astype(int).tolist(),
                                         per_level=PROPOSALS_PER_LEVEL)
        except AdaptisError as error:   # which would blame the checkpoint
            raise AdaptisError('The outputs of the network became infinite: lower the learning '
                               'rate; the checkpoints written before are untouched.') from error
        objects = [of_image[kinds >= 0] for of_image, kinds in zip(boxes, classes)]
        chosen = [sample_rois(found.boxes, gt_boxes, kinds[kinds >= 0].astype(np.int64),
                              self.net.num_things, np.random, **self._rois)
                  for found, gt_boxes, kinds in zip(proposals, objects, classes)]
        return collect(chosen, objects, instances, self.net.num_things)

    def roi_losses(self, features: Sequence[Any], rois: RoIs) -> Tuple[Any, Any, Any]:
        """Losses of classes, boxes and masks of given RoIs."""
        def put(array: np.ndarray) -> Any:
            return mx.nd.array(array, ctx=features[0].context, dtype='float32')
        self._foreground = float((rois.mask_classes >= 0).sum() / max(1, len(rois.classes)))
        logits, deltas = self.net.box_head(pool_rois(features[:4], rois.boxes, 7))
        classes, boxes = self._box_loss(logits, deltas, put(rois.classes), put(rois.deltas))
        mask_classes = put(rois.mask_classes)
        masks = self.net.mask_head(pool_rois(features[:4], rois.mask_boxes, 14), mask_classes)
        return classes, boxes, self._mask_loss(masks, mask_classes, put(rois.masks))

    def metrics(self) -> Dict[str, float]:
        """Share of the last step's RoIs that lay on objects."""
        return {'foreground': self._foreground} if self.net.has_instances else {}


def collect(chosen: Sequence[RoITargets], objects: Sequence[np.ndarray], instances: np.ndarray,
            background: int) -> RoIs:
    """Targets of the RoIs of all images together; ``instances`` (B, H, W) has object g as g + 1."""
    boxes, deltas, mask_boxes, masks = [], [], [], []
    for rois, gt_boxes, id_map in zip(chosen, objects, instances):
        count = int((rois.classes < background).sum())   # the foreground comes first
        wanted = np.zeros_like(rois.boxes)
        wanted[:count] = encode(rois.boxes[:count], gt_boxes[rois.gt[:count]], BOX_WEIGHTS)
        boxes.append(rois.boxes)
        deltas.append(wanted)
        mask_boxes.append(rois.boxes[:count])
        masks.append(bitmap_targets(id_map, rois.gt[:count] + 1, rois.boxes[:count]))
    classes = np.concatenate([rois.classes for rois in chosen])
    return fill(RoIs(boxes, classes, np.concatenate(deltas), mask_boxes,
                     classes[classes < background], np.concatenate(masks)))


def fill(rois: RoIs) -> RoIs:
    """The same, with one RoI of class -1 where there is none, as no layer takes empty arrays."""
    some = [np.float32([[0, 0, 1, 1]]), *rois.boxes[1:]]
    if not len(rois.classes):
        rois = rois._replace(boxes=some, classes=np.array([-1]), deltas=np.zeros((1, 4)))
    if not len(rois.mask_classes):
        rois = rois._replace(mask_boxes=[some[0], *rois.mask_boxes[1:]],
                             mask_classes=np.array([-1]), masks=np.zeros((1, 28, 28)))
    return rois
