"""The transforms that ``data.augmentation`` may name, and how strong each is.

In a config they are a mapping, for instance

    augmentation:
      horizontal_flip: {prob: 0.5}
      brightness: {range: [-0.25, 0.25], of: mean, prob: 0.75}

Each is an independent draw per image.  They apply in the order of :data:`TRANSFORMS`, whatever
their order in the file.  ``null`` takes away one that a base config has.
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

    What comes from outside is black, and unknown in the maps.
    """

    shift: float = 0.0
    degrees: float = 0.0
    prob: float = 0.5

    def albumentation(self) -> tuple[str, dict[str, Any]]:
        """Its class in albumentations, and the arguments of that."""
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
    """Add a random share of ``range``: of the image's mean, or of white (255)."""

    range: Range = (-0.2, 0.2)
    of: str = OF_MEAN
    prob: float = 0.5

    def albumentation(self) -> tuple[str, dict[str, Any]]:
        """See ``ShiftRotate``."""
        return 'RandomBrightnessContrast', {'brightness_limit': self.range, 'contrast_limit': 0,
                                            'brightness_by_max': self.of == OF_WHITE}


@dataclass(frozen=True)
class Contrast:
    """Multiply by 1 + a random number of ``range``."""

    range: Range = (-0.2, 0.2)
    prob: float = 0.5

    def albumentation(self) -> tuple[str, dict[str, Any]]:
        """See ``ShiftRotate``."""
        return 'RandomBrightnessContrast', {'brightness_limit': 0, 'contrast_limit': self.range}


@dataclass(frozen=True)
class Saturation:
    """Move colours away from grey, or towards it, by a factor of 1 + a random number of ``range``.
    """

    range: Range = (-0.2, 0.2)
    prob: float = 0.5

    def albumentation(self) -> tuple[str, dict[str, Any]]:
        """See ``ShiftRotate``."""
        low, high = self.range
        return 'ColorJitter', {**_NO_JITTER, 'saturation': (1 + low, 1 + high)}


@dataclass(frozen=True)
class Hue:
    """Turn the circle of colours by up to ``degrees``, at most 180."""

    degrees: float = 18.0
    prob: float = 0.5

    def albumentation(self) -> tuple[str, dict[str, Any]]:
        """See ``ShiftRotate``."""
        return 'ColorJitter', {**_NO_JITTER, 'hue': self.degrees / 360}


@dataclass(frozen=True)
class ChannelShift:
    """Add random numbers of ``range``, in grey levels, to red, green and blue: three draws."""

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
"""By their names in a config, in the order in which they apply."""

# The least and the most that strengths may be; a range holds any two numbers in order.
_LIMITS = {'prob': (0.0, 1.0), 'shift': (0.0, 1.0), 'degrees': (0.0, 180.0)}
_LEAST_OF_RANGE = {'brightness': -1.0, 'contrast': -1.0, 'saturation': -1.0,
                   'channel_shift': -255.0}


def parse_transforms(content: Mapping[str, Any]) -> list[Transform]:
    """The transforms of a mapping in the order in which they apply.

    Raises AdaptisError for a transform or a strength that there is not, or that makes no sense.
    """
    unknown = next((name for name in content if name not in TRANSFORMS), None)
    if unknown is not None:
        raise AdaptisError(f'There is no augmentation transform "{unknown}"'
                           f'{_suggest(unknown, TRANSFORMS)}.')
    return [_parse(name, content[name]) for name in TRANSFORMS if content.get(name) is not None]


def _parse(name: str, options: Any) -> Transform:
    kind = TRANSFORMS[name]
    if not isinstance(options, Mapping):
        raise AdaptisError(f'The augmentation transform {name} is {options!r}: it must hold '
                           'strengths by name, e.g. {prob: 0.5}, or be null.')
    known = {field.name for field in dataclasses.fields(kind)}
    for key in options:
        if key not in known:
            raise AdaptisError(f'The augmentation transform {name} has no strength "{key}"'
                               f'{_suggest(key, known)}.')
    return kind(**{key: _value(name, key, value) for key, value in options.items()})


def _value(name: str, key: str, value: Any) -> Any:
    """A strength as its transform takes it."""
    if key == 'of':
        _demand(value in (OF_MEAN, OF_WHITE), name, key, value, f'{OF_MEAN} or {OF_WHITE}')
        return value
    if key == 'range':
        least = _LEAST_OF_RANGE[name]
        _demand(isinstance(value, (list, tuple)) and len(value) == 2
                and all(map(_is_number, value)) and least <= value[0] <= value[1],
                name, key, value, f'[least, most], both from {least:g} on')
        return tuple(value)
    low, high = _LIMITS[key]
    _demand(_is_number(value) and low <= value <= high, name, key, value,
            f'a number from {low:g} to {high:g}')
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _demand(fulfilled: bool, name: str, key: str, value: Any, what: str) -> None:
    if not fulfilled:
        raise AdaptisError(f'The augmentation transform {name} has {key} {value!r}: it must be '
                           f'{what}.')


def _suggest(key: Any, known: Any) -> str:
    close = difflib.get_close_matches(str(key), list(known), n=1)
    return f' (did you mean {close[0]}?)' if close else f' (known: {", ".join(sorted(known))})'
