"""Networks by name, and their files: ``<name>.params`` beside ``<name>.json``."""
from __future__ import annotations

import inspect
import json
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Callable, Optional

import numpy as np

from adaptis.errors import AdaptisError
from adaptis.files import PathLike, atomic_write, decode_json_text
from adaptis.model.adaptis import AdaptIS
from adaptis.model.deeplab import DeepLabAdaptIS
from adaptis.model.fpn import FPNAdaptIS
from adaptis.model.unet import ToyAdaptIS
from adaptis.runtime import mx
from adaptis.weights import weights_file

MODELS = {'adaptis_toy': ToyAdaptIS, 'adaptis_deeplab': DeepLabAdaptIS,
          'adaptis_fpn': FPNAdaptIS}


def get_model(name: str, **kwargs: Any) -> AdaptIS:
    """Return a network by name, not yet initialised.

    Parameters
    ----------
    name : one of ``MODELS``: 'adaptis_toy', 'adaptis_deeplab' or 'adaptis_fpn'
    kwargs : arguments of the network's constructor, for example ``width=16``

    Raises AdaptisError if the network or an argument is unknown, or a value is invalid.
    """
    if not isinstance(name, str) or name not in MODELS:
        raise AdaptisError(f'There is no network "{name}": choose one of {sorted(MODELS)}.')
    return make_network(name, MODELS[name], {}, kwargs)


def make_network(name: str, network: Callable[..., Any], fixed: Mapping[str, Any],
                 options: Mapping[str, Any]) -> Any:
    """Return a network with the attribute ``description``, which ``save_model`` writes.

    ``fixed`` are the arguments that ``name`` implies, and ``options`` the others. Raises
    AdaptisError for an option that the network does not have.
    """
    known = set(inspect.signature(network).parameters) - set(fixed)
    unknown = sorted(set(options) - known)
    if unknown:
        raise AdaptisError(f'The network "{name}" has no option {", ".join(unknown)}; '
                           f'it has {", ".join(sorted(known))}.')
    net = network(**fixed, **options)
    net.description = {'name': name, **options}
    return net


def save_model(net: AdaptIS, path: PathLike, info: Optional[Mapping[str, Any]] = None,
               dtype: str = 'float32') -> None:
    """Write the parameters to ``path``, and a description to a ``.json`` file beside it.

    ``net`` comes from ``get_model`` or ``load_model``.  The JSON also contains ``info`` (the origin
    of the parameters).  ``dtype='float16'`` halves the file size.  Options that matter only for
    training (initial ImageNet weights, devices to synchronise) are not stored, so a loaded network
    has plain BatchNorm.
    """
    arrays = {name: parameter._reduce().astype(dtype)
              for name, parameter in net._collect_params_with_prefix().items()}
    text = json.dumps({'model': strip_training_options(net.description), **(info or {})}, indent=2)
    path = Path(path)
    with atomic_write(path.with_suffix('.json')) as temporary:
        temporary.write_text(text + '\n', encoding='utf-8')
    write_arrays(path, arrays)   # written last, so that parameters always have a description


def write_arrays(path: PathLike, arrays: Mapping[str, Any]) -> None:
    """Write named NDArrays as a parameter file of MXNet; AdaptisError if that fails."""
    with atomic_write(path) as temporary:
        try:
            mx.nd.save(str(temporary), dict(arrays))
            mx.nd.load(str(temporary))  # MXNet does not notice if the disk becomes full at the end
        except mx.MXNetError as error:
            raise OSError('MXNet could not write the whole file, perhaps because the disk is '
                          'full') from error


def strip_training_options(description: Mapping[str, Any]) -> dict[str, Any]:
    """Return a network's description without the options that only matter for training."""
    kept = {key: 'BatchNorm' if value == 'SyncBatchNorm' else value
               for key, value in description.items()
               if key != 'pretrained_base' and not isinstance(value, type)}
    norm_kwargs = {key: value for key, value in (kept.pop('norm_kwargs', None) or {}).items()
                   if key != 'num_devices'}
    return {**kept, 'norm_kwargs': norm_kwargs} if norm_kwargs else kept


def load_model(path: PathLike, ctx: Any = None, **overrides: Any) -> AdaptIS:
    """Return the network of a checkpoint, ready for use.

    ``path`` is a ``.params`` file with its ``.json`` beside it, or the name of an included
    network ('toy_v1', 'toy_v1_wide', 'toy_v2').  ``overrides`` replace constructor arguments, for
    example ``official=True``.

    Raises AdaptisError for a file that is missing, truncated, or from another network.
    """
    return load_network(get_model, weights_file(path), ctx, **overrides)


