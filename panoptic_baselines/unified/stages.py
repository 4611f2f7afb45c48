"""The stages of the unified network with their signatures, for export."""
from __future__ import annotations

from typing import Any

from adaptis.deploy.stages import Signature, Stage
from adaptis.runtime import mx
from panoptic_baselines.rcnn.inference import MASK_SIZE
from panoptic_baselines.rcnn.stages import roi_stages
from panoptic_baselines.stages import BOXES, CLASSES, IMAGE, level_names, make_stage


def export_stages(net: Any) -> list[Stage]:
    """Return the stages of a ``Unified``, see ``UnifiedInference``."""
    names = [*level_names('p', 2, 6), *level_names('rpn_logits_p', 2, 6),
             *level_names('rpn_deltas_p', 2, 6),
             'semantic', *['affinity'] * net.has_affinity]
    channels = net.num_stuff + net.num_things
    stages = [
        make_stage('encoder', net.encoder, [IMAGE], names), *roi_stages(net),
        make_stage('probabilities', net.probabilities, [Signature('logits', (1, channels, 'h',
                                                                             'w'))],
                   ['probabilities']),
        potential_stage(net.potential, channels)]
    if net.has_affinity:
        stages.append(make_stage('affinity', net.affinity, [
            Signature('features', (1, net.affinity.channels, 'h', 'w')),
            Signature('potentials', (1, 'K', 'h', 'w'))], ['logits']))
    return stages


class MaskPotential(mx.gluon.HybridBlock):
    """A ``Potential`` without the scores as input, for variants that ignore them."""

    def __init__(self, potential: Any):
        super().__init__()
        self.potential = potential

    def hybrid_forward(self, F, probabilities, boxes, classes, masks):
        return self.potential(probabilities, boxes, classes, None, masks)


def potential_stage(potential: Any, channels: int) -> Stage:
    """Return the stage of a ``Potential``, with the inputs that its variant uses."""
    inputs = [Signature('probabilities', (1, channels, 'h', 'w')), BOXES, CLASSES]
    if potential.uses_scores:
        inputs.append(Signature('scores', ('N',)))
    if potential.uses_masks:
        inputs.append(Signature('masks', ('N', 2 * MASK_SIZE, 2 * MASK_SIZE)))
    block = potential if potential.uses_scores else MaskPotential(potential)
    return make_stage('potential', block, inputs, ['potentials'])
