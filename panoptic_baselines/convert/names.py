"""Rules that rename parameters, shared by the converters of official checkpoints."""
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

# The parts of detectron2's names that other projects use as well.
NORM: Rules = [
    (r'(.*[.]norm)[.]weight', r'\1.gamma'),
    (r'(.*[.]norm)[.]bias', r'\1.beta'),
    (r'(.*)', r'\1'),
]
RESNET: Rules = [(r'backbone[.]bottom_up[.]((stem|res[2-5])[.].+)', r'encoder.backbone.\1')]
FPN: Rules = [(r'backbone[.]fpn_((lateral|output)[2-5][.].+)', r'encoder.fpn.\1')]


def rename(name: str, rules: Rules) -> Optional[str]:
    """Return the new name according to the first rule that matches all of ``name``, or None."""
    for pattern, template in rules:
        match = re.fullmatch(pattern, name)
        if match:
            return match.expand(template)
    return None


@dataclass(frozen=True)
class CheckpointFormat:
    """One format of official checkpoints, and how to convert it.

    Attributes
    ----------
    title : name of the format in messages
    rename : official name -> our name, or None
    required : parameters by our names; a file with none of them has a different format
    options : our arrays -> the network's name and constructor arguments
    convert : our name and the official array -> our array
    """

    title: str
    rename: Callable[[str], Optional[str]]
    required: tuple[str, ...]
    options: Callable[[Arrays], dict[str, Any]]
    convert: Callable[[str, np.ndarray], np.ndarray] = lambda name, array: array

    def map_names(self, names: Sequence[str]) -> dict[str, str]:
        """Return ``{official name: our name}`` for the names that have one."""
        mapped = {name: self.rename(name) for name in names}
        return {name: ours for name, ours in mapped.items() if ours is not None}

    def convert_arrays(self, arrays: Arrays) -> dict[str, np.ndarray]:
        """Return the arrays of an official file under our names, without those that have none."""
        return {ours: self.convert(ours, arrays[official])
                for official, ours in self.map_names(list(arrays)).items()}


def strip_prefix(arrays: Arrays, prefix: str) -> dict[str, np.ndarray]:
    """Return the arrays whose names begin with ``prefix``, with the prefix removed.

    A KeyError of the result shows the full name of the parameter.
    """
    part = _Part((name[len(prefix):], array) for name, array in arrays.items()
                 if name.startswith(prefix))
    part.prefix = prefix
    return part


class _Part(dict[str, np.ndarray]):
    prefix = ''

    def __missing__(self, name: str) -> np.ndarray:
        raise KeyError(self.prefix + name)


def backbone_name(arrays: Arrays) -> str:
    """Return the name of a ResNet, determined by its blocks and the width of its groups.

    Raises KeyError if an array is missing, and AdaptisError if no backbone here matches.
    """
    from panoptic_baselines.layers.resnet import RESNET_SPECS  # loads MXNet
    blocks = tuple(len({n.split('.')[1] for n in arrays if n.startswith(f'res{stage}.')})
                   for stage in range(2, 6))
    channels, width = arrays['res2.0.conv2.weight'].shape[:2]
    for name, spec in RESNET_SPECS.items():
        if (blocks == spec.blocks and spec.bottleneck == ('res2.0.conv3.weight' in arrays)
            and (channels, width) == (spec.groups * spec.width, spec.width)):
            return name
    raise AdaptisError(f'No known backbone has {blocks} blocks and groups of {width} channels.')
