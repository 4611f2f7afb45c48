"""The stages of CondInst with their signatures, for export."""
from __future__ import annotations

from typing import Any

from adaptis.deploy.stages import Signature, Stage
from panoptic_baselines.stages import IMAGE, level_names, make_stage


def export_stages(net: Any) -> list[Stage]:
    """Return the stages of a ``CondInst``: 'encoder' and 'mask_head'."""
    last = 2 + len(net.strides)
    names = ['p3', 'mask_features', *(
        name for what in ('logits', 'distances', 'centerness', 'params')
        for name in level_names(f'{what}_p', 3, last)), *['semantic'] * net.has_semantic]
    head = net.mask_head
    inputs = [Signature('features', (1, max(1, head.in_channels), 'h', 'w')),
              Signature('params', ('N', head.num_params))]
    if head.coordinates == 'relative':
        inputs += [Signature('locations', ('N', 2)), Signature('sizes', ('N', 1))]
    return [make_stage('encoder', net.encoder, [IMAGE], names),
            make_stage('mask_head', head, inputs, ['masks'])]
