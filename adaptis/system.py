"""AdaptIS as experiments see it: a network, its losses and its predictions."""
from __future__ import annotations

from typing import Any

import numpy as np

from adaptis.errors import AdaptisError
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
    stage : 'instances' trains everything but the proposal branch, 'proposals'
        that branch alone with the rest frozen (section 5)
    instance_loss : 'normalized_focal', 'focal' or 'bce'
    semantic_loss : 'normalized_focal' or 'cross_entropy'
    semantic_weight : of the semantic loss beside the instance loss
    bad_percentile, proposal_labels : 'soft' or 'hard', see ``ProposalsIoULoss``
    hybridize : train through cached graphs; worth it on GPUs, slower on CPUs

    Raises AdaptisError for a choice that does not exist or a number out of range.
    """

    def __init__(self, net: AdaptIS, stage: str = 'instances', *,
                 instance_loss: str = 'normalized_focal', semantic_loss: str = 'normalized_focal',
                 semantic_weight: float = 0.75, bad_percentile: float = 30,
                 proposal_labels: str = 'soft', hybridize: bool = False):
        if stage not in STAGES:
            raise AdaptisError(f'There is no stage "{stage}": choose one of {list(STAGES)}.')
        if stage == 'proposals' and not net.has_proposals:
            raise AdaptisError('The network has no proposal branch to train: set its option '
                               '"proposals" to true, or leave the stage "proposals" out.')
        _demand_number('semantic_weight', semantic_weight, float('inf'))
        _demand_number('bad_percentile', bad_percentile, 100)
        self.net, self.stage = net, stage
        self._instance_loss = make_loss(INSTANCE_LOSSES, instance_loss, 'instance')
        self._semantic_loss = make_loss(SEMANTIC_LOSSES, semantic_loss, 'semantic')
        self._semantic_weight = semantic_weight
        self._proposal_loss = ProposalsIoULoss(bad_percentile, kind=proposal_labels)
        self._iou = self._proposal_loss.iou if stage == 'proposals' else AdaptiveIoU()
        self._unseen: list[tuple[Any, Any]] = []
        # The branch is not trained with the rest: left out, it keeps its running statistics too.
        self._encoder = net.encoder.without_proposals()
        for block in (net, self._encoder):
            block.hybridize(hybridize)

    def losses(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Losses of a batch, to be called inside ``autograd.record``.

        ``image`` (B, 3, H, W) RGB 0..255; ``points`` (B, N, 2); ``instances``
        (B*N, 1, H, W) in {1, 0, -1}; ``semantic`` (B, H, W), -1 = ignore.
        Returns one scalar per loss: means over points and over images.
        """
        if self.stage == 'proposals':
            return {'proposals': self._learn_proposals(batch)}
        instances, semantic, _ = self._masks(batch)
        self._watch(instances, batch['instances'])
        semantic = self.net.upsample(_float32(semantic), batch['image'])
        return {'instances': self._instance_loss(instances, batch['instances']).mean(),
                'semantic': self._semantic_loss(semantic, batch['semantic']).mean()
                * self._semantic_weight}

    def _learn_proposals(self, batch: dict[str, Any]) -> Any:
        net = self.net
        with mx.autograd.pause(train_mode=False):
            instances, _, features = self._masks(batch)
        logits = net.sample_proposals(net.encoder.proposals(features), batch['points'])
        return self._proposal_loss(_float32(logits), instances, batch['instances'],
                                   len(batch['image'])).mean()

    def _masks(self, batch: dict[str, Any]) -> tuple[Any, Any, Any]:
        """Instance logits at the images' size, semantic logits and features at the network's."""
        features, query_map, semantic = self._encoder(batch['image'])
        instances = self.net.point_head(features, query_map, batch['points'])
        return self.net.upsample(_float32(instances), batch['image']), semantic, features

    def _watch(self, instances: Any, labels: Any) -> None:
        """Let the running IoU see these masks, once the device has computed them.

        To wait for them now would keep the other devices from starting, and a device whose
        SyncBatchNorm waits for those would wait for ever.  So they are looked at when their
        device comes round again.
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
        """Running IoU of the training masks and the threshold it is taken at."""
        self._look()
        return {'iou': self._iou.ema, 'iou_threshold': self._iou.threshold}

    def parameters(self) -> Any:
        """The parameters that this stage trains."""
        branch = self.net.encoder.proposals.collect_params() if self.net.has_proposals else {}
        if self.stage == 'proposals':
            return branch
        everything = self.net.collect_params()
        chosen = mx.gluon.ParameterDict(everything.prefix)
        chosen.update({k: v for k, v in everything.items() if k not in branch})
        return chosen

    def state(self) -> dict[str, float]:
        """The running statistics, for a checkpoint."""
        self._look()
        return self._iou.state()

    def load_state(self, state: dict[str, float]) -> None:
        """Take over what ``state`` gave."""
        self._unseen.clear()
        self._iou.load_state(state)

    def predict(self, image: np.ndarray, **settings: Any) -> PanopticResult:
        """Panoptic segmentation of an RGB ``uint8`` (H, W, 3) image.

        ``settings`` are arguments of ``Predictor``; for many images make one of those instead.
        """
        from adaptis.inference.predictor import Predictor
        predictor = Predictor(self.net, **settings)
        predictor.set_image(image)
        return predictor.panoptic()


def _float32(logits: Any) -> Any:
    """Losses are taken in float32, whatever the network computed in (``engine.precision``)."""
    return logits.astype('float32', copy=False)


def _demand_number(name: str, value: Any, most: float) -> None:
    if not isinstance(value, (int, float)) or not 0 <= value <= most:
        raise AdaptisError(f'{name} is {value!r}: it must be a number from 0 to {most:g}.')
