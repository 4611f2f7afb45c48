"""The names of this package's networks and what they stand for.  This does not load MXNet."""
from __future__ import annotations

from typing import Any, NamedTuple

_PANOPTIC_FPN = 'panoptic_baselines.panoptic_fpn.network:PanopticFPN'
_CONDINST = 'panoptic_baselines.condinst.network:CondInst'
_BACKBONES = {'r18': 'resnet18', 'r34': 'resnet34', 'r50': 'resnet50', 'r101': 'resnet101',
              'r152': 'resnet152', 'x101': 'resnext101_32x8d', 'x152': 'resnext152_32x8d'}


class NamedModel(NamedTuple):
    """A network class as 'module:class', and the arguments that a name stands for."""

    network: str
    options: dict[str, Any]


_SYSTEMS = {
    'panoptic_fpn': NamedModel(_PANOPTIC_FPN, {}),
    'mask_rcnn': NamedModel(_PANOPTIC_FPN, {'semantic': False}),
    'semantic_fpn': NamedModel(_PANOPTIC_FPN, {'instances': False}),
    'condinst': NamedModel(_CONDINST, {}),
    'dense_detections': NamedModel('panoptic_baselines.dense_detections.network:DenseDetections',
                                   {}),
    'unified': NamedModel('panoptic_baselines.unified.network:Unified', {}),
}

MODELS: dict[str, NamedModel] = {
    **_SYSTEMS,
    **{f'{name}_{short}': NamedModel(network, {**options, 'backbone': backbone})
       for name, (network, options) in _SYSTEMS.items()
       for short, backbone in _BACKBONES.items()},
    'condinst_dla34': NamedModel(_CONDINST, {'backbone': 'dla34'}),
}
"""Maps a name to its network class and the arguments that the name fixes."""
