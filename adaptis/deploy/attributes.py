"""Check the attributes of an exported network, so that a broken export is rejected before use."""
from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from adaptis.errors import AdaptisError

MOST = 1_000_000
"""A number of classes or pixels."""


def check_attributes(kinds: Mapping[str, type], attributes: Any) -> None:
    """Raise AdaptisError unless ``attributes`` has the names and types in ``kinds``.

    ``int`` is a number of classes or pixels, ``bool`` a flag, ``list`` one or several numbers or
    lists of them.
    """
    for name, kind in kinds.items():
        if not isinstance(attributes, Mapping) or name not in attributes:
            raise AdaptisError(f'The exported network lacks the attribute {name}: export it again.')
        if not _CHECKS[kind](attributes[name]):
            raise AdaptisError(f'The exported network has the invalid attribute {name}: '
                               f'{str(attributes[name])[:80]}; export it again.')


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= MOST


def _is_flag(value: Any) -> bool:
    return type(value) is bool


def _are_numbers(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return bool(value) and all(map(_are_numbers, value))
    return type(value) in (int, float) and math.isfinite(value)


_CHECKS = {int: _is_count, bool: _is_flag, list: _are_numbers}
