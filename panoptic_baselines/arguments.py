"""What constructors of networks ask of their arguments."""
from __future__ import annotations

import math
import numbers
from typing import Any, Tuple

from adaptis.errors import AdaptisError


def demand_counts(**values: Any) -> None:
    """AdaptisError, with its name, for a value that is no whole number of at least 1."""
    for name, value in values.items():
        if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < 1:
            raise AdaptisError(f'{name} is {value!r} but must be a whole number, at least 1.')


def demand_numbers(name: str, values: Any, count: int, positive: bool = False) -> Tuple:
    """``values`` as a tuple; AdaptisError if they are not ``count`` finite numbers."""
    fits = (isinstance(values, (list, tuple)) and len(values) == count
            and all(isinstance(v, numbers.Real) and math.isfinite(v) for v in values))
    if not fits or (positive and min(values) <= 0):
        raise AdaptisError(f'{name} is {values!r} but must be {count} '
                           f'{"positive " * positive}numbers.')
    return tuple(values)
