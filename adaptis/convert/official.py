"""Official AdaptIS checkpoints: their parameter names, and this project's for the same arrays."""
from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Tuple

from adaptis.errors import AdaptisError
from adaptis.files import PathLike
from adaptis.model.zoo import get_model, read_arrays, save_model, set_parameters

DEEPEST_UP_LEVEL = 3


def _unit(index: str) -> str:
    """Layer of an official flat [conv, norm, conv, norm, ...] stack -> unit and layer in it."""
    index = int(index)
    return f'{index // 2}.{0 if index % 2 == 0 else 2}'


def _head_unit(index: str) -> str:
    """The same for the point head, whose first convolution stands by itself."""
    index = int(index)
    if index < 2:
        return 'first' if index == 0 else 'before.1'
    return f'before.{index // 2 + 1}.{0 if index % 2 == 0 else 2}'


_FIELDS = '(weight|bias|gamma|beta|running_mean|running_var)'
_RULES: List[Tuple[str, Callable[..., str]]] = [
    (r'feature_extractor\.image_bn\.', lambda: 'encoder.backbone.image_norm.'),
    (r'feature_extractor\.d0\.(\d)\.(\d)\.', lambda u, i: f'encoder.backbone.down.0.{u}.{i}.'),
    (r'feature_extractor\.d([1-4])\.1\.(\d)\.(\d)\.',
     lambda d, u, i: f'encoder.backbone.down.{d}.{u}.{i}.'),
    (r'feature_extractor\.u([0-3])\.upsampler\.',
     lambda u: f'encoder.backbone.up.{DEEPEST_UP_LEVEL - int(u)}.upsample.'),
    (r'feature_extractor\.u([0-3])\.conv1\.(\d)\.',
     lambda u, i: f'encoder.backbone.up.{DEEPEST_UP_LEVEL - int(u)}.reduce.{i}.'),
    (r'feature_extractor\.u([0-3])\.conv3_([01])\.(\d)\.',
     lambda u, k, i: f'encoder.backbone.up.{DEEPEST_UP_LEVEL - int(u)}.join.{k}.{i}.'),
    (r'feature_extractor\.fe\.(\d)\.', lambda i: f'encoder.backbone.final.{_unit(i)}.'),
    (r'adaptis_head\.controller_net\.layers\.(\d)\.', lambda i: f'encoder.controller.{_unit(i)}.'),
    (r'adaptis_head\.block0\.([0-5])\.', lambda i: f'point_head.{_head_unit(i)}.'),
    (r'adaptis_head\.adain\.affine_(scale|bias)\.', lambda kind: f'point_head.adain.{kind}.'),
    (r'adaptis_head\.block1\.([01])\.', lambda i: f'point_head.after.{_unit(i)}.'),
    (r'adaptis_head\.block1\.2\.', lambda: 'point_head.after.1.'),
    (r'segmentation_head\.layers\.([0-5])\.', lambda i: f'encoder.semantic.{_unit(i)}.'),
    (r'segmentation_head\.layers\.6\.', lambda: 'encoder.semantic.3.'),
    (r'proposals_head\.layers\.([0-3])\.', lambda i: f'encoder.proposals.{_unit(i)}.'),
    (r'proposals_head\.layers\.4\.', lambda: 'encoder.proposals.2.'),
]


def our_name(official: str) -> Optional[str]:
    """This project's name of an official toy parameter, or None if there is no such parameter."""
    for pattern, build in _RULES:
        match = re.fullmatch(pattern + _FIELDS, official)
        if match:
            *parts, field = match.groups()
            return build(*parts) + field
    return None


def map_names(names: Iterable[str]) -> Tuple[Dict[str, str], List[str]]:
    """``{official name: our name}`` and the official names that map to nothing."""
    mapped = {name: our_name(name) for name in names}
    unknown = [name for name, ours in mapped.items() if ours is None]
    return {name: ours for name, ours in mapped.items() if ours is not None}, unknown


def convert(source: PathLike, target: PathLike) -> Dict[str, List[str]]:
    """Turn a ``.params`` file of the official MXNet code into a checkpoint of this project.

    Width, classes and proposal branch are read from the arrays.  Returns the
    official names under 'mapped' and 'unknown' (left out of the result).

    Raises AdaptisError for a file that is not one, or that lacks parameters.
    """
    arrays = read_arrays(source)
    mapped, unknown = map_names(arrays)
    if not mapped:
        raise AdaptisError(f'{source} is no official AdaptIS toy checkpoint: none of its '
                           f'{len(arrays)} parameters has a name of that network.')
    ours = {name: arrays[official] for official, name in mapped.items()}
    net = get_model('adaptis_toy', **_options(ours, source))
    net.initialize()
    set_parameters(net, ours, source)
    save_model(net, target, {'converted_from': Path(source).name})
    return {'mapped': sorted(mapped), 'unknown': sorted(unknown)}


def _options(arrays: Mapping[str, Any], source: PathLike) -> Dict[str, Any]:
    try:
        width = arrays['encoder.backbone.final.1.0.weight'].shape[0]
        classes = arrays['encoder.semantic.3.weight'].shape[0]
        first = arrays['point_head.first.weight'].shape[1]
    except KeyError as error:
        raise AdaptisError(f'{source} is no whole checkpoint of the official toy network: it lacks '
                           f'the parameter that becomes {error}.') from error
    options = {'width': width, 'num_classes': classes}
    if first == width:
        options['coordinates'] = 'none'
    if 'encoder.proposals.2.weight' not in arrays:
        options['proposals'] = False
    return options
