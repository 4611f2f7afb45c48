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


def dla_name(official: str) -> Optional[str]:
    """Our name, below the backbone, of a parameter of a DLA, or None."""
    for pattern, template in _DLA:
        match = re.fullmatch(pattern, official)
        if match:
            return match.expand(template).replace('norm.weight', 'norm.gamma').replace(
                'norm.bias', 'norm.beta')
    return None
