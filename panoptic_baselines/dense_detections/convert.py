"""Official checkpoints of dense detections (TRI-ML/realtime_panoptic); ResNets of torchvision."""
from __future__ import annotations

from typing import Any, Optional

import numpy as np

from adaptis.errors import AdaptisError
from panoptic_baselines.convert.names import (
    BACKBONE,
    Arrays,
    Family,
    backbone_name,
    below,
    rename,
)

_NORM = 'weight|bias|running_mean|running_var'
_CONV = 'weight|bias'
_STD = 58.395, 57.12, 57.375
_COCO_THINGS, _COCO_STUFF = 80, 53

# torchvision's ResNet; here a norm is a child of the convolution before it.
_BACKBONE: list[tuple[str, str]] = [
    (r'conv1[.](weight)', r'stem.conv1.\1'),
    (rf'bn1[.]({_NORM})', r'stem.conv1.norm.\1'),
    *((rf'layer{i}[.](\d+)[.]{theirs}', rf'res{i + 1}.\1.{ours}')
      for i in range(1, 5) for theirs, ours in (
          (r'conv(\d)[.](weight)', r'conv\2.\3'),
          (rf'bn(\d)[.]({_NORM})', r'conv\2.norm.\3'),
          (r'downsample[.]0[.](weight)', r'shortcut.\2'),
          (rf'downsample[.]1[.]({_NORM})', r'shortcut.norm.\2'))),
]
_RULES: list[tuple[str, str]] = [
    *((rf'backbone[.]body[.]{theirs}', rf'encoder.backbone.{ours}') for theirs, ours in _BACKBONE),
    # The second index is that of later versions of torchvision.
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
_FIELDS: list[tuple[str, str]] = [
    (r'(.*_tower[.]\d+)[.]norm[.]weight', r'\1.gamma'),
    (r'(.*_tower[.]\d+)[.]norm[.]bias', r'\1.beta'),
    (r'(.*[.]norm)[.]weight', r'\1.gamma'),
    (r'(.*[.]norm)[.]bias', r'\1.beta'),
    (r'(.*)', r'\1'),
]


def dense_name(official: str) -> Optional[str]:
    """Our name of a parameter of the official network, or None."""
    ours = rename(official, _RULES)
    return ours and rename(ours, _FIELDS)


def torchvision_name(official: str) -> Optional[str]:
    """Our name, below the backbone, of a parameter of a ResNet of torchvision, or None."""
    ours = rename(official, _BACKBONE)
    return ours and rename(ours, _FIELDS)


def dense_options(arrays: Arrays) -> dict[str, Any]:
    """Which network the arrays describe, by their names and shapes; KeyError if it lacks some."""
    head = below(arrays, 'encoder.head.')
    num_things = len(head['class_logits.bias'])
    widths = {f'{kind}_channels': len(head[f'{kind}_tower.0.bias'])
              for kind in ('class', 'box') if f'{kind}_tower.0.bias' in head}
    return {'name': 'dense_detections', 'backbone': backbone_name(below(arrays, BACKBONE)),
            'num_things': num_things, 'num_stuff': len(head['semantic.bias']) - num_things,
            'levelness': 'levelness.bias' in head,
            'fpn_channels': len(arrays['encoder.fpn.output3.bias']), **widths}


def _stuff_first(name: str, array: np.ndarray) -> np.ndarray:
    """The official network counts COCO's classes, and only those, with its 80 things first."""
    if name.startswith('encoder.head.semantic.') and len(array) == _COCO_THINGS + _COCO_STUFF:
        return np.roll(array, _COCO_STUFF, axis=0)
    return array


def _classifier_options(arrays: Arrays) -> dict[str, Any]:
    name = backbone_name(arrays)
    if not name.startswith('resnet'):
        raise AdaptisError(f'Of torchvision only ResNets can be read, and this is {name}.')
    return {'name': 'backbone', 'backbone': name, 'stride_in_1x1': False}


def _first_layer(name: str, array: np.ndarray) -> np.ndarray:
    """For images 0..255 and BGR, where the classifier divides RGB ones by their deviation."""
    if name != 'stem.conv1.weight':
        return array
    return (array / np.float32(_STD).reshape(1, 3, 1, 1))[:, ::-1]


DENSE = Family('dense detections', dense_name, ('encoder.head.class_logits.weight',),
               dense_options, _stuff_first)
TORCHVISION = Family('a ResNet of torchvision', torchvision_name, ('stem.conv1.weight',),
                     _classifier_options, _first_layer)
