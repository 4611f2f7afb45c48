"""Official checkpoints of CondInst (AdelaiDet)."""
from __future__ import annotations

import re
from typing import Any, Optional

from panoptic_baselines.convert.backbones import dla_name
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

_PYRAMID: Rules = [
    *FPN,
    (r'backbone[.]top_block[.](p[67][.].+)', r'encoder.fpn.\1'),
    (r'backbone[.]bottom_up[.]res6[.]reduction[.](.+)', r'encoder.fpn.top.\1'),
    (r'backbone[.]repeated_bifpn[.](\d+)[.]lateral_(\d)_f\d[.](.+)',
     r'encoder.fpn.repeat\1.lateral\2.\3'),
    (r'backbone[.]repeated_bifpn[.](\d+)[.]outputs_(f[\d_]+)[.](.+)',
     r'encoder.fpn.repeat\1.\2.output.\3'),
    (r'backbone[.]repeated_bifpn[.](\d+)[.]weights_(f[\d_]+)', r'encoder.fpn.repeat\1.\2.weights'),
]
_HEADS: Rules = [
    (r'proposal_generator[.]fcos_head[.]centerness[.](.+)', r'encoder.head.ctrness.\1'),
    (r'proposal_generator[.]fcos_head[.]((cls|bbox|share)_tower[.].+)', r'encoder.head.\1'),
    (r'proposal_generator[.]fcos_head[.]((cls_logits|bbox_pred|ctrness|scales)[.].+)',
     r'encoder.head.\1'),
    (r'(controller[.].+)', r'encoder.head.\1'),
    # In this library, a convolution and its norm are one layer.
    (r'mask_branch[.]((?:refine|tower)[.]\d+)[.]0[.](.+)', r'encoder.mask_branch.\1.\2'),
    (r'mask_branch[.]((?:refine|tower)[.]\d+)[.]1[.](.+)', r'encoder.mask_branch.\1.norm.\2'),
    (r'mask_branch[.](tower[.]\d+[.](?:weight|bias))', r'encoder.mask_branch.\1'),
    (r'mask_branch[.](seg_head[.]\d)[.]0[.](.+)', r'things_head.\1.\2'),
    (r'mask_branch[.](seg_head[.]\d)[.]1[.](.+)', r'things_head.\1.norm.\2'),
    (r'mask_branch[.](logits[.].+)', r'things_head.\1'),
    (r'panoptic_module[.]((?:p[2-5]|predictor)[.].+)', r'encoder.semantic_head.\1'),
]
# In a tower, every third child is a norm, or a list with one norm per level.
_TOWER_NORM = r'(.*_tower[.](?:1|4|7|10|13|16)(?:[.]\d)?)[.]'
_FIELDS: Rules = [
    (_TOWER_NORM + 'weight', r'\1.gamma'), (_TOWER_NORM + 'bias', r'\1.beta'),
    (r'(.*[.]conv2)_offset[.](weight|bias)', r'\1.offset.\2'),
    *NORM,
]


def condinst_name(official: str) -> Optional[str]:
    """Return our name of a parameter of the official CondInst, or None."""
    if official.endswith('.num_batches_tracked'):
        return None
    ours = rename(re.sub('^(backbone[.]bottom_up[.])backbone[.]', r'\1', official),
                  [*RESNET, *_PYRAMID, *_HEADS])
    if ours is not None:
        return rename(ours, _FIELDS)
    layer = re.fullmatch('backbone[.]bottom_up[.](?:backbone[.])?(.+)', official)
    dla = layer and dla_name(layer[1])
    return BACKBONE + dla if dla else None


