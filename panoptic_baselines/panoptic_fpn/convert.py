"""Official checkpoints of Panoptic FPN and Mask R-CNN (detectron2)."""
from __future__ import annotations

from typing import Any, Optional

from panoptic_baselines.convert.names import (
    BACKBONE,
    FPN,
    NORM,
    RESNET,
    Arrays,
    CheckpointFormat,
    Rules,
    backbone_name,
    rename,
    strip_prefix,
)

_RCNN: Rules = [
    (r'proposal_generator[.]rpn_head[.]((conv|objectness_logits|anchor_deltas)[.].+)',
     r'encoder.rpn.\1'),
    (r'roi_heads[.]box_head[.](fc[12][.].+)', r'box_head.\1'),
    (r'roi_heads[.]box_predictor[.]((cls_score|bbox_pred)[.].+)', r'box_head.\1'),
    (r'roi_heads[.]mask_head[.]((mask_fcn[1-4]|deconv|predictor)[.].+)', r'mask_head.\1'),
    (r'sem_seg_head[.]((p[2-5]|predictor)[.].+)', r'encoder.semantic_head.\1'),
]


def detectron2_name(official: str) -> Optional[str]:
    """Return our name of a parameter of detectron2's Panoptic FPN or Mask R-CNN, or None."""
    ours = rename(official, [*RESNET, *FPN, *_RCNN])
    return ours and rename(ours, NORM)


def panoptic_fpn_options(arrays: Arrays) -> dict[str, Any]:
    """Return the name and arguments of the network that the arrays belong to.

    They are inferred from names and shapes.  Raises KeyError for a missing parameter, and
    AdaptisError for an unknown backbone.
    """
    instances = 'box_head.cls_score.weight' in arrays
    semantic = 'encoder.semantic_head.predictor.weight' in arrays
    alone = 'mask_rcnn' if instances else 'semantic_fpn'
    options = {'name': 'panoptic_fpn' if instances and semantic else alone,
               'fpn_channels': len(arrays['encoder.fpn.output2.bias']),
               'backbone': backbone_name(strip_prefix(arrays, BACKBONE))}
    if instances:
        options['num_things'] = len(arrays['box_head.cls_score.bias']) - 1
        options['box_channels'] = len(arrays['box_head.fc1.bias'])
        options['mask_channels'] = len(arrays['mask_head.mask_fcn1.bias'])
    if semantic:
        head = 'encoder.semantic_head.'
        classes, width = arrays[head + 'predictor.weight'].shape[:2]
        options['num_stuff'] = classes - 1
        options['semantic_channels'] = len(arrays[head + 'p2.0.weight'])
        options['semantic_join'] = 'sum' if width == options['semantic_channels'] else 'concat'
    return options


PANOPTIC_FPN = CheckpointFormat(
    'Panoptic FPN or Mask R-CNN (detectron2)', detectron2_name,
    ('box_head.cls_score.weight', 'encoder.semantic_head.predictor.weight'),
    panoptic_fpn_options)
