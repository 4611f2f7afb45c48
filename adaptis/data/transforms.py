"""The transforms of ``data.augmentation`` and their strengths.

A config lists them as a mapping, for instance

    augmentation:
      horizontal_flip: {prob: 0.5}
      brightness: {range: [-0.25, 0.25], of: mean, prob: 0.75}

Each transform is drawn independently for every image.  They are applied in the order of
:data:`TRANSFORMS`, not in that of the file.  ``null`` removes a transform of the base config.
"""
from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Union

from adaptis.errors import AdaptisError

Range = tuple[float, float]
OF_MEAN, OF_WHITE = 'mean', 'white'


@dataclass(frozen=True)
class ShiftRotate:
    """Shift by up to ``shift`` of each side and rotate by up to ``degrees``, before any crop.

    Pixels from outside the image become black, and unknown in the maps.
    """

    shift: float = 0.0
    degrees: float = 0.0
    prob: float = 0.5

    def albumentation(self) -> tuple[str, dict[str, Any]]:
        """Return the name of the class in albumentations and its arguments, without ``p``."""
        return 'ShiftScaleRotate', {'shift_limit': self.shift, 'scale_limit': 0,
                                    'rotate_limit': self.degrees, 'border_mode': 0, 'value': 0}


@dataclass(frozen=True)
class HorizontalFlip:
    """Mirror left and right."""

    prob: float = 0.5

    def albumentation(self) -> tuple[str, dict[str, Any]]:
        """See ``ShiftRotate``."""
        return 'HorizontalFlip', {}


@dataclass(frozen=True)
class Brightness:
    """Add a random fraction, drawn from ``range``, of the image's mean or of white (255)."""

    range: Range = (-0.2, 0.2)
    of: str = OF_MEAN
    prob: float = 0.5

    def albumentation(self) -> tuple[str, dict[str, Any]]:
        """See ``ShiftRotate``."""
        return 'RandomBrightnessContrast', {'brightness_limit': self.range, 'contrast_limit': 0,
                                            'brightness_by_max': self.of == OF_WHITE}


@dataclass(frozen=True)
class Contrast:
    """Multiply by 1 + a random number from ``range``."""

    range: Range = (-0.2, 0.2)
    prob: float = 0.5

    def albumentation(self) -> tuple[str, dict[str, Any]]:
        """See ``ShiftRotate``."""
        return 'RandomBrightnessContrast', {'brightness_limit': 0, 'contrast_limit': self.range}


@dataclass(frozen=True)
class Saturation:
    """Multiply the distance of colours from grey by 1 + a random number from ``range``."""

    range: Range = (-0.2, 0.2)
    prob: float = 0.5

    def albumentation(self) -> tuple[str, dict[str, Any]]:
        """See ``ShiftRotate``."""
        low, high = self.range
        return 'ColorJitter', {**_NO_JITTER, 'saturation': (1 + low, 1 + high)}


@dataclass(frozen=True)
class Hue:
    """Rotate the hue by up to ``degrees``, at most 180."""

    degrees: float = 18.0
    prob: float = 0.5

    def albumentation(self) -> tuple[str, dict[str, Any]]:
        """See ``ShiftRotate``."""
        return 'ColorJitter', {**_NO_JITTER, 'hue': self.degrees / 360}


@dataclass(frozen=True)
class ChannelShift:
    """Add a random number from ``range``, in grey levels, to each of red, green and blue."""

    range: Range = (-20.0, 20.0)
    prob: float = 0.5

    def albumentation(self) -> tuple[str, dict[str, Any]]:
        """See ``ShiftRotate``."""
        return 'RGBShift', {f'{channel}_shift_limit': self.range for channel in 'rgb'}


Transform = Union[ShiftRotate, HorizontalFlip, Brightness, Contrast, Saturation, Hue, ChannelShift]
_NO_JITTER = {'brightness': 0, 'contrast': 0, 'saturation': 0, 'hue': 0}
TRANSFORMS: dict[str, type] = {
    'shift_rotate': ShiftRotate, 'horizontal_flip': HorizontalFlip, 'brightness': Brightness,
    'contrast': Contrast, 'saturation': Saturation, 'hue': Hue, 'channel_shift': ChannelShift}
"""The transforms by their names in a config, in the order of application."""

# Minimum and maximum allowed strengths; a range is any two numbers in ascending order.
_LIMITS = {'prob': (0.0, 1.0), 'shift': (0.0, 1.0), 'degrees': (0.0, 180.0)}
_LEAST_OF_RANGE = {'brightness': -1.0, 'contrast': -1.0, 'saturation': -1.0,
                   'channel_shift': -255.0}


def parse_transforms(content: Mapping[str, Any]) -> list[Transform]:
    """Return the transforms of a mapping in the order of application.

    Raises AdaptisError for an unknown transform or strength, and for an impossible value.
    """
    unknown = next((name for name in content if name not in TRANSFORMS), None)
    if unknown is not None:
        raise AdaptisError(f'There is no augmentation transform "{unknown}"'
                           f'{_suggest(unknown, TRANSFORMS)}.')
    return [_parse(name, content[name]) for name in TRANSFORMS if content.get(name) is not None]


def _parse(name: str, options: Any) -> Transform:
    kind = TRANSFORMS[name]
    if not isinstance(options, Mapping):
        raise AdaptisError(f'The augmentation transform {name} is {options!r}: it must be a '
                           f'mapping of strengths, e.g. {{prob: 0.5}}, or null.')
    known = {field.name for field in dataclasses.fields(kind)}
    for key in options:
        if key not in known:
            raise AdaptisError(f'The augmentation transform {name} has no strength "{key}"'
                               f'{_suggest(key, known)}.')
    return kind(**{key: _value(name, key, value) for key, value in options.items()})


def _value(name: str, key: str, value: Any) -> Any:
    """Return a strength as its transform expects it."""
    if key == 'of':
        _check(value in (OF_MEAN, OF_WHITE), name, key, value, f'{OF_MEAN} or {OF_WHITE}')
        return value
    if key == 'range':
        least = _LEAST_OF_RANGE[name]
        _check(isinstance(value, (list, tuple)) and len(value) == 2
               and all(map(_is_number, value)) and least <= value[0] <= value[1],
               name, key, value, f'[minimum, maximum], both at least {least:g}')
        return tuple(value)
    low, high = _LIMITS[key]
    _check(_is_number(value) and low <= value <= high, name, key, value,
           f'a number between {low:g} and {high:g}')
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _check(fulfilled: bool, name: str, key: str, value: Any, what: str) -> None:
    if not fulfilled:
        raise AdaptisError(f'The augmentation transform {name} has {key} {value!r}: it must be '
                           f'{what}.')


def _suggest(key: Any, known: Any) -> str:
    close = difflib.get_close_matches(str(key), list(known), n=1)
    return f' (did you mean {close[0]}?)' if close else f' (known: {", ".join(sorted(known))})'
