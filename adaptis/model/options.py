"""Check the options of networks, which come from YAML and JSON files and can have any value."""
from __future__ import annotations

import inspect
import numbers
from collections.abc import Mapping, Sequence
from typing import Any, Optional

from adaptis.errors import AdaptisError
from adaptis.model.layers import COORDINATES, Norm, nn
from adaptis.runtime import mx

NORM_LAYERS = {'BatchNorm': nn.BatchNorm, 'SyncBatchNorm': mx.gluon.contrib.nn.SyncBatchNorm}


def check_type(kind: type, what: str, **options: Any) -> None:
    """Raise AdaptisError naming the first option whose value is not of type ``kind``."""
    for name, value in options.items():
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise AdaptisError(f'{name} is {value!r}: it must be {what}.')


def check_common(num_classes: int, num_stuff: int, coordinates: str, radius: float,
                 epsilon: float, official: bool, proposals: bool) -> None:
    """Check the options that all AdaptIS networks have."""
    check_type(numbers.Integral, 'a whole number', num_classes=num_classes, num_stuff=num_stuff)
    check_type(numbers.Real, 'a number', radius=radius, epsilon=epsilon)
    check_type(bool, 'true or false', official=official, proposals=proposals)
    if not 0 <= num_stuff < num_classes:
        raise AdaptisError(f'num_stuff is {num_stuff} of {num_classes} classes: there must be at '
                           'least one thing class.')
    if coordinates not in list(COORDINATES):
        raise AdaptisError(f'coordinates is {coordinates!r}: choose one of {sorted(COORDINATES)}.')
    if not radius > 0:
        raise AdaptisError(f'radius is {radius}: it must be greater than 0 pixels.')
    if not epsilon >= 0:
        raise AdaptisError(f'epsilon is {epsilon}: it must be 0 or more.')


def check_width(width: int, multiple: int) -> None:
    """Check a number of channels that some layers divide by ``multiple``."""
    check_type(numbers.Integral, 'a whole number', width=width)
    if width < multiple or width % multiple:
        kind = 'an even number' if multiple == 2 else f'a multiple of {multiple}'
        raise AdaptisError(f'width is {width}: it must be {kind} of channels, '
                           f'{multiple} or more.')


def check_normalisation(mean: Sequence[float], std: Sequence[float]) -> None:
    """Check the mean and the standard deviation of the input."""
    for name, values in (('mean', mean), ('std', std)):
        if not isinstance(values, (list, tuple)) or len(values) != 3:
            raise AdaptisError(f'{name} is {values!r}: it must be three numbers, for R, G and B.')
        for value in values:
            check_type(numbers.Real, 'three numbers', **{name: value})
    if not min(std) > 0:
        raise AdaptisError(f'std is {std}: it must be greater than 0.')


def make_norm(layer: str, kwargs: Optional[Mapping[str, Any]] = None) -> Norm:
    """Return the normalisation of a network by name ('BatchNorm', 'SyncBatchNorm') and options.

    Raises AdaptisError if the layer or an option is unknown.
    """
    kind, kwargs = norm_class(layer), check_norm_kwargs(layer, kwargs)
    return lambda channels: kind(in_channels=channels, **kwargs)


def norm_class(layer: str) -> type:
    """Return the class of a normalisation layer; AdaptisError if the name is unknown."""
    if not isinstance(layer, str) or layer not in NORM_LAYERS:
        raise AdaptisError(f'norm_layer is {layer!r}: choose one of {sorted(NORM_LAYERS)}.')
    return NORM_LAYERS[layer]


def check_norm_kwargs(layer: str, kwargs: Optional[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Return the options as a new dictionary; AdaptisError if the layer does not have them."""
    options = check_options(NORM_LAYERS[layer], kwargs)
    if layer == 'SyncBatchNorm':   # the layer's own default, which would warn
        return {'num_devices': max(mx.context.num_gpus(), 1), **options}
    return options


def check_options(layer: type, kwargs: Optional[Mapping[str, Any]]) -> dict[str, Any]:
    """Do the same for any class of normalisation layers."""
    if kwargs is None:
        kwargs = {}
    if not isinstance(kwargs, Mapping):
        raise AdaptisError(f'norm_kwargs is {kwargs!r}: it must be a mapping from option names to '
                           'values.')
    known = set(inspect.signature(layer.__init__).parameters)
    known -= {'self', 'axis', 'in_channels', 'kwargs'}
    for name, value in kwargs.items():
        if name not in known:
            raise AdaptisError(f'norm_kwargs: {layer.__name__} has no option {name!r}; '
                               f'it has {", ".join(sorted(known))}.')
        if not isinstance(value, (bool, numbers.Real)):
            raise AdaptisError(f'norm_kwargs: {name} is {value!r}: it must be a number.')
    if not kwargs.get('epsilon', 0) >= 0:
        raise AdaptisError(f'norm_kwargs: epsilon is {kwargs["epsilon"]}: it must be 0 or more.')
    return dict(kwargs)
