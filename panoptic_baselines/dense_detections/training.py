"""Training of dense detections: the losses of their network."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from adaptis.arrays import as_numpy
from adaptis.errors import AdaptisError
from adaptis.runtime import mx
from adaptis.types import Taxonomy
from panoptic_baselines.arguments import check_choice, check_counts, check_number, check_numbers
from panoptic_baselines.dense_detections.boxes import LOCATION_MEASURES
from panoptic_baselines.dense_detections.losses import (
    NORMALIZERS,
    BootstrappedLoss,
    DetectionLoss,
    LevelnessLoss,
    QueryMaskLoss,
)
from panoptic_baselines.dense_detections.settings import DenseDetectionsSettings
from panoptic_baselines.dense_detections.targets import (
    SIZES,
    SUPERVISION,
    DenseDetectionsTargets,
    to_inclusive,
)
from panoptic_baselines.fcos.gather import GatherLocations
from panoptic_baselines.system import BaseSystem, divergence_error, fill_padding

BOX_LOSSES = {'iou': 0.0, 'smooth_iou': 1.0}
"""-ln IoU as in UnitBox, or with 1 added to the intersection and the union, as in FCOS."""


class Queries(NamedTuple):
    """Detections of one image that lie on an object.

    ``cells`` (Q,), numbered over all levels; ``locations`` (Q, 2), the centre (x, y) of each cell;
    ``objects`` (Q,), the rows of the objects there.
    """

    cells: np.ndarray
    locations: np.ndarray
    objects: np.ndarray


class DenseDetectionsSystem(BaseSystem):
    """Losses and predictions of a ``DenseDetections``.

    Parameters
    ----------
    net : an initialised network
    taxonomy : the classes of the network
    supervision : 'masks', or 'boxes' for only boxes and semantic labels (section 5.6)
    mask_loss : whether to use the mask loss (equations 16 to 18); it needs masks
    semantic_weight : lambda of equation 19: 1 for Cityscapes, 0.4 for COCO
    box_loss : 'iou' or 'smooth_iou'
    focal_normalizer : what the focal loss is divided by, 'locations' or 'foreground'
    sizes : distances to the sides at which one level ends and the next begins (m_1 to m_4,
        equation 9)
    overlap : overlap measure of the mask loss, 'iou' or 'giou'
    queries : maximum number of detections per image in the mask loss
    bias_lr_mult, bias_wd_mult, norm_wd_mult : multipliers of the learning rate of biases, and of
        the weight decay of biases and norms: 2, 0 and 1 in FCOS
    frozen_stages : number of backbone stages that are frozen: 2 = stem and res2
    hybridize : whether to train with cached graphs

    The losses of boxes and centerness are sums over the whole batch divided by its number of
    locations on objects, regardless of ``micro_batch`` and the number of devices.  The mask loss
    is the mean over the queries of a part of a batch.

    Raises AdaptisError for a choice that does not exist or a number out of range.
    """

    host_keys = 'boxes', 'classes', 'objects'

    def __init__(self, net: Any, taxonomy: Taxonomy, *, supervision: str = 'masks',
                 mask_loss: bool = True, semantic_weight: float = 1.0, box_loss: str = 'iou',
                 focal_normalizer: str = 'locations', sizes: Sequence[float] = SIZES,
                 overlap: str = 'iou', queries: int = 100, bias_lr_mult: float = 1.0,
                 bias_wd_mult: float = 1.0, norm_wd_mult: float = 0.0, frozen_stages: int = 2,
                 hybridize: bool = False):
        check_choice('supervision', supervision, SUPERVISION)
        check_choice('mask_loss', mask_loss, (True, False))
        check_choice('box_loss', box_loss, list(BOX_LOSSES))
        check_choice('focal_normalizer', focal_normalizer, NORMALIZERS)
        check_choice('overlap', overlap, LOCATION_MEASURES)
        for name, value in (('semantic_weight', semantic_weight), ('bias_lr_mult', bias_lr_mult),
                            ('bias_wd_mult', bias_wd_mult), ('norm_wd_mult', norm_wd_mult)):
            check_number(name, value, 0)
        check_counts(queries=queries)
        _check_sizes(sizes)
        if mask_loss and supervision == 'boxes':
            raise AdaptisError('mask_loss needs masks, but supervision is boxes: set mask_loss to '
                               'false.')
        self.bias_lr_mult, self.bias_wd_mult = bias_lr_mult, bias_wd_mult
        self.norm_wd_mult = norm_wd_mult
        self._supervision, self._sizes = supervision, tuple(sizes)
        self._weight, self._has_masks = semantic_weight, mask_loss
        self._settings = DenseDetectionsSettings(detections_per_image=queries)
        self._detections = DetectionLoss(net.num_things, BOX_LOSSES[box_loss], focal_normalizer)
        self._levelness, self._semantic = LevelnessLoss(), BootstrappedLoss(net.semantic_stride)
        self._masks = QueryMaskLoss(overlap, levels=net.box_levels)
        self._take = GatherLocations()
        self._queries = 0
        super().__init__(net, taxonomy, (self._detections, self._levelness, self._semantic,
                                         self._masks, self._take), frozen_stages, hybridize)

    def targets(self) -> DenseDetectionsTargets:
        """Return the picklable callable that makes batches for ``losses``."""
        return DenseDetectionsTargets(self.taxonomy, self.net.merge_things, sizes=self._sizes,
                                      supervision=self._supervision)

    def forward(self, batch: dict[str, Any]) -> Any:
        """Return the maps of the network for a batch and, with a mask loss, its boxes."""
        image = fill_padding(batch['image'], batch['sizes'], self.net.mean)
        return self.net.encode(image) if self._has_masks else self.net.maps(image)

    def losses(self, batch: dict[str, Any], outputs: Any = None) -> dict[str, Any]:
        """Return the weighted losses of a batch, inside ``autograd.record``.

        See ``DenseDetectionsTargets`` for the batch.  Scalars: 'classes', 'boxes', 'centerness',
        'semantic', and if enabled 'levelness' and 'masks'.

        Raises AdaptisError if there is a mask loss and the network has diverged.
        """
        dense = self.forward(batch) if outputs is None else outputs
        if not self._has_masks:
            return self.losses_from_maps(dense, batch)
        return {**self.losses_from_maps(dense.maps, batch),
                'masks': self.mask_loss(dense, batch, self.select_queries(dense.maps, batch))}

    def losses_from_maps(self, maps: Any, batch: dict[str, Any]) -> dict[str, Any]:
        """Return the losses for given outputs of the network, except the mask loss."""
        losses = dict(zip(('classes', 'boxes', 'centerness'), self._detections(
            *(batch[key] for key in ('labels', 'distances', 'centerness', 'averages')),
            *maps.logits, *maps.distances, *maps.centerness)))
        if maps.levelness is not None:
            losses['levelness'] = self._levelness(maps.levelness, batch['levelness'])
        losses['semantic'] = self._semantic(maps.semantic, batch['semantic']) * self._weight
        return losses

    def select_queries(self, maps: Any, batch: dict[str, Any]) -> list[Queries]:
        """Return each image's detections on objects; each should find the object it lies on.

        Raises AdaptisError if the network has diverged.
        """
        sizes, objects = (as_numpy(batch[key]).astype(int) for key in ('sizes', 'objects'))
        try:
            detections = self.net.detect(maps, sizes.tolist(), self._settings)
        except AdaptisError as error:   # whose message would blame the checkpoint
            raise divergence_error() from error
        begins = np.cumsum([0, *(x.shape[2] * x.shape[3] for x in maps.logits)])
        chosen = []
        for found, owners in zip(detections, objects):
            cells = begins[found.levels] + found.cells
            own = owners[cells]
            chosen.append(Queries(cells[own >= 0], found.locations[own >= 0], own[own >= 0]))
        return chosen

    def mask_loss(self, dense: Any, batch: dict[str, Any], chosen: Sequence[Queries]) -> Any:
        """Return the mean over the queries of all images; 0 if there are no queries."""
        ctx = dense.boxes.context

        def put(array: np.ndarray) -> Any:
            return mx.nd.array(array, ctx=ctx, dtype='float32')
        losses, counts = [mx.nd.zeros((1,), ctx)], [mx.nd.zeros((1,), ctx)]
        for image, (queries, boxes) in enumerate(zip(chosen, as_numpy(batch['boxes']))):
            if len(queries.cells):   # MXNet has no empty arrays
                index = put(np.stack([np.full(len(queries.cells), image), queries.cells]))
                distances = self._take(index, *dense.maps.distances)
                loss, counted = self._masks(
                    dense.boxes[image],
                    distances_to_boxes(put(queries.locations), distances),
                    put(queries.objects), put(to_inclusive(boxes[queries.objects])),
                    batch['pixels'][image])
                losses.append(loss.sum())
                counts.append(counted.sum())
        self._queries = sum(len(queries.cells) for queries in chosen)
        return mx.nd.add_n(*losses) / mx.nd.maximum(mx.nd.add_n(*counts), 1)

    def metrics(self) -> dict[str, float]:
        """Return the number of detections in the last step's mask loss."""
        return {'queries': float(self._queries)} if self._has_masks else {}


def distances_to_boxes(points: Any, distances: Any) -> Any:
    """Return boxes (Q, 4), given the distances (Q, 4) from points (Q, 2) to their sides."""
    near, far = mx.nd.split(distances, num_outputs=2, axis=1)
    return mx.nd.concat(points - near, points + far, dim=1)


def _check_sizes(sizes: Any) -> None:
    check_numbers('sizes', sizes, len(SIZES), positive=True)
    if sorted(set(sizes)) != list(sizes):
        raise AdaptisError(f'sizes is {sizes!r} but must be in ascending order.')
