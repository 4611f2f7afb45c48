"""Convert official checkpoints of the ports and of their backbones.

Files of detectron2 (``.pkl`` of the model zoo, ``.pth`` of a training run), AdelaiDet and
TRI-ML/realtime_panoptic become complete networks; the ImageNet classifiers that such trainings
start from become backbones.  ``panoptic_baselines.convert.checkpoints`` reads the files without
running code in them.
"""
from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional

from adaptis.errors import AdaptisError
from adaptis.files import PathLike
from adaptis.inference.sidecar import read_sidecar
from panoptic_baselines.condinst.convert import CONDINST
from panoptic_baselines.convert.backbones import CAFFE2, DLA, TORCHVISION
from panoptic_baselines.convert.checkpoints import Arrays, read_checkpoint
from panoptic_baselines.convert.names import CheckpointFormat
from panoptic_baselines.convert.safetensor_files import read_safetensors
from panoptic_baselines.convert.wrappers import without_prefix, wrapper_prefixes
from panoptic_baselines.dense_detections.convert import DENSE_DETECTIONS
from panoptic_baselines.panoptic_fpn.convert import PANOPTIC_FPN

SAFETENSORS = '.safetensors'
SUFFIXES = ('.pkl', '.pth', '.pt', SAFETENSORS)
_OTHER_SHAPES = (ValueError, TypeError)
"""What NumPy raises if an array does not have the expected number of axes."""


def convert(source: PathLike, target: PathLike, num_stuff: Optional[int] = None
            ) -> dict[str, Any]:
    """Convert an official checkpoint to ``target``, a ``.params`` file with a ``.json`` beside it.

    Returns a dictionary: 'network' is the name of the network, 'mapped' is
    ``{official name: our name}``, 'unknown' lists the names without a counterpart here (anchors,
    the classifier of a backbone, ...), and 'prefix' is what was stripped from all names
    ('module.').

    Raises AdaptisError if the file cannot be read, contains an unknown network or lacks parameters,
    or if its number of stuff classes is not ``num_stuff``.
    """
    everything = _read(source)
    format_, prefix = _recognise(FORMATS, everything, source)
    arrays = _below(everything, prefix)
    mapped = format_.map_names(list(arrays))
    try:
        ours = format_.convert_arrays(arrays)
        options = format_.options(ours)
    except (KeyError, IndexError) as error:
        raise AdaptisError(f'{source} is not a complete checkpoint of {format_.title}: it lacks '
                           f'the parameter that becomes {error}.') from error
    except _OTHER_SHAPES as error:
        raise _other_shapes(format_, source) from error
    if len(ours) < len(mapped):
        raise AdaptisError(f'{source} contains two arrays for the same parameter of the network.')
    if num_stuff not in (None, options.get('num_stuff')):
        raise AdaptisError(f'{source} has {options.get("num_stuff", "no")} stuff classes, '
                           f'not {num_stuff}.')
    _write(ours, options, Path(source), Path(target))
    full = {prefix + name: ours_ for name, ours_ in mapped.items()}
    return {'network': options['name'], 'mapped': full, 'prefix': prefix,
            'unknown': sorted(set(everything) - set(full))}


def load_backbone(net: Any, path: PathLike) -> None:
    """Set the backbone of an initialised network to ImageNet weights.

    ``path`` is a backbone that ``convert`` wrote, or the official file itself.  The offsets of
    deformable convolutions keep their values, because classifiers do not have them.

    Raises AdaptisError, and changes nothing, if the file is neither of these, or if it contains
    a different backbone or one with its strides in other convolutions.
    """
    from adaptis.model.zoo import read_arrays, set_parameters  # loads MXNet
    if not isinstance(path, (str, os.PathLike)):
        raise AdaptisError(f'pretrained_base is {path!r} but must be the path of a backbone.')
    if Path(path).suffix not in SUFFIXES:
        arrays, described = read_arrays(path), read_sidecar(path).get('model')
    else:
        official = _read(path)
        format_, prefix = _recognise(CLASSIFIERS, official, path)
        try:
            ours = format_.convert_arrays(_below(official, prefix))
            described = format_.options(ours)
        except (KeyError, IndexError):   # set_parameters says below what is missing
            described = None
        except _OTHER_SHAPES as error:
            raise _other_shapes(format_, path) from error
        arrays = _nd(ours)
    for backbone in net.backbones:
        _check_strides(backbone, described, path)
        for name, parameter in backbone._collect_params_with_prefix().items():
            if '.offset.' in name:
                arrays.setdefault(name, parameter.data(parameter.list_ctx()[0]))
        set_parameters(backbone, arrays, path)


def _check_strides(backbone: Any, described: Any, path: PathLike) -> None:
    # The shapes of a bottleneck do not show where its stride is.
    ours = getattr(backbone, 'stride_in_1x1', None)
    theirs = described.get('stride_in_1x1') if isinstance(described, dict) else None
    if None not in (ours, theirs) and ours != theirs:
        sizes = ('3x3', '1x1')
        raise AdaptisError(f'{path} contains a ResNet with the strides in its {sizes[theirs]} '
                           f'convolutions, but this network has them in its {sizes[ours]} ones: '
                           f'use the file of {"torchvision" if theirs else "detectron2"}.')


def _read(source: PathLike) -> Arrays:
    if Path(source).suffix == SAFETENSORS:
        return read_safetensors(source)
    return read_checkpoint(source)


def _recognise(formats: Sequence[CheckpointFormat], arrays: Arrays,
               source: PathLike) -> tuple[CheckpointFormat, str]:
    """Return the format, and the prefix to strip from the names.

    If several prefixes fit, the first one of ``wrapper_prefixes`` counts, so averaged weights
    stored beside the others are ignored.
    """
    for prefix in wrapper_prefixes(arrays):
        names = list(without_prefix(arrays, prefix))
        for format_ in formats:
            if set(format_.required) & set(format_.map_names(names).values()):
                return format_, prefix
    titles = ' or '.join(format_.title for format_ in formats)
    raise AdaptisError(f'{source} is not a checkpoint of {titles}: none of its {len(arrays)} '
                       f'parameters, for instance {next(iter(arrays))[:80]!a}, has a name that '
                       'they use.')


def _other_shapes(format_: CheckpointFormat, source: PathLike) -> AdaptisError:
    return AdaptisError(f'{source} has the parameter names of {format_.title}, but their shapes '
                        'are different.')


def _below(arrays: Arrays, prefix: str) -> Arrays:
    return {short: arrays[name] for short, name in without_prefix(arrays, prefix).items()}


def _write(ours: Arrays, options: dict[str, Any], source: Path, target: Path) -> None:
    from adaptis.model.zoo import save_model, set_parameters  # loads MXNet
    from panoptic_baselines.layers.backbones import make_backbone  # loads MXNet
    from panoptic_baselines.zoo import get_model  # loads MXNet
    info = {'converted_from': source.name}
    if options['name'] == 'backbone':
        net = make_backbone(options['backbone'])
        net.description = options
    else:
        net = get_model(**options)
    net.initialize()
    set_parameters(net, _nd(ours), source)
    save_model(net, target, info)


def _nd(arrays: Arrays) -> dict[str, Any]:
    from adaptis.runtime import mx  # loads MXNet
    return {name: mx.nd.array(array, dtype='float32') for name, array in arrays.items()}


CLASSIFIERS: list[CheckpointFormat] = [CAFFE2, DLA, TORCHVISION]
FORMATS: list[CheckpointFormat] = [PANOPTIC_FPN, CONDINST, DENSE_DETECTIONS, *CLASSIFIERS]
