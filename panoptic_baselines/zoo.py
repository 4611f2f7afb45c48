"""The networks of this package by name, and their checkpoints: ``<name>.params`` and ``.json``."""
from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from adaptis.errors import AdaptisError
from adaptis.files import PathLike
from adaptis.model.zoo import load_network, make_network
from adaptis.model.zoo import load_pretrained as set_pretrained
from adaptis.registry import import_object
from panoptic_baselines.models import MODELS


def get_model(name: str, **kwargs: Any) -> Any:
    """Return a network, not yet initialised.

    Parameters
    ----------
    name : one of ``MODELS``, for instance 'panoptic_fpn_r50' or 'mask_rcnn_r101'; 'panoptic_fpn'
        alone takes the backbone and the branches as arguments
    kwargs : arguments of the network's constructor, except those that the name fixes

    Raises AdaptisError for an unknown network or argument, or for an invalid value.
    """
    if not isinstance(name, str) or name not in MODELS:
        raise AdaptisError(f'There is no network "{name}": choose one of {sorted(MODELS)}.')
    network, fixed = MODELS[name]
    return make_network(name, import_object(network), fixed, kwargs)


def load_model(path: PathLike, ctx: Any = None) -> Any:
    """Return the network of a checkpoint, ready for use; ``adaptis.model.save_model`` writes them.

    Raises AdaptisError for a file that is missing, cut short, or belongs to a different network.
    """
    return load_network(get_model, Path(path), ctx)


def load_pretrained(net: Any, path: PathLike) -> None:
    """Initialise a network with the weights of a trained network, whose classes may differ.

    Layers with one output per class keep their values if the number of classes differs.  The file
    may hold more parameters than the network has.

    Raises AdaptisError, and changes nothing, if the networks differ in any other way.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise AdaptisError(f'pretrained is {path!r} but must be the path of a checkpoint.')
    things, stuff = net.num_things, net.num_stuff
    outputs = {things, things + 1, 4 * things, stuff, stuff + 1, things + stuff}
    set_pretrained(net, path, outputs)
