"""Official names of the parameters of dense detections (TRI-ML/realtime_panoptic), and ours."""
from __future__ import annotations

from typing import List, Optional, Tuple

from panoptic_baselines.official_names import rename

_NORM = 'weight|bias|running_mean|running_var'
_CONV = 'weight|bias'

# torchvision's ResNet; here a norm is a child of the convolution before it.
_BACKBONE: List[Tuple[str, str]] = [
    (r'conv1[.](weight)', r'stem.conv1.\1'),
    (rf'bn1[.]({_NORM})', r'stem.conv1.norm.\1'),
    *((rf'layer{i}[.](\d+)[.]{theirs}', rf'res{i + 1}.\1.{ours}')
      for i in range(1, 5) for theirs, ours in (
          (r'conv(\d)[.](weight)', r'conv\2.\3'),
          (rf'bn(\d)[.]({_NORM})', r'conv\2.norm.\3'),
          (r'downsample[.]0[.](weight)', r'shortcut.\2'),
          (rf'downsample[.]1[.]({_NORM})', r'shortcut.norm.\2'))),
]
_RULES: List[Tuple[str, str]] = [
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
_FIELDS: List[Tuple[str, str]] = [
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
