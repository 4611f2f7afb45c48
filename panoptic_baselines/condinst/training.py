"""Training of CondInst: the losses of its network."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Optional

import numpy as np

from adaptis.arrays import as_numpy
from adaptis.runtime import mx
from adaptis.types import Taxonomy
from panoptic_baselines.arguments import check_choice, check_counts, check_number
from panoptic_baselines.condinst.losses import (
    DetectionLoss,
    DynamicMaskLoss,
    LocationScores,
    ThingsLoss,
)
from panoptic_baselines.condinst.positives import (
    best_positives,
    best_positives_per_object,
    random_positives,
)
from panoptic_baselines.condinst.targets import CENTERS, CondInstTargets
from panoptic_baselines.fcos.gather import GatherLocations
from panoptic_baselines.fcos.losses import BOX_LOSSES
from panoptic_baselines.fcos.targets import locations
from panoptic_baselines.layers.losses import SemanticLoss
from panoptic_baselines.system import BaseSystem, divergence_error

LIMITS = {'score': 64, 'score_per_object': 64, 'random': 500}


class CondInstSystem(BaseSystem):
    """Losses and predictions of a ``CondInst``.

    Parameters
    ----------
    net : an initialised network
    taxonomy : the classes of the network
    positives : the locations that masks are learned from: in each image, those with the highest
        'score' (section 2.3); 'score_per_object', equally many per object (official code); or
        'random' ones (conference version and official models)
    limit : maximum number of positives: per part of a batch if 'random' (default 500), otherwise
        per image (default 64); with 'score_per_object', every object keeps at least one
    box_loss : 'giou', 'iou' or 'linear_iou'
    center, radius : see ``CondInstTargets``
    mask_weight, things_weight, semantic_weight : weights of the mask loss, of the auxiliary
        semantic task, and of the semantic branch (section 2.5); the losses of FCOS have weight 1
    frozen_stages : number of backbone stages that are frozen: 2 = stem and res2
    hybridize : whether to train with cached graphs

    The losses of FCOS are sums over the whole batch divided by its number of positives, regardless
    of ``micro_batch`` and the number of devices.  With several processes, each normalises its own
    losses.  The dice loss is the mean over the masks of a part of a batch, the auxiliary loss is
    the mean over its pixels, and batch norms see one part.  In the official code, a part is what
    one GPU processes.

    Raises AdaptisError for a choice that does not exist or a number out of range.
    """

    host_keys = 'boxes', 'classes', 'objects'

    def __init__(self, net: Any, taxonomy: Taxonomy, *, positives: str = 'score',
                 limit: Optional[int] = None, box_loss: str = 'giou', center: str = 'mass',
                 radius: float = 1.5, mask_weight: float = 1.0, things_weight: float = 1.0,
                 semantic_weight: float = 0.5, frozen_stages: int = 2, hybridize: bool = False):
        check_choice('positives', positives, LIMITS)
        check_choice('box_loss', box_loss, BOX_LOSSES)
        check_choice('center', center, CENTERS)
        limit = LIMITS[positives] if limit is None else limit
        check_counts(limit=limit)
        for name, value in (('radius', radius), ('mask_weight', mask_weight),
                            ('things_weight', things_weight),
                            ('semantic_weight', semantic_weight)):
            check_number(name, value, 0)
        self._weights = {'masks': mask_weight, 'things': things_weight, 'semantic': semantic_weight}
        self._choice, self._limit = positives, limit
        self._center, self._radius = center, radius
        self._dense, self._masks = DetectionLoss(net.num_things, box_loss), DynamicMaskLoss()
        self._things, self._semantic = ThingsLoss(net.num_things), SemanticLoss()
        self._confidence, self._take = LocationScores(), GatherLocations()
        self._positives = 0
        super().__init__(net, taxonomy, (self._dense, self._masks, self._things, self._semantic,
                                         self._confidence, self._take), frozen_stages, hybridize)

    def targets(self) -> CondInstTargets:
        """Return the picklable callable that makes batches for ``losses``."""
        net = self.net
        return CondInstTargets(self.taxonomy, net.merge_things, strides=net.strides,
                               sizes=net.sizes[:-1], radius=self._radius, center=self._center,
                               mask_stride=net.mask_stride)

    def losses(self, batch: dict[str, Any], outputs: Any = None) -> dict[str, Any]:
        """Return the weighted losses of a batch (see ``CondInstTargets``), in ``autograd.record``.

        Scalars: 'classes', 'boxes', 'centerness', 'masks' and, for a network with these branches,
        'things' and 'semantic'.  Random positives are drawn from ``numpy.random``.

        Raises AdaptisError if positives are chosen by score and the network has diverged.
        """
        maps = self.forward(batch) if outputs is None else outputs
        return self.losses_from_maps(maps, batch)

    def losses_from_maps(self, maps: Any, batch: dict[str, Any]) -> dict[str, Any]:
        """Return the losses for given outputs of the network."""
        losses = dict(zip(('classes', 'boxes', 'centerness'), self._dense(
            *(batch[key] for key in ('labels', 'distances', 'centerness', 'averages')),
            *maps.logits, *maps.distances, *maps.centerness)))
        losses['masks'] = self.mask_loss(maps, batch, self.select_positives(maps, batch))
        if maps.things is not None:
            losses['things'] = self._things(maps.things, batch['things'])
        if maps.semantic is not None:
            losses['semantic'] = self._semantic(maps.semantic, batch['semantic'])
        return {name: loss * self._weights.get(name, 1) for name, loss in losses.items()}

    def select_positives(self, maps: Any, batch: dict[str, Any]) -> np.ndarray:
        """Return images and cells (2, P) of the locations whose masks are learned."""
        objects = as_numpy(batch['objects'])
        if self._choice == 'random':
            return random_positives(objects, self._limit, np.random)
        with mx.autograd.pause():
            scores = as_numpy(self._confidence(*maps.logits, *maps.centerness))
        if not np.isfinite(scores).all():
            raise divergence_error()
        best = best_positives if self._choice == 'score' else best_positives_per_object
        return best(objects, scores, self._limit)

    def mask_loss(self, maps: Any, batch: dict[str, Any], positives: np.ndarray) -> Any:
        """Return the dice loss of the masks of given locations (2, P), sorted by image."""
        self._positives = positives.shape[1]
        if not self._positives:   # MXNet has no empty arrays: add a location that does not count
            positives = np.zeros((2, 1), int)
        objects = np.maximum(as_numpy(batch['objects'])[tuple(positives)], 0)
        ctx = maps.mask_features.context
        index, counted = (_put(array, ctx) for array in (
            np.stack([positives[0], objects]), np.full(len(objects), self._positives > 0)))
        return self._masks(self.mask_logits(maps, positives), batch['masks'], index, counted)

    def mask_logits(self, maps: Any, positives: np.ndarray) -> Any:
        """Return logits (P, h, w) at ``net.mask_stride``, computed image by image."""
        ctx = maps.mask_features.context
        params = self._take(_put(positives, ctx), *maps.params)
        places, sizes = self._places([x.shape[2:] for x in maps.logits])
        logits, begin = [], 0
        for image, count in zip(*np.unique(positives[0], return_counts=True)):
            rows = slice(begin, begin + count)
            cells, begin = positives[1, rows], begin + count
            logits.append(self.net.mask_head(
                maps.mask_features[int(image):int(image) + 1], params[rows],
                _put(places[cells], ctx), _put(sizes[cells], ctx)))
        return mx.nd.concat(*logits, dim=0)

    def _places(self, shapes: Sequence[Any]) -> tuple[np.ndarray, np.ndarray]:
        """Return the locations (N, 2) of all cells and their levels' size of interest (N, 1)."""
        places = [locations(shape, stride) for shape, stride in zip(shapes, self.net.strides)]
        sizes = np.repeat(np.float32(self.net.sizes), [len(p) for p in places])
        return np.concatenate(places), sizes[:, None]

    def metrics(self) -> dict[str, float]:
        """Return the number of masks that the last step learned from."""
        return {'positives': float(self._positives)}


def _put(array: np.ndarray, ctx: Any) -> Any:
    return mx.nd.array(array, ctx=ctx, dtype='float32')
