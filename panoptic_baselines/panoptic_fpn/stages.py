"""The stages of Panoptic FPN with their signatures, for export."""
from __future__ import annotations

from typing import Any

from adaptis.deploy.stages import Stage
from panoptic_baselines.rcnn.stages import roi_stages
from panoptic_baselines.stages import IMAGE, level_names, make_stage


def export_stages(net: Any) -> list[Stage]:
    """Return the stages of a ``PanopticFPN``.

    They are 'encoder', 'semantic_encoder' if the branches are separate, and the stages of the
    instance branch.
    """
    names = level_names('p', 2, 6)
    if net.has_instances:
        names += level_names('rpn_logits_p', 2, 6) + level_names('rpn_deltas_p', 2, 6)
    joint = net.has_semantic and not net.is_separate
    encoders = [make_stage('encoder', net.encoder, [IMAGE], names + ['semantic'] * joint)]
    if net.is_separate:
        encoders.append(make_stage('semantic_encoder', net.semantic_encoder, [IMAGE],
                                   [*level_names('p', 2, 6), 'semantic']))
    return [*encoders, *roi_stages(net)]