def condinst_options(arrays: Arrays) -> dict[str, Any]:
    """Return the name and arguments of the network that the arrays belong to.

    They are inferred from names and shapes.  Raises KeyError for a missing parameter, and
    AdaptisError for an unknown backbone.
    """
    head = strip_prefix(arrays, 'encoder.head.')
    return {'name': 'condinst', 'num_things': len(head['cls_logits.bias']),
            'fpn_channels': head['controller.weight'].shape[1],
            'levels': sum(name.startswith('scales.') for name in head),
            'things': 'things_head.logits.weight' in arrays,
            **_towers(head),
            **_masks(strip_prefix(arrays, 'encoder.mask_branch.'), len(head['controller.bias'])),
            **_backbone(strip_prefix(arrays, BACKBONE)),
            **_pyramid(strip_prefix(arrays, 'encoder.fpn.')),
            **_semantic(strip_prefix(arrays, 'encoder.semantic_head.'))}


def _towers(head: Arrays) -> dict[str, Any]:
    depths = {argument: sum(name.startswith(f'{tower}.') and array.ndim == 4
                            for name, array in head.items())
              for argument, tower in (('head_depth', 'cls_tower'), ('share_depth', 'share_tower'))}
    of_levels = any(re.fullmatch(r'\w+_tower[.]1[.]0[.]gamma', name) for name in head)
    return {**depths, **({'head_norm': 'BatchNorm'} if of_levels else {})}


def _masks(branch: Arrays, num_params: int) -> dict[str, Any]:
    """Return the widths of the mask branch, and the mask head with ``num_params`` parameters.

    If several heads have that many parameters, choose the one most like the official head.
    """
    ends = [name for name in branch if re.fullmatch(r'tower[.]\d+[.]bias', name)]
    features = len(branch[ends[0]]) if ends else 0

    def count(depth: int, width: int, coordinates: Optional[str]) -> int:
        ends = [features + (2 if coordinates else 0)] + [width] * (depth - 1) + [1]
        return sum(out * (source + 1) for source, out in zip(ends, ends[1:]))
    found = [(depth, width, coordinates) for coordinates in ('relative', None)
             for depth in (3, 2, 4, 1, 5) for width in (8, 4, 16, 2, 32, 1)
             if count(depth, width, coordinates) == num_params]
    if not found:
        raise KeyError('encoder.head.controller.weight, of a known size')
    widths = {'mask_channels': features}
    if branch:
        widths['branch_channels'] = len(branch['refine.0.weight'])
    return {**widths, **dict(zip(('mask_depth', 'mask_width', 'coordinates'), found[0]))}


def _backbone(arrays: Arrays) -> dict[str, Any]:
    if 'base_layer.weight' in arrays:
        # AdelaiDet's detectors do not divide images by the standard deviation.
        return {'backbone': 'dla34', 'norm_layer': 'BatchNorm', 'std': (1.0, 1.0, 1.0)}
    options: dict[str, Any] = {'backbone': backbone_name(arrays)}
    offsets = {name: len(array) for name, array in arrays.items() if name.endswith('offset.bias')}
    if offsets:
        blocks = [tuple(map(int, name[len('res'):].split('.')[:2])) for name in offsets]
        later = [block for _, block in blocks if block]
        options['deformable_stages'] = sorted({stage for stage, _ in blocks})
        options['deformable_interval'] = min(later) if later else 100   # only the first block
        options['modulated'] = set(offsets.values()) == {27}
    return options


def _pyramid(arrays: Arrays) -> dict[str, Any]:
    repeats = {name.split('.')[0] for name in arrays if name.startswith('repeat')}
    return {'bifpn_repeats': len(repeats)} if repeats else {}


def _semantic(arrays: Arrays) -> dict[str, Any]:
    if not arrays:
        return {'semantic': False}
    classes, width = arrays['predictor.weight'].shape[:2]
    channels = len(arrays['p2.0.weight'])
    return {'semantic': True, 'num_stuff': classes - 1, 'semantic_channels': channels,
            'semantic_join': 'sum' if width == channels else 'concat'}


CONDINST = CheckpointFormat('CondInst (AdelaiDet)', condinst_name,
                            ('encoder.head.controller.weight',), condinst_options)
