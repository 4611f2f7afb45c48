"""Check what an export says of its network, so that a broken one is refused before its use."""
from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from adaptis.errors import AdaptisError

MOST = 1_000_000
"""Of classes or pixels."""


def check_attributes(kinds: Mapping[str, type], attributes: Any) -> None:
    """Raise AdaptisError unless ``attributes`` has what ``kinds`` names.

    ``int`` is a number of classes or pixels, ``bool`` a flag, ``list`` one or several numbers or
    lists of them.
    """
    for name, kind in kinds.items():
        if not isinstance(attributes, Mapping) or name not in attributes:
            raise AdaptisError(f'The exported network does not say its {name}: export it again.')
        if not _CHECKS[kind](attributes[name]):
            raise AdaptisError(f'The exported network has {str(attributes[name])[:80]} as its '
                               f'{name}: export it again.')


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= MOST


def _is_flag(value: Any) -> bool:
    return type(value) is bool


def _are_numbers(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return bool(value) and all(map(_are_numbers, value))
    return type(value) in (int, float) and math.isfinite(value)


_CHECKS = {int: _is_count, bool: _is_flag, list: _are_numbers}
