"""Training of Panoptic FPN: the losses of its network."""
from __future__ import annotations

from typing import Any

from adaptis.errors import AdaptisError
from adaptis.types import Taxonomy
from panoptic_baselines.arguments import check_choice, check_number
from panoptic_baselines.layers.losses import SemanticLoss
from panoptic_baselines.rcnn.training import TwoStageSystem

UPDATES = ('combined', 'alternate')


class PanopticFPNSystem(TwoStageSystem):
    """Losses and predictions of a ``PanopticFPN``, with both branches or one.

    Parameters
    ----------
    net : an initialised network
    taxonomy : the classes of the network
    instance_weight, semantic_weight : lambda_i and lambda_s (section 3.2)
    updates : 'combined' trains both branches in every step; 'alternate' trains the instance branch
        in even steps and the semantic branch in odd ones (table 3c) and needs ``begin_step``
    rois, foreground : number of RoIs per image that the heads learn from, and the maximum share of
        them on objects
    frozen_stages : number of backbone stages that are frozen: 2 = stem and res2
    hybridize : whether to train with cached graphs

    Raises AdaptisError for a choice that does not exist or a number out of range.
    """

    def __init__(self, net: Any, taxonomy: Taxonomy, *, instance_weight: float = 1.0,
                 semantic_weight: float = 0.5, updates: str = 'combined', rois: int = 512,
                 foreground: float = 0.25, frozen_stages: int = 2, hybridize: bool = False):
        check_choice('updates', updates, UPDATES)
        if updates == 'alternate' and not (net.has_instances and net.has_semantic):
            raise AdaptisError('Updates can only alternate between two branches, but the network '
                               'has one: set updates to combined.')
        check_number('instance_weight', instance_weight, 0)
        check_number('semantic_weight', semantic_weight, 0)
        self._weights = {'instances': instance_weight, 'semantic': semantic_weight}
        self._alternates, self._step = updates == 'alternate', None
        self._semantic_loss = SemanticLoss()
        super().__init__(net, taxonomy, (self._semantic_loss,), frozen_stages, hybridize,
                         rois=rois, foreground=foreground)

    def begin_step(self, step: int) -> None:
        """Set the number of the step that the next call of ``losses`` belongs to."""
        self._step = step

    def losses(self, batch: dict[str, Any], outputs: Any = None) -> dict[str, Any]:
        """Return the weighted losses of a batch (see ``DetectionTargets``), in ``autograd.record``.

        Scalars, averaged over the images: 'rpn_objectness', 'rpn_boxes', 'classes', 'boxes',
        'masks' and 'semantic', except those of a missing branch.  Samples are drawn from
        ``numpy.random``.
        """
        maps = self.forward(batch) if outputs is None else outputs
        weights, losses = self._branch_weights(), {}
        if self.net.has_instances:
            losses = {name: loss * weights['instances']
                      for name, loss in self.detector_losses(maps, batch).items()}
        if self.net.has_semantic:
            losses['semantic'] = (self._semantic_loss(maps.semantic, batch['semantic'])
                                  * weights['semantic'])
        return losses

    def _branch_weights(self) -> dict[str, float]:
        if not self._alternates:
            return self._weights
        if self._step is None:
            raise ValueError('updates alternate, so begin_step must be called before losses')
        # With a weight of 0, the optimizer's momentum continues; omitting the loss would stop it.
        turn = 'semantic' if self._step % 2 else 'instances'
        return {branch: weight * (branch == turn) for branch, weight in self._weights.items()}
