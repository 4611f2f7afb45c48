"""Official checkpoints of CondInst (AdelaiDet), and of backbones that only its networks have."""
from __future__ import annotations

import re
from typing import Optional, Sequence, Tuple

Rules = Sequence[Tuple[str, str]]

# A tree that holds trees has a projection, too, in the official files, but no result depends on it.
_LAYER = r'base_layer|level[01]|(?:level[25]|level[34][.]tree1)[.]project'
_DLA: Rules = [
    (rf'({_LAYER})[.]0[.](weight)', r'\1.\2'),
    (rf'({_LAYER})[.]1[.](weight|bias|running_mean|running_var)', r'\1.norm.\2'),
    (r'(level[2-5][.].+[.]conv[12]|level[2-5](?:[.]tree[12])?[.]root)[.](?:conv[.])?(weight)',
     r'\1.\2'),
    (r'(level[2-5][.].+[.])bn([12])[.](weight|bias|running_mean|running_var)',
     r'\1conv\2.norm.\3'),
    (r'(level[2-5](?:[.]tree[12])?[.]root)[.]bn[.](weight|bias|running_mean|running_var)',
     r'\1.norm.\2'),
]

# The parts of a network.
_PARTS: Rules = [
    (r'backbone[.]bottom_up[.]((stem|res[2-5])[.].+)', r'encoder.backbone.\1'),
    (r'backbone[.]fpn_((lateral|output)[2-5][.].+)', r'encoder.fpn.\1'),
    (r'backbone[.]top_block[.](p[67][.].+)', r'encoder.fpn.\1'),
    (r'proposal_generator[.]fcos_head[.](.+)', r'encoder.head.\1'),
    (r'(controller[.].+)', r'encoder.head.\1'),
    (r'mask_branch[.]((refine|tower)[.].+)', r'encoder.mask_branch.\1'),
    (r'mask_branch[.]((seg_head|logits)[.].+)', r'things_head.\1'),
]
# Convolution and norm are one layer here, but for the towers of FCOS.
_PAIR = r'encoder[.]mask_branch[.](?:refine|tower)[.]\d|things_head[.]seg_head[.]\d'
_LAYERS: Rules = [
    (rf'({_PAIR})[.]0[.](.+)', r'\1.\2'),
    (rf'({_PAIR})[.]1[.](.+)', r'\1.norm.\2'),
    (r'(encoder[.]head)[.]centerness[.](.+)', r'\1.ctrness.\2'),   # of the oldest files
    (r'(.*)', r'\1'),
]
_NORM = r'.*[.]norm|encoder[.]head[.]\w+_tower[.](?:1|4|7|10)'
_FIELDS: Rules = [
    (rf'({_NORM})[.]weight', r'\1.gamma'),
    (rf'({_NORM})[.]bias', r'\1.beta'),
    (r'((?!.*[.]num_batches_tracked).*)', r'\1'),
]


def condinst_name(official: str) -> Optional[str]:
    """Our name of a parameter of CondInst, or None."""
    ours: Optional[str] = official
    for rules in (_PARTS, _LAYERS, _FIELDS):
        ours = ours and _rename(ours, rules)
    return ours


def dla_name(official: str) -> Optional[str]:
    """Our name, below the backbone, of a parameter of a DLA, or None."""
    ours = _rename(official, _DLA)
    return ours and ours.replace('norm.weight', 'norm.gamma').replace('norm.bias', 'norm.beta')


def _rename(name: str, rules: Rules) -> Optional[str]:
    for pattern, template in rules:
        match = re.fullmatch(pattern, name)
        if match:
            return match.expand(template)
    return None
