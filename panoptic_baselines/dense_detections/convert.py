"""Official checkpoints of dense detections (TRI-ML/realtime_panoptic)."""
from __future__ import annotations

from typing import Any, Optional

import numpy as np

from panoptic_baselines.convert.backbones import TORCHVISION_RESNET
from panoptic_baselines.convert.names import (
    BACKBONE,
    NORM,
    Arrays,
    CheckpointFormat,
    Rules,
    backbone_name,
    rename,
    strip_prefix,
)

_CONV = 'weight|bias'
_COCO_THINGS, _COCO_STUFF = 80, 53

_RULES: Rules = [
    *((rf'backbone[.]body[.]{theirs}', rf'encoder.backbone.{ours}')
      for theirs, ours in TORCHVISION_RESNET),
    # Later versions of torchvision add the second index.
    *((rf'backbone[.]fpn[.]{theirs}_blocks[.]{i}(?:[.]0)?[.]({_CONV})',
       rf'encoder.fpn.{ours}{i + 3}.\1')
      for i in range(3) for theirs, ours in (('inner', 'lateral'), ('layer', 'output'))),
    (rf'backbone[.]fpn[.]extra_blocks[.](p[67])[.]({_CONV})', r'encoder.fpn.\1.\2'),
    *((rf'panoptic_head[.]{theirs}[.]{index}[.]({_CONV})', rf'encoder.head.{ours}{norm}.\2')
      for theirs, ours in (('cls_tower', 'class_tower'), ('bbox_tower', 'box_tower'))
      for index, norm in ((r'(0|3|6|9)', r'.\1'), (r'(1|4|7|10)', r'.\1.norm'))),
    *((rf'panoptic_head[.]{theirs}[.]({_CONV})', rf'encoder.head.{ours}.\1')
      for theirs, ours in (('cls_logits', 'semantic'), ('box_cls_logits', 'class_logits'),
                           ('bbox_pred', 'box_offsets'), ('centerness', 'centerness'),
                           ('levelness', 'levelness'))),
    (r'panoptic_head[.]scales[.](\d)[.](scale)', r'encoder.head.scales.\1.\2'),
]
_FIELDS: Rules = [
    (r'(.*_tower[.]\d+)[.]norm[.]weight', r'\1.gamma'),
    (r'(.*_tower[.]\d+)[.]norm[.]bias', r'\1.beta'),
    *NORM,
]


def dense_detections_name(official: str) -> Optional[str]:
    """Return our name of a parameter of the official network, or None."""
    ours = rename(official, _RULES)
    return ours and rename(ours, _FIELDS)


def dense_detections_options(arrays: Arrays) -> dict[str, Any]:
    """Return the name and arguments of the network that the arrays belong to.

    They are inferred from names and shapes.  Raises KeyError for a missing parameter, and
    AdaptisError for an unknown backbone.
    """
    head = strip_prefix(arrays, 'encoder.head.')
    num_things = len(head['class_logits.bias'])
    widths = {f'{kind}_channels': len(head[f'{kind}_tower.0.bias'])
              for kind in ('class', 'box') if f'{kind}_tower.0.bias' in head}
    return {'name': 'dense_detections', 'backbone': backbone_name(strip_prefix(arrays, BACKBONE)),
            'num_things': num_things, 'num_stuff': len(head['semantic.bias']) - num_things,
            'levelness': 'levelness.bias' in head,
            'fpn_channels': len(arrays['encoder.fpn.output3.bias']), **widths}


def _put_stuff_first(name: str, array: np.ndarray) -> np.ndarray:
    # For COCO, and only for COCO, the official network puts the things first.
    if name.startswith('encoder.head.semantic.') and len(array) == _COCO_THINGS + _COCO_STUFF:
        return np.roll(array, _COCO_STUFF, axis=0)
    return array


DENSE_DETECTIONS = CheckpointFormat(
    'dense detections', dense_detections_name, ('encoder.head.class_logits.weight',),
    dense_detections_options, _put_stuff_first)
