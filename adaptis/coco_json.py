"""Read values in COCO's JSON files, with the same rules for all readers.

Tools write them differently: pandas writes 3.0 for 3, others write null for a missing value, or an
id as text in one list and as a number in another.  Unambiguous values are accepted; anything else
raises :class:`ValueProblem`, which names the key.
"""
from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Union

from adaptis.errors import AdaptisError
from adaptis.files import PathLike

ImageId = Union[int, str]
Entry = Mapping[str, Any]


class ValueProblem(ValueError):
    """A value is missing or wrong; the text names its key, without a full stop."""


def misfit(path: PathLike, entry: Any, problem: ValueProblem) -> AdaptisError:
    """Return the error for an entry of a panoptic file."""
    return AdaptisError(f'{path} has an entry that does not match the COCO panoptic format: '
                        f'{problem}, in {str(entry)[:100]}.')


def whole_number(entry: Entry, key: str) -> int:
    """Return a whole number that is written as 3, 3.0 or "3"."""
    value = _present(entry, key)
    if type(value) is int and -2 ** 63 < value < 2 ** 63:   # by far the most frequent case
        return value
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 20:
        value = int(value)
    if type(value) is int and abs(value) < 2 ** 63:  # not bool, and small enough for NumPy
        return value
    raise ValueProblem(f'"{key}" must be a whole number, not {_shown(value)}')


def optional_whole_number(entry: Entry, key: str, default: int = 0) -> int:
    """Return the same, or ``default`` for null or a missing value."""
    return default if entry.get(key) is None else whole_number(entry, key)


def flag(entry: Entry, key: str) -> bool:
    """Return True for 1 or true, and False for 0, false, null or a missing value."""
    value = entry.get(key)
    if value is None or value in (0, 1):
        return bool(value)
    raise ValueProblem(f'"{key}" must be 0 or 1, not {_shown(value)}')


def text(entry: Entry, key: str) -> str:
    """Return a text."""
    value = _present(entry, key)
    if not isinstance(value, str):
        raise ValueProblem(f'"{key}" must be a text, not {_shown(value)}')
    return value


def number(entry: Entry, key: str, default: float) -> float:
    """Return a number, or ``default`` for null or a missing value."""
    value = entry.get(key)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueProblem(f'"{key}" must be a number, not {_shown(value)}')
    return float(value)


def objects(entry: Entry, key: str) -> list:
    """Return a list."""
    value = _present(entry, key)
    if not isinstance(value, list):
        raise ValueProblem(f'"{key}" must be a list, not {_shown(value)}')
    return value


def image_id(entry: Entry, key: str) -> ImageId:
    """Return the id of an image: a whole number, or a text unchanged."""
    value = _present(entry, key)
    return value if isinstance(value, str) else whole_number(entry, key)


def same_ids(ids: Iterable[ImageId]) -> dict[str, ImageId]:
    """Return the text of each id -> the id: 7 and "7" are the same image.

    The result is shorter than ``ids`` if an id occurs twice.
    """
    return {str(value): value for value in ids}


def _present(entry: Entry, key: str) -> Any:
    value = entry.get(key)
    if value is None:
        raise ValueProblem(f'"{key}" is missing')
    return value


def _shown(value: Any) -> str:
    return repr(value)[:60]
