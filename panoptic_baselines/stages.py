"""The graphs of each network with their signatures, for export: one function for each system.

Images are (1, 3, H, W), RGB, 0..255, padded (see ``Predictor``); the graphs take mean and deviation
off themselves.  Of the maps of several levels the names end in the level's.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from adaptis.deploy.stages import Signature, Stage
from adaptis.runtime import mx
from panoptic_baselines.inference.two_stage import BOX_SIZE, MASK_SIZE
from panoptic_baselines.layers.roi_align import RoIAlign
from panoptic_baselines.staged import WHOLE

_IMAGE = Signature('image', (1, 3, 'H', 'W'))
_BOXES = Signature('boxes', ('N', 4))
_CLASSES = Signature('classes', ('N',))
_EXAMPLE = {'H': 128, 'W': 256, 'h': 16, 'w': 24, 'N': 3, 'K': 5}


def stages_of_panoptic_fpn(net: Any) -> list[Stage]:
    """Stages of a ``PanopticFPN``: 'encoder' and those of its instance branch."""
    names = _levels('p', 2, 6)
    if net.has_instances:
        names += _levels('rpn_logits_p', 2, 6) + _levels('rpn_deltas_p', 2, 6)
    encoder = _stage('encoder', net.encoder, [_IMAGE], names + ['semantic'] * net.has_semantic)
    return [encoder, *_roi_stages(net)]


def stages_of_unified(net: Any) -> list[Stage]:
    """Stages of a ``Unified``, see ``UnifiedInference``."""
    names = [*_levels('p', 2, 6), *_levels('rpn_logits_p', 2, 6), *_levels('rpn_deltas_p', 2, 6),
             'semantic', *['affinity'] * net.has_affinity]
    channels = net.num_stuff + net.num_things
    stages = [
        _stage('encoder', net.encoder, [_IMAGE], names), *_roi_stages(net),
        _stage('probabilities', net.probabilities, [Signature('logits', (1, channels, 'h', 'w'))],
               ['probabilities']),
        _potential(net.potential, channels)]
    if net.has_affinity:
        stages.append(_stage('affinity', net.affinity, [
            Signature('features', (1, net.affinity.channels, 'h', 'w')),
            Signature('potentials', (1, 'K', 'h', 'w'))], ['logits']))
    return stages


def stages_of_condinst(net: Any) -> list[Stage]:
    """Stages of a ``CondInst``: 'encoder' and 'mask_head'."""
    last = 2 + len(net.strides)
    names = ['p3', 'mask_features', *(
        name for what in ('logits', 'distances', 'centerness', 'params')
        for name in _levels(f'{what}_p', 3, last)), *['semantic'] * net.has_semantic]
    head = net.mask_head
    inputs = [Signature('features', (1, max(1, head.in_channels), 'h', 'w')),
              Signature('params', ('N', head.num_params))]
    if head.coordinates == 'relative':
        inputs += [Signature('locations', ('N', 2)), Signature('sizes', ('N', 1))]
    return [_stage('encoder', net.encoder, [_IMAGE], names),
            _stage('mask_head', head, inputs, ['masks'])]


def stages_of_dense_detections(net: Any) -> list[Stage]:
    """Stages of a ``DenseDetections``: all of it, and what makes masks of either kind."""
    names = [*(name for what in ('logits', 'offsets', 'centerness')
               for name in _levels(f'{what}_p', 3, 7)),
             'semantic', *['levelness'] * net.has_levelness, 'boxes', 'things']
    inputs = [Signature('boxes', (4, 'h', 'w')), Signature('things', (net.num_things, 'h', 'w')),
              Signature('queries', ('N', 4)), _CLASSES]
    return [_stage(WHOLE, net, [_IMAGE], names),
            *(_stage(name, getattr(net, name), inputs, ['masks'])
              for name in ('giou_masks', 'iou_masks'))]


class MaskPotential(mx.gluon.HybridBlock):
    """A ``Potential`` that does not look at scores, without that input."""

    def __init__(self, potential: Any):
        super().__init__()
        self.potential = potential

    def hybrid_forward(self, F, probabilities, boxes, classes, masks):
        return self.potential(probabilities, boxes, classes, None, masks)


def _potential(potential: Any, channels: int) -> Stage:
    inputs = [Signature('probabilities', (1, channels, 'h', 'w')), _BOXES, _CLASSES]
    if potential.uses_scores:
        inputs.append(Signature('scores', ('N',)))
    if potential.uses_masks:
        inputs.append(Signature('masks', ('N', 2 * MASK_SIZE, 2 * MASK_SIZE)))
    block = potential if potential.uses_scores else MaskPotential(potential)
    return _stage('potential', block, inputs, ['potentials'])


def _roi_stages(net: Any) -> list[Stage]:
    """What looks at boxes, as far as the network has it; RoIs are image (0), x0, y0, x1, y1."""
    found: list[Stage] = []
    for what, size, others, outputs in (('box', BOX_SIZE, [], ['logits', 'deltas']),
                                        ('mask', MASK_SIZE, [_CLASSES], ['logits'])):
        head = getattr(net, f'{what}_head')
        if head is not None:
            features = Signature('features', (1, net.roi_channels, 'h', 'w'))
            pooled = Signature('pooled', ('N', net.roi_channels, size, size))
            found += [_stage(f'pool_{what}', RoIAlign(size),
                             [features, Signature('rois', ('N', 5))], ['pooled']),
                      _stage(f'{what}_head', head, [pooled, *others], outputs)]
    return found


def _stage(name: str, block: Any, inputs: Sequence[Signature], outputs: Sequence[str]) -> Stage:
    varying: list[Any] = sorted({part for signature in inputs for part in signature.shape
                                 if isinstance(part, str)})
    example = {part: _EXAMPLE[part] for part in varying}
    return Stage(name, block, tuple(inputs), tuple(outputs), example)


def _levels(name: str, first: int, last: int) -> list[str]:
    return [f'{name}{level}' for level in range(first, last + 1)]
