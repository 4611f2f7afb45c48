"""Convert official AdaptIS checkpoints to checkpoints of this library."""
from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Callable, NamedTuple, Optional

from adaptis.convert.names import detect_network, map_names
from adaptis.errors import AdaptisError
from adaptis.files import PathLike
from adaptis.model.zoo import get_model, read_arrays, save_model, set_parameters

DEPTHS = {(2, False): 'resnet18', (6, False): 'resnet34', (6, True): 'resnet50',
          (23, True): 'resnet101'}
"""Backbone by the number of blocks in its third stage and whether they are bottlenecks."""


def convert(source: PathLike, target: PathLike, num_stuff: Optional[int] = None
            ) -> dict[str, Any]:
    """Convert a ``.params`` file of the official MXNet code to a checkpoint of this library.

    The network, its backbone, width, classes, coordinates and proposal branch are inferred from the
    arrays.  ``num_stuff`` cannot be inferred; it has defaults for the toy problem (1 of 2 classes)
    and for Cityscapes (11 of 19).  Returns a dictionary: 'mapped' is ``{official name: our name}``,
    'unknown' lists the names that were left out, and 'network' is the name of the network.

    Raises AdaptisError for a file that is not an official checkpoint, that lacks parameters, or
    that needs ``num_stuff``.
    """
    arrays = read_arrays(source)
    network = detect_network(arrays)
    mapped, unknown = map_names(arrays, network)
    if not mapped:
        raise AdaptisError(f'{source} is not an official AdaptIS checkpoint: none of its '
                           f'{len(arrays)} parameters has a known name. Give a checkpoint of a '
                           'supported network.')
    ours = {name: arrays[official] for official, name in mapped.items()}
    kind = _KINDS[network]
    options = kind.options(_Arrays(ours, kind.name, source))
    if num_stuff is not None:
        options['num_stuff'] = num_stuff
    elif options['num_classes'] != kind.classes:
        raise AdaptisError(f'{source} has {options["num_classes"]} classes, but it does not say '
                           'how many of them are stuff: give --num-stuff.')
    net = get_model(network, **options)
    net.initialize()
    set_parameters(net, ours, source)
    save_model(net, target, {'converted_from': Path(source).name})
    return {'network': network, 'mapped': mapped, 'unknown': sorted(unknown), 'prefix': ''}


class _Arrays(dict[str, Any]):
    """Arrays by our names; AdaptisError if a missing one is accessed."""

    def __init__(self, arrays: Mapping[str, Any], kind: str, source: PathLike):
        super().__init__(arrays)
        self.kind, self.source = kind, source

    def __missing__(self, name: str) -> Any:
        raise AdaptisError(f'{self.source} is not a complete checkpoint of the official '
                           f"{self.kind} network: it lacks the parameter for '{name}'.")


def _toy_options(arrays: _Arrays) -> dict[str, Any]:
    width = arrays['encoder.backbone.final.1.0.weight'].shape[0]
    return {'width': width, 'num_classes': arrays['encoder.semantic.3.weight'].shape[0],
            **_head_options(arrays, width, 'encoder.proposals.2.weight')}


def _deeplab_options(arrays: _Arrays) -> dict[str, Any]:
    return _resnet_options(arrays, arrays['encoder.backbone.join.2.weight'].shape[0],
                           arrays['encoder.semantic.2.weight'].shape[0])


def _fpn_options(arrays: _Arrays) -> dict[str, Any]:
    return _resnet_options(arrays, arrays['encoder.backbone.lateral.0.0.weight'].shape[0],
                           arrays['encoder.semantic.classes.weight'].shape[0])


def _resnet_options(arrays: _Arrays, width: int, classes: int) -> dict[str, Any]:
    options = {'backbone': _backbone(arrays), 'num_classes': classes,
               **_head_options(arrays, width, 'encoder.proposals.3.weight')}
    return options if width == 256 else {**options, 'width': width}


def _backbone(arrays: _Arrays) -> str:
    """Return the backbone by the number of blocks in its third stage and their type."""
    stage = 'encoder.backbone.trunk.stages.2.'
    blocks = {name[len(stage):].split('.')[0] for name in arrays if name.startswith(stage)}
    depth = len(blocks), f'{stage}0.conv3.weight' in arrays
    if depth not in DEPTHS:
        raise AdaptisError(f'{arrays.source} has an unknown backbone: {len(blocks)} blocks in the '
                           f'third stage; supported are {", ".join(DEPTHS.values())}.')
    return DEPTHS[depth]


def _head_options(arrays: _Arrays, width: int, proposals: str) -> dict[str, Any]:
    options: dict[str, Any] = {}
    if arrays['point_head.first.weight'].shape[1:2] == (width,):
        options['coordinates'] = 'none'
    if proposals not in arrays:
        options['proposals'] = False
    return options


class _Kind(NamedTuple):
    """An official network.

    Attributes
    ----------
    name : its name in messages
    options : function that reads its options from the arrays
    classes : number of classes for which the default ``num_stuff`` is right
    """

    name: str
    options: Callable[[_Arrays], dict[str, Any]]
    classes: int


_KINDS = {'adaptis_toy': _Kind('toy', _toy_options, 2),
          'adaptis_deeplab': _Kind('DeepLab', _deeplab_options, 19),
          'adaptis_fpn': _Kind('FPN', _fpn_options, 19)}
