"""Networks of this package by name, and their checkpoints: ``<name>.params`` beside ``.json``."""
from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Tuple

from adaptis.errors import AdaptisError
from adaptis.files import PathLike
from adaptis.model.zoo import load_network, make_network
from panoptic_baselines.panoptic_fpn import PanopticFPN
from panoptic_baselines.unified import Unified

_FAMILIES: Dict[str, Tuple[type, Dict[str, Any]]] = {
    'panoptic_fpn': (PanopticFPN, {}),
    'mask_rcnn': (PanopticFPN, {'semantic': False}),
    'semantic_fpn': (PanopticFPN, {'instances': False}),
    'unified': (Unified, {}),
}
_BACKBONES = {'r18': 'resnet18', 'r34': 'resnet34', 'r50': 'resnet50', 'r101': 'resnet101',
              'r152': 'resnet152', 'x101': 'resnext101_32x8d', 'x152': 'resnext152_32x8d'}

MODELS: Dict[str, Tuple[type, Dict[str, Any]]] = {
    **_FAMILIES,
    **{f'{name}_{short}': (network, {**fixed, 'backbone': backbone})
       for name, (network, fixed) in _FAMILIES.items()
       for short, backbone in _BACKBONES.items()},
}
"""Name -> network and the arguments that the name stands for."""


def get_model(name: str, **kwargs: Any) -> Any:
    """A network, not yet initialised.

    Parameters
    ----------
    name : one of ``MODELS``, for instance 'panoptic_fpn_r50' or 'mask_rcnn_r101'; 'panoptic_fpn'
        alone takes the backbone and the branches as arguments
    kwargs : of the network's constructor, but those that the name stands for

    Raises AdaptisError if there is no such network or argument, or a value makes no sense.
    """
    if not isinstance(name, str) or name not in MODELS:
        raise AdaptisError(f'There is no network "{name}": choose one of {sorted(MODELS)}.')
    network, fixed = MODELS[name]
    return make_network(name, network, fixed, kwargs)


def load_model(path: PathLike, ctx: Any = None) -> Any:
    """The network of a checkpoint, ready for use; ``adaptis.model.save_model`` writes them.

    Raises AdaptisError for a file that is missing, cut short, or of another network.
    """
    return load_network(get_model, Path(path), ctx)
