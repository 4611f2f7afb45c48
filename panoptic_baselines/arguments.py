"""Check the arguments that the constructors of networks and losses take."""
from __future__ import annotations

import math
import numbers
from collections.abc import Iterable
from typing import Any

from adaptis.errors import AdaptisError

MAX_COUNT = 10 ** 6


def check_counts(**values: Any) -> None:
    """Raise AdaptisError, naming the value, unless it is a whole number from 1 to 10**6."""
    for name, value in values.items():
        if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < 1:
            raise AdaptisError(f'{name} is {value!r} but must be a whole number, at least 1.')
        if value > MAX_COUNT:
            raise AdaptisError(f'{name} is {value} but must be at most {MAX_COUNT:,}.')


def check_choice(name: str, value: Any, choices: Iterable[Any]) -> None:
    """Raise AdaptisError unless ``value`` is one of ``choices``; True and 1 are different."""
    if not any(type(value) is type(choice) and value == choice for choice in choices):
        raise AdaptisError(f'{name} is {value!r}: choose one of {list(choices)}.')


def check_numbers(name: str, values: Any, count: int, positive: bool = False) -> tuple:
    """Return ``values`` as a tuple; AdaptisError if they are not ``count`` finite numbers."""
    fits = (isinstance(values, (list, tuple)) and len(values) == count
            and all(_is_number(v) for v in values))
    if not fits or (positive and min(values) <= 0):
        raise AdaptisError(f'{name} is {values!r} but must be {count} '
                           f'{"positive " * positive}numbers.')
    return tuple(values)


def check_number(name: str, value: Any, least: float, most: float = math.inf) -> None:
    """Raise AdaptisError unless ``value`` is a finite number from ``least`` to ``most``."""
    if not _is_number(value) or not least <= value <= most:
        limits = f' of at least {least:g}' if most == math.inf else f' from {least:g} to {most:g}'
        raise AdaptisError(f'{name} is {value!r}: it must be a number{limits}.')


def _is_number(value: Any) -> bool:
    return (isinstance(value, numbers.Real) and not isinstance(value, bool)
            and math.isfinite(value))
