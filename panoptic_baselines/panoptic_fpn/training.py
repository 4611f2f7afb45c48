"""Panoptic FPN as experiments see it: a network, its losses and its predictions."""
from __future__ import annotations

from typing import Any

from adaptis.errors import AdaptisError
from adaptis.types import Taxonomy
from panoptic_baselines.arguments import check_number
from panoptic_baselines.layers.losses import SemanticLoss
from panoptic_baselines.rcnn.training import TwoStageSystem
from panoptic_baselines.system import fill_padding

UPDATES = ('combined', 'alternate')


class PanopticFPNSystem(TwoStageSystem):
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

    def __init__(self, net: Any, taxonomy: Taxonomy, *, instance_weight: float = 1.0,
                 semantic_weight: float = 0.5, updates: str = 'combined', rois: int = 512,
                 foreground: float = 0.25, frozen_stages: int = 2, hybridize: bool = False):
        if updates not in UPDATES:
            raise AdaptisError(f'There is no way "{updates}" to update the branches: '
                               f'choose one of {list(UPDATES)}.')
        if updates == 'alternate' and not (net.has_instances and net.has_semantic):
            raise AdaptisError('Updates can alternate between two branches only, '
                               'and the network has one.')
        check_number('instance_weight', instance_weight, 0)
        check_number('semantic_weight', semantic_weight, 0)
        self._weights = {'instances': instance_weight, 'semantic': semantic_weight}
        self._alternates, self._step = updates == 'alternate', None
        self._semantic_loss = SemanticLoss()
        super().__init__(net, taxonomy, (self._semantic_loss,), frozen_stages, hybridize,
                         rois=rois, foreground=foreground)

    def begin_step(self, step: int) -> None:
        """Tell which step the next ``losses`` belong to."""
        self._step = step

    def losses(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Weighted losses of a batch (see ``DetectionTargets``), inside ``autograd.record``.

        Scalars, means over the images: 'rpn_objectness', 'rpn_boxes', 'classes', 'boxes', 'masks'
        and 'semantic', as far as the network has the branches.  What is sampled is drawn from
        ``numpy.random``.
        """
        maps = self.net(fill_padding(batch['image'], batch['sizes'], self.net.mean))
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
        # A weight of 0 and not a loss left out: the optimizer's momentum goes on all the same.
        turn = 'semantic' if self._step % 2 else 'instances'
        return {branch: weight * (branch == turn) for branch, weight in self._weights.items()}
