"""The stages that process boxes, for export: RoIAlign and the heads after it."""
from __future__ import annotations

from typing import Any

from adaptis.deploy.stages import Signature, Stage
from panoptic_baselines.rcnn.inference import BOX_SIZE, MASK_SIZE
from panoptic_baselines.rcnn.roi_align import RoIAlign
from panoptic_baselines.stages import CLASSES, make_stage


def roi_stages(net: Any) -> list[Stage]:
    """Return the stages of the box head and the mask head; RoIs are image (0), x0, y0, x1, y1."""
    found: list[Stage] = []
    for what, size, others, outputs in (('box', BOX_SIZE, [], ['logits', 'deltas']),
                                        ('mask', MASK_SIZE, [CLASSES], ['logits'])):
        head = getattr(net, f'{what}_head')
        if head is not None:
            features = Signature('features', (1, net.roi_channels, 'h', 'w'))
            pooled = Signature('pooled', ('N', net.roi_channels, size, size))
            found += [make_stage(f'pool_{what}', RoIAlign(size),
                                 [features, Signature('rois', ('N', 5))], ['pooled']),
                      make_stage(f'{what}_head', head, [pooled, *others], outputs)]
    return found