def load_network(build: Callable[..., Any], path: Path, ctx: Any = None, **overrides: Any) -> Any:
    """Do what ``load_model`` does, for networks that ``build`` creates from name and arguments."""
    description = read_info(path).get('model')
    if not isinstance(description, dict) or 'name' not in description:
        raise AdaptisError(f'{path.with_suffix(".json")} does not name its network: its "model" '
                           'needs a "name".')
    try:
        net = build(**{**description, **overrides})
    except AdaptisError as error:
        raise AdaptisError(f'{path.with_suffix(".json")}: {error}') from error
    except (mx.MXNetError, TypeError, ValueError, OverflowError) as error:
        raise AdaptisError(f'{path.with_suffix(".json")} describes a network that cannot be built '
                           f'({type(error).__name__}): copy it again.') from error
    net.initialize(ctx=ctx)
    set_parameters(net, read_arrays(path), path)
    return net


def read_info(path: Path) -> dict[str, Any]:
    """Return the JSON beside a ``.params`` file; AdaptisError if it is missing or broken."""
    _check_file(path)
    sidecar = path.with_suffix('.json')
    try:
        info = json.loads(decode_json_text(sidecar.read_bytes()))
    except OSError as error:
        raise AdaptisError(f'{sidecar} cannot be read, but it must lie beside {path.name} and '
                           'describe its network (see "adaptis convert" for official files).'
                           ) from error
    except ValueError as error:
        raise AdaptisError(f'{sidecar} is not JSON: {error}.') from error
    if not isinstance(info, dict):
        raise AdaptisError(f'{sidecar} contains no description of a network: copy or convert the '
                           'checkpoint again.')
    return info


def read_arrays(path: PathLike) -> dict[str, Any]:
    """Return the named NDArrays of an MXNet parameter file; AdaptisError if it is not one.

    The prefixes ``arg:`` and ``aux:``, which MXNet's ``export`` and ``save_checkpoint`` add to the
    names of parameters and running statistics, are removed.
    """
    _check_file(Path(path))
    try:
        arrays = mx.nd.load(str(path))
    except Exception as error:   # MXNet raises a plain Exception for an unknown array type
        raise AdaptisError(f'{path} is not a parameter file of MXNet, or it is cut short.'
                           ) from error
    if not isinstance(arrays, dict) or not arrays:
        raise AdaptisError(f'{path} contains no named parameters.')
    bare = {re.sub('^(arg|aux):', '', name): array for name, array in arrays.items()}
    if len(bare) < len(arrays):
        raise AdaptisError(f'{path} contains two parameters of the same name, with the prefixes '
                           '"arg:" and "aux:".')
    return bare


def set_parameters(net: AdaptIS, arrays: Mapping[str, Any], source: PathLike) -> None:
    """Set all parameters of an initialised network.

    Raises AdaptisError, and sets no parameter, if names, shapes or values do not match.
    """
    parameters = net._collect_params_with_prefix()
    missing = sorted(set(parameters) - set(arrays))
    extra = sorted(set(arrays) - set(parameters))
    if missing or extra:
        example = (missing or extra)[0]
        raise AdaptisError(f'{source} belongs to another network: {len(missing)} parameters are '
                           f'missing and {len(extra)} unknown, for instance {example}.')
    for name, parameter in parameters.items():
        if tuple(arrays[name].shape) != tuple(parameter.shape):
            raise AdaptisError(f'{source} belongs to another network: {name} is '
                               f'{tuple(arrays[name].shape)}, not {tuple(parameter.shape)}.')
        if not np.isfinite(arrays[name].asnumpy()).all():
            raise AdaptisError(f'{source} contains values that are not finite, in {name}, because '
                               'its training diverged: use an earlier checkpoint.')
    for name, parameter in parameters.items():
        parameter.set_data(arrays[name].astype('float32'))


def load_pretrained(net: Any, path: PathLike, outputs: Collection[int]) -> None:
    """Load the weights of a trained network, whose classes may differ, into an initialised one.

    Layers with one output per class keep their values if the number of classes differs; the file
    may contain more parameters than the network has.

    Parameters
    ----------
    net : any network
    path : the file of a network
    outputs : numbers of outputs that depend on the number of classes of ``net``

    Raises AdaptisError, and changes nothing, if the networks differ in any other way.
    """
    arrays, start = read_arrays(path), {}
    for name, parameter in net._collect_params_with_prefix().items():
        there, here = arrays.get(name), parameter.shape
        if there is not None and there.shape != here and there.shape[1:] == here[1:] \
                and here[0] in outputs:
            there = parameter.data(parameter.list_ctx()[0])
        if there is not None:
            start[name] = there
    set_parameters(net, start, path)


def _check_file(path: Path) -> None:
    if not path.is_file():
        raise AdaptisError(f'{path} is a folder, not a parameter file.' if path.is_dir()
                           else f'{path} does not exist.')
