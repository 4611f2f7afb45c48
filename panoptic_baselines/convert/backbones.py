"""Official ImageNet classifiers that provide a backbone: Caffe2, torchvision, DLA-34."""
from __future__ import annotations

from typing import Any, Optional

import numpy as np

from adaptis.errors import AdaptisError
from panoptic_baselines.convert.names import (
    NORM,
    Arrays,
    CheckpointFormat,
    Rules,
    backbone_name,
    rename,
)

_STD = 58.395, 57.12, 57.375
_STATISTICS = 'weight|bias|running_mean|running_var'
# In the official files, a tree of trees also has a projection, which no result depends on.
_LAYER = r'base_layer|level[01]|(?:level[25]|level[34][.]tree1)[.]project'
_ROOT = r'level[2-5](?:[.]tree[12])?[.]root'
_DLA: Rules = [
    (rf'({_LAYER})[.]0[.](weight)', r'\1.\2'),
    (rf'({_LAYER})[.]1[.]({_STATISTICS})', r'\1.norm.\2'),
    (r'(level[2-5][.].+[.]conv[12])[.](weight)', r'\1.\2'),
    (rf'(level[2-5][.].+[.])bn([12])[.]({_STATISTICS})', r'\1conv\2.norm.\3'),
    (rf'({_ROOT})[.]conv[.](weight)', r'\1.\2'),
    (rf'({_ROOT})[.]bn[.]({_STATISTICS})', r'\1.norm.\2'),
]
# Caffe2's names of a ResNet and its norms -> detectron2's.
_CAFFE2: Rules = [
    (r'(?:res_)?conv1_(.+)', r'stem.conv1.\1'),
    (r'(res[2-5])_(\d+)_branch1_(.+)', r'\1.\2.shortcut.\3'),
    (r'(res[2-5])_(\d+)_branch2a_(.+)', r'\1.\2.conv1.\3'),
    (r'(res[2-5])_(\d+)_branch2b_(.+)', r'\1.\2.conv2.\3'),
    (r'(res[2-5])_(\d+)_branch2c_(.+)', r'\1.\2.conv3.\3'),
]
_CAFFE2_FIELDS = {
    'w': 'weight', 'bn_s': 'norm.gamma', 'bn_gamma': 'norm.gamma', 'bn_b': 'norm.beta',
    'bn_beta': 'norm.beta', 'bn_bias': 'norm.beta',
    'bn_rm': 'norm.running_mean', 'bn_running_mean': 'norm.running_mean',
    'bn_riv': 'norm.running_var', 'bn_running_var': 'norm.running_var'}
# In torchvision's ResNet, a norm is a sibling of its convolution; here it is a child.
TORCHVISION_RESNET: Rules = [
    (r'conv1[.](weight)', r'stem.conv1.\1'),
    (rf'bn1[.]({_STATISTICS})', r'stem.conv1.norm.\1'),
    *((rf'layer{i}[.](\d+)[.]{theirs}', rf'res{i + 1}.\1.{ours}')
      for i in range(1, 5) for theirs, ours in (
          (r'conv(\d)[.](weight)', r'conv\2.\3'),
          (rf'bn(\d)[.]({_STATISTICS})', r'conv\2.norm.\3'),
          (r'downsample[.]0[.](weight)', r'shortcut.\2'),
          (rf'downsample[.]1[.]({_STATISTICS})', r'shortcut.norm.\2'))),
]


def caffe2_name(official: str) -> Optional[str]:
    """Return our name, below the backbone, of a parameter of a Caffe2-style ResNet, or None."""
    ours = rename(official, _CAFFE2)
    if ours is None:
        return None
    layer, _, field = ours.rpartition('.')
    return f'{layer}.{_CAFFE2_FIELDS[field]}' if field in _CAFFE2_FIELDS else None


def dla_name(official: str) -> Optional[str]:
    """Return our name, below the backbone, of a parameter of a DLA, or None."""
    ours = rename(official, _DLA)
    return ours and rename(ours, NORM)


def torchvision_name(official: str) -> Optional[str]:
    """Return our name, below the backbone, of a parameter of torchvision's ResNet, or None."""
    ours = rename(official, TORCHVISION_RESNET)
    return ours and rename(ours, NORM)


def _caffe2_options(arrays: Arrays) -> dict[str, Any]:
    from panoptic_baselines.layers.resnet import RESNET_SPECS  # loads MXNet
    name = backbone_name(arrays)
    return {'name': 'backbone', 'backbone': name, 'stride_in_1x1': RESNET_SPECS[name].stride_in_1x1}


def _torchvision_options(arrays: Arrays) -> dict[str, Any]:
    name = backbone_name(arrays)
    if not name.startswith('resnet'):
        raise AdaptisError(f'Only ResNets of torchvision can be converted, but this is {name}.')
    return {'name': 'backbone', 'backbone': name, 'stride_in_1x1': False}


def _swap_dla_channels(name: str, array: np.ndarray) -> np.ndarray:
    # The classifier was trained on RGB; networks here convert images to BGR before the backbone.
    return array[:, ::-1] if name == 'base_layer.weight' else array


def _scale_torchvision_stem(name: str, array: np.ndarray) -> np.ndarray:
    # Networks here see BGR images, 0..255; the classifier divides RGB by the standard deviation.
    if name != 'stem.conv1.weight':
        return array
    return (array / np.float32(_STD).reshape(1, 3, 1, 1))[:, ::-1]


CAFFE2 = CheckpointFormat('an ImageNet classifier of Caffe2', caffe2_name,
                          ('stem.conv1.weight',), _caffe2_options)
DLA = CheckpointFormat('DLA-34', dla_name, ('base_layer.weight',),
                       lambda arrays: {'name': 'backbone', 'backbone': 'dla34'},
                       _swap_dla_channels)
TORCHVISION = CheckpointFormat('a ResNet of torchvision', torchvision_name,
                               ('stem.conv1.weight',), _torchvision_options,
                               _scale_torchvision_stem)
