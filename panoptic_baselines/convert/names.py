"""What the readers of official checkpoints share: rules that turn one name into another."""
from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Callable, Optional

import numpy as np

from adaptis.errors import AdaptisError

Arrays = Mapping[str, np.ndarray]
Rules = Sequence[tuple[str, str]]

BACKBONE = 'encoder.backbone.'

# The parts of detectron2's that other projects take over.
NORM: Rules = [
    (r'(.*[.]norm)[.]weight', r'\1.gamma'),
    (r'(.*[.]norm)[.]bias', r'\1.beta'),
    (r'(.*)', r'\1'),
]
RESNET: Rules = [(r'backbone[.]bottom_up[.]((stem|res[2-5])[.].+)', r'encoder.backbone.\1')]
FPN: Rules = [(r'backbone[.]fpn_((lateral|output)[2-5][.].+)', r'encoder.fpn.\1')]


def rename(name: str, rules: Rules) -> Optional[str]:
    """What the first rule that matches the whole name makes of it, or None."""
    for pattern, template in rules:
        match = re.fullmatch(pattern, name)
        if match:
            return match.expand(template)
    return None


@dataclass(frozen=True)
class Family:
    """Checkpoints of one origin.

    Attributes
    ----------
    title : what messages call it
    name : official name -> our name or None
    needs : a parameter of ours without which a file is of another family
    options : our arrays -> the network's name and constructor arguments
    change : our name and the official array -> our array
    """

    title: str
    name: Callable[[str], Optional[str]]
    needs: tuple[str, ...]
    options: Callable[[Arrays], dict[str, Any]]
    change: Callable[[str, np.ndarray], np.ndarray] = lambda name, array: array

    def map(self, names: Sequence[str]) -> dict[str, str]:
        """``{official name: our name}`` of those that have one."""
        mapped = {name: self.name(name) for name in names}
        return {name: ours for name, ours in mapped.items() if ours is not None}

    def arrays(self, arrays: Arrays) -> dict[str, np.ndarray]:
        """Of an official file's arrays those that have a place, under our names."""
        return {ours: self.change(ours, arrays[official])
                for official, ours in self.map(list(arrays)).items()}


def below(arrays: Arrays, prefix: str) -> dict[str, np.ndarray]:
    """Arrays whose names begin with ``prefix``, without it; KeyErrors have whole names."""
    part = _Part((name[len(prefix):], array) for name, array in arrays.items()
                 if name.startswith(prefix))
    part.prefix = prefix
    return part


class _Part(dict[str, np.ndarray]):
    prefix = ''

    def __missing__(self, name: str) -> np.ndarray:
        raise KeyError(self.prefix + name)


def backbone_name(arrays: Arrays) -> str:
    """The name of a ResNet by its blocks and the width of its groups; KeyError if it has none."""
    from panoptic_baselines.layers.resnet import RECIPES
    blocks = tuple(len({n.split('.')[1] for n in arrays if n.startswith(f'res{stage}.')})
                   for stage in range(2, 6))
    channels, width = arrays['res2.0.conv2.weight'].shape[:2]
    for name, recipe in RECIPES.items():
        if (blocks == recipe.blocks and recipe.bottleneck == ('res2.0.conv3.weight' in arrays)
            and (channels, width) == (recipe.groups * recipe.width, recipe.width)):
            return name
    raise AdaptisError(f'There is no backbone here with {blocks} blocks and groups of {width} '
                       'channels.')
