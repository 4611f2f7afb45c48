"""AdaptIS as a training system: a network with its losses and predictions."""
from __future__ import annotations

from typing import Any, Optional

import numpy as np

from adaptis.errors import AdaptisError
from adaptis.inference.predictor import Predictor
from adaptis.losses import (
    INSTANCE_LOSSES,
    SEMANTIC_LOSSES,
    AdaptiveIoU,
    ProposalsIoULoss,
    make_loss,
)
from adaptis.model import AdaptIS
from adaptis.runtime import mx
from adaptis.types import PanopticResult

STAGES = ('instances', 'proposals')


class AdaptISSystem:
    """Losses and predictions of an AdaptIS network.

    Parameters
    ----------
    net : an initialised network
    stage : 'instances' trains everything except the proposal branch; 'proposals' trains only that
        branch, with the rest frozen (AdaptIS, section 5)
    instance_loss : 'normalized_focal', 'focal' or 'bce'
    instance_alpha, instance_gamma, semantic_gamma : parameters of these losses, if they have them,
        at least 0 (alpha at most 1); None = alpha 0.5 ('focal' 0.25), gamma 2, semantic gamma 1
    semantic_loss : 'normalized_focal' or 'cross_entropy'
    semantic_weight : weight of the semantic loss relative to the instance loss
    bad_percentile : see ``ProposalsIoULoss``
    proposal_labels : 'soft' or 'hard', see ``ProposalsIoULoss``
    hybridize : train through cached graphs; faster on GPUs, slower on CPUs

    Raises AdaptisError for an unknown choice or a number out of range.
    """

    def __init__(self, net: AdaptIS, stage: str = 'instances', *,
                 instance_loss: str = 'normalized_focal', semantic_loss: str = 'normalized_focal',
                 instance_alpha: Optional[float] = None, instance_gamma: Optional[float] = None,
                 semantic_gamma: Optional[float] = None,
                 semantic_weight: float = 0.75, bad_percentile: float = 30,
                 proposal_labels: str = 'soft', hybridize: bool = False):
        if stage not in STAGES:
            raise AdaptisError(f'There is no stage "{stage}": choose one of {list(STAGES)}.')
        if stage == 'proposals' and not net.has_proposals:
            raise AdaptisError('The network has no proposal branch to train: set its option '
                               '"proposals" to true, or leave out the stage "proposals".')
        _demand_number('semantic_weight', semantic_weight, float('inf'))
        _demand_number('bad_percentile', bad_percentile, 100)
        self.net, self.stage = net, stage
        for key, value, most in (('instance_alpha', instance_alpha, 1),
                                 ('instance_gamma', instance_gamma, float('inf')),
                                 ('semantic_gamma', semantic_gamma, float('inf'))):
            if value is not None:
                _demand_number(key, value, most)
        self._instance_loss = make_loss(INSTANCE_LOSSES, instance_loss, 'instance',
                                        alpha=instance_alpha, gamma=instance_gamma)
        self._semantic_loss = make_loss(SEMANTIC_LOSSES, semantic_loss, 'semantic',
                                        gamma=semantic_gamma)
        self._semantic_weight = semantic_weight
        self._proposal_loss = ProposalsIoULoss(bad_percentile, kind=proposal_labels)
        self._iou = self._proposal_loss.iou if stage == 'proposals' else AdaptiveIoU()
        self._unseen: list[tuple[Any, Any]] = []
        # Without the branch in the graph, its running statistics do not change, either.
        self._encoder = net.encoder.without_proposals()
        for block in (net, self._encoder):
            block.hybridize(hybridize)

    def forward(self, batch: dict[str, Any]) -> tuple[Any, Any]:
        """Run the network on a batch without waiting for results, so that all devices can start.

        Returns the input of ``losses``: mask logits at the size of the images, and logits of the
        classes or, in the stage 'proposals', of the points.
        """
        if self.stage == 'instances':
            return self._masks(batch)[:2]
        net = self.net
        with mx.autograd.pause(train_mode=False):
            instances, _, features = self._masks(batch)
        logits = net.sample_proposals(net.encoder.proposals(features), batch['points'])
        return instances, _float32(logits)

    def losses(self, batch: dict[str, Any], outputs: Any = None) -> dict[str, Any]:
        """Return the losses of a batch as scalars by name; call it inside ``autograd.record``.

        ``image`` (B, 3, H, W) RGB 0..255; ``points`` (B, N, 2); ``instances`` (B*N, 1, H, W) in
        {1, 0, -1}; ``semantic`` (B, H, W), -1 = ignore.  If ``outputs`` is given, the network is
        not run again, see ``forward``.  The losses are means over points and images.
        """
        instances, logits = self.forward(batch) if outputs is None else outputs
        if self.stage == 'proposals':
            loss = self._proposal_loss(logits, instances, batch['instances'], len(batch['image']))
            return {'proposals': loss.mean()}
        self._watch(instances, batch['instances'])
        semantic = self.net.upsample(_float32(logits), batch['image'])
        return {'instances': self._instance_loss(instances, batch['instances']).mean(),
                'semantic': self._semantic_loss(semantic, batch['semantic']).mean()
                * self._semantic_weight}

    def _masks(self, batch: dict[str, Any]) -> tuple[Any, Any, Any]:
        """Return instance logits at the size of the images, and semantic logits and features."""
        features, query_map, semantic = self._encoder(batch['image'])
        instances = self.net.point_head(features, query_map, batch['points'])
        return self.net.upsample(_float32(instances), batch['image']), semantic, features

    def _watch(self, instances: Any, labels: Any) -> None:
        """Update the running IoU with these masks once the device has computed them.

        Waiting for them now would keep the other devices from starting, and a device whose
        SyncBatchNorm waits for the others would wait forever.  So the masks are read when their
        device is used again.
        """
        if any(seen.context == instances.context for seen, _ in self._unseen):
            self._look()
        with mx.autograd.pause():
            self._unseen.append((mx.nd.sigmoid(instances), labels))

    def _look(self) -> None:
        for probabilities, labels in self._unseen:
            self._iou.update(probabilities.asnumpy(), labels.asnumpy())
        self._unseen.clear()

    def metrics(self) -> dict[str, float]:
        """Return the running IoU of the training masks and its threshold."""
        self._look()
        return {'iou': self._iou.ema, 'iou_threshold': self._iou.threshold}

    def parameters(self) -> Any:
        """Return the parameters that this stage trains."""
        branch = self.net.encoder.proposals.collect_params() if self.net.has_proposals else {}
        if self.stage == 'proposals':
            return branch
        everything = self.net.collect_params()
        chosen = mx.gluon.ParameterDict(everything.prefix)
        chosen.update({k: v for k, v in everything.items() if k not in branch})
        return chosen

    def state(self) -> dict[str, float]:
        """Return the running statistics, for a checkpoint."""
        self._look()
        return self._iou.state()

    def load_state(self, state: dict[str, float]) -> None:
        """Restore what ``state`` returned."""
        self._unseen.clear()
        self._iou.load_state(state)

    def predict(self, image: np.ndarray, **settings: Any) -> PanopticResult:
        """Return the panoptic segmentation of an RGB ``uint8`` (H, W, 3) image.

        ``settings`` are arguments of ``Predictor``; for many images, create a ``Predictor`` once.
        """
        predictor = Predictor(self.net, **settings)
        predictor.set_image(image)
        return predictor.panoptic()


def _float32(logits: Any) -> Any:
    """Return float32 logits for the losses, whatever precision the network computed in."""
    return logits.astype('float32', copy=False)


def _demand_number(name: str, value: Any, most: float) -> None:
    if not isinstance(value, (int, float)) or not 0 <= value <= most:
        raise AdaptisError(f'{name} is {value!r}: it must be a number between 0 and {most:g}.')
