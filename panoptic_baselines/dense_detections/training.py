"""Dense detections as experiments see them: a network, its losses and its predictions."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from adaptis.errors import AdaptisError
from adaptis.runtime import mx
from adaptis.types import Taxonomy
from panoptic_baselines.arguments import demand_choice, demand_counts, demand_number, demand_numbers
from panoptic_baselines.condinst.losses import TakeCells
from panoptic_baselines.dense_detections.boxes import LOCATIONS
from panoptic_baselines.dense_detections.losses import (
    NORMALIZERS,
    BootstrappedLoss,
    DetectionLoss,
    LevelnessLoss,
    QueryMaskLoss,
)
from panoptic_baselines.dense_detections.settings import DenseDetectionsSettings
from panoptic_baselines.dense_detections.targets import SIZES, SUPERVISION, DenseTargets, inclusive
from panoptic_baselines.system import (
    BaseSystem,
    as_numpy,
    diverged,
    paint_padding,
)

BOX_LOSSES = {'iou': 0.0, 'smooth_iou': 1.0}
"""-ln IoU as UnitBox has it, or with 1 added to intersection and union, as FCOS has it."""


class Queries(NamedTuple):
    """Detections of one image that lie on an object: ``cells`` (Q,) of all levels, the middle
    ``places`` (Q, 2) of each, and ``objects`` (Q,), the rows of the objects there."""

    cells: np.ndarray
    places: np.ndarray
    objects: np.ndarray


class DenseDetectionsSystem(BaseSystem):
    """Losses and predictions of a ``DenseDetections``.

    Parameters
    ----------
    net : an initialised network
    taxonomy : what its classes mean
    supervision : 'masks', or 'boxes' alone with the semantic labels (section 5.6)
    mask_loss : learn the masks themselves (equations 16 to 18), which needs masks
    semantic_weight : lambda of equation 19: 1 for Cityscapes, 0.4 for COCO
    box_loss : 'iou' or 'smooth_iou'
    focal_normalizer : what the focal loss is divided by, 'locations' or 'foreground'
    sizes : distances to the sides where one level hands over to the next (m_1 to m_4, equation 9)
    overlap : of the mask loss, 'iou' or 'giou'
    queries : at most so many detections of an image enter the mask loss
    bias_lr_mult, bias_wd_mult, norm_wd_mult : how fast biases learn, and how much they and norms
        decay: 2, 0 and 1 in FCOS
    frozen_stages : how much of the backbone keeps its weights: 2 = stem and res2
    hybridize : train through cached graphs

    Losses of boxes and centerness are sums over the whole batch by the number of locations on
    objects in it, whatever ``micro_batch`` and the number of devices are; that of the masks is the
    mean over the queries of a part of a batch.

    Raises AdaptisError for a choice that does not exist or a number out of range.
    """

    host_keys = 'boxes', 'classes', 'instances', 'objects'

    def __init__(self, net: Any, taxonomy: Taxonomy, *, supervision: str = 'masks',
                 mask_loss: bool = True, semantic_weight: float = 1.0, box_loss: str = 'iou',
                 focal_normalizer: str = 'locations', sizes: Sequence[float] = SIZES,
                 overlap: str = 'iou', queries: int = 100, bias_lr_mult: float = 1.0,
                 bias_wd_mult: float = 1.0, norm_wd_mult: float = 0.0, frozen_stages: int = 2,
                 hybridize: bool = False):
        demand_choice('supervision', supervision, SUPERVISION)
        demand_choice('mask_loss', mask_loss, (True, False))
        demand_choice('box_loss', box_loss, list(BOX_LOSSES))
        demand_choice('focal_normalizer', focal_normalizer, NORMALIZERS)
        demand_choice('overlap', overlap, LOCATIONS)
        for name, value in (('semantic_weight', semantic_weight), ('bias_lr_mult', bias_lr_mult),
                            ('bias_wd_mult', bias_wd_mult), ('norm_wd_mult', norm_wd_mult)):
            demand_number(name, value, 0)
        demand_counts(queries=queries)
        _demand_sizes(sizes)
        if mask_loss and supervision == 'boxes':
            raise AdaptisError('Boxes alone do not say what the mask_loss would learn: set it to '
                               'false where supervision is boxes.')
        self.bias_lr_mult, self.bias_wd_mult = bias_lr_mult, bias_wd_mult
        self.norm_wd_mult = norm_wd_mult
        self._supervision, self._sizes = supervision, tuple(sizes)
        self._weight, self._has_masks = semantic_weight, mask_loss
        self._settings = DenseDetectionsSettings(detections_per_image=queries)
        self._detections = DetectionLoss(net.num_things, BOX_LOSSES[box_loss], focal_normalizer)
        self._levelness, self._semantic = LevelnessLoss(), BootstrappedLoss(net.semantic_stride)
        self._masks = QueryMaskLoss(overlap, levels=net.box_levels)
        self._take = TakeCells()
        self._queries = 0
        super().__init__(net, taxonomy, (self._detections, self._levelness, self._semantic,
                                         self._masks, self._take), frozen_stages, hybridize)

    def targets(self) -> DenseTargets:
        """What makes batches for ``losses`` of samples; picklable."""
        return DenseTargets(self.taxonomy, self.net.merge_things, sizes=self._sizes,
                            supervision=self._supervision)

    def losses(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Weighted losses of a batch (see ``DenseTargets``), inside ``autograd.record``.

        Scalars: 'classes', 'boxes', 'centerness', 'semantic', and as far as they are asked for
        'levelness' and 'masks'.

        Raises AdaptisError if masks are learnt and the network has diverged.
        """
        image = paint_padding(batch['image'], batch['sizes'], self.net.mean)
        if not self._has_masks:
            return self.losses_of(self.net.maps(image), batch)
        dense = self.net.read(image)
        return {**self.losses_of(dense.maps, batch),
                'masks': self.mask_loss(dense, batch, self.choose(dense.maps, batch))}

    def losses_of(self, maps: Any, batch: dict[str, Any]) -> dict[str, Any]:
        """The losses of what the network says, without that of the masks."""
        losses = dict(zip(('classes', 'boxes', 'centerness'), self._detections(
            *(batch[key] for key in ('labels', 'distances', 'centerness', 'averages')),
            *maps.logits, *maps.offsets, *maps.centerness)))
        if maps.levelness is not None:
            losses['levelness'] = self._levelness(maps.levelness, batch['levelness'])
        losses['semantic'] = self._semantic(maps.semantic, batch['semantic']) * self._weight
        return losses

    def choose(self, maps: Any, batch: dict[str, Any]) -> list[Queries]:
        """What is detected on objects, image by image; each shall find the object it lies on.

        Raises AdaptisError if the network has diverged.
        """
        sizes, objects = (as_numpy(batch[key]).astype(int) for key in ('sizes', 'objects'))
        try:
            detections = self.net.detect(maps, sizes.tolist(), self._settings)
        except AdaptisError as error:   # which would blame the checkpoint
            raise diverged() from error
        begins = np.cumsum([0, *(x.shape[2] * x.shape[3] for x in maps.logits)])
        chosen = []
        for found, owners in zip(detections, objects):
            cells = begins[found.levels] + found.cells
            own = owners[cells]
            chosen.append(Queries(cells[own >= 0], found.locations[own >= 0], own[own >= 0]))
        return chosen

    def mask_loss(self, dense: Any, batch: dict[str, Any], chosen: Sequence[Queries]) -> Any:
        """Mean over the queries of all images; 0 if there is none."""
        ctx = dense.boxes.context

        def put(array: np.ndarray) -> Any:
            return mx.nd.array(array, ctx=ctx, dtype='float32')
        losses, counts = [mx.nd.zeros((1,), ctx)], [mx.nd.zeros((1,), ctx)]
        for image, (queries, boxes) in enumerate(zip(chosen, as_numpy(batch['boxes']))):
            if len(queries.cells):   # MXNet knows no empty arrays
                index = np.stack([np.full(len(queries.cells), image), queries.cells])
                loss, counted = self._masks(
                    dense.boxes[image],
                    around(put(queries.places), self._take(put(index), *dense.maps.offsets)),
                    put(queries.objects), put(inclusive(boxes[queries.objects])),
                    batch['pixels'][image])
                losses.append(loss.sum())
                counts.append(counted.sum())
        self._queries = sum(len(queries.cells) for queries in chosen)
        return mx.nd.add_n(*losses) / mx.nd.maximum(mx.nd.add_n(*counts), 1)

    def metrics(self) -> dict[str, float]:
        """How many detections the last step's mask loss saw."""
        return {'queries': float(self._queries)} if self._has_masks else {}


def around(places: Any, offsets: Any) -> Any:
    """Boxes (Q, 4) around places (Q, 2), by the distances (Q, 4) to their sides."""
    near, far = mx.nd.split(offsets, num_outputs=2, axis=1)
    return mx.nd.concat(places - near, places + far, dim=1)


def _demand_sizes(sizes: Any) -> None:
    demand_numbers('sizes', sizes, len(SIZES), positive=True)
    if sorted(set(sizes)) != list(sizes):
        raise AdaptisError(f'sizes is {sizes!r} but must be rising numbers.')
