"""The stages of Panoptic FPN with their signatures, for export."""
from __future__ import annotations

from typing import Any

from adaptis.deploy.stages import Stage
from panoptic_baselines.rcnn.stages import roi_stages
from panoptic_baselines.stages import IMAGE, level_names, make_stage


def export_stages(net: Any) -> list[Stage]:
    """Return the stages of a ``PanopticFPN``: 'encoder' and those of its instance branch."""
    names = level_names('p', 2, 6)
    if net.has_instances:
        names += level_names('rpn_logits_p', 2, 6) + level_names('rpn_deltas_p', 2, 6)
    encoder = make_stage('encoder', net.encoder, [IMAGE], names + ['semantic'] * net.has_semantic)
    return [encoder, *roi_stages(net)]
