"""The stages of dense detections with their signatures, for export."""
from __future__ import annotations

from typing import Any

from adaptis.deploy.stages import Signature, Stage
from panoptic_baselines.base_network import WHOLE_NETWORK
from panoptic_baselines.stages import CLASSES, IMAGE, level_names, make_stage


def export_stages(net: Any) -> list[Stage]:
    """Return the stages of a ``DenseDetections``: the network, and the two that make masks."""
    names = [*(name for what in ('logits', 'offsets', 'centerness')
               for name in level_names(f'{what}_p', 3, 7)),
             'semantic', *['levelness'] * net.has_levelness, 'boxes', 'things']
    inputs = [Signature('boxes', (4 * net.box_levels, 'h', 'w')),
              Signature('things', (net.num_things, 'h', 'w')),
              Signature('queries', ('N', 4)), CLASSES]
    return [make_stage(WHOLE_NETWORK, net, [IMAGE], names),
            *(make_stage(name, getattr(net, name), inputs, ['masks'])
              for name in ('giou_masks', 'iou_masks'))]
