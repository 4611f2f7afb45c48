"""Read the list of categories in a COCO file, and choose colours for those without one."""
from __future__ import annotations

import colorsys
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Optional

import numpy as np

from adaptis import coco_json
from adaptis.errors import AdaptisError
from adaptis.files import PathLike
from adaptis.types import Category

Color = tuple[int, int, int]
_GOLDEN = 0.618034  # of a full turn, so that hues of consecutive numbers are far apart


def parse_categories(entries: Sequence[Any], where: PathLike, things_only: bool = False,
                     known: Optional[Mapping[tuple[int, str], Color]] = None) -> list[Category]:
    """Return the categories of a COCO file.

    A category without a colour gets the one in ``known`` for its id and name, else an unused one.
    The same list always gets the same colours.

    Parameters
    ----------
    entries : the value of "categories"
    where : the file, for error messages
    things_only : treat all as things, as in a file of instances; otherwise each needs "isthing"
    known : (id, name) -> colour

    Raises AdaptisError naming the file, the category and the key that is missing or wrong.
    """
    known = known or {}
    parsed = [_parse(entry, position, where, things_only)
              for position, entry in enumerate(entries, start=1)]
    if len({number for number, *_ in parsed}) < len(parsed):
        raise AdaptisError(f'{where} lists the id of a category twice.')
    colors = [color or known.get((number, name)) for number, name, _, color in parsed]
    return [Category(number, name, isthing, color) for (number, name, isthing, _), color in
            zip(parsed, fill_colors(colors))]


def fill_colors(colors: Sequence[Optional[Color]]) -> list[Color]:
    """Return the colours with each None replaced by a distinct colour, always the same."""
    taken = {color for color in colors if color is not None}
    free = (color for color in _endless_colors() if color not in taken)
    return [next(free) if color is None else color for color in colors]


def distinct_colors(count: int) -> np.ndarray:
    """Return ``count`` colours that are easy to distinguish, uint8 (count, 3), always the same."""
    return np.array(list(itertools.islice(_endless_colors(), count)), np.uint8).reshape(-1, 3)


def is_color(value: Any) -> bool:
    """Return whether the value is a list of three whole numbers from 0 to 255 (or 255.0)."""
    return isinstance(value, (list, tuple)) and len(value) == 3 and all(
        isinstance(part, (int, float)) and not isinstance(part, bool) and part in range(256)
        for part in value)


def _endless_colors() -> Iterator[Color]:
    for k in itertools.count():
        rgb = colorsys.hsv_to_rgb(k * _GOLDEN % 1, 0.9 - 0.35 * (k % 3 == 1),
                                  1.0 - 0.3 * (k % 3 == 2))
        yield tuple(int(part * 255 + 0.5) for part in rgb)


def _parse(entry: Any, position: int, where: PathLike,
           things_only: bool) -> tuple[int, str, bool, Optional[Color]]:
    if not isinstance(entry, dict):
        raise AdaptisError(f'{where}: category number {position} of its list is {entry!r:.60}, '
                           'not an object with id and name.')
    number, name = entry.get('id'), entry.get('name')
    label = f'{where}: category {number if "id" in entry else f"number {position}"}'
    if isinstance(name, str):
        label += f' ({name})'
    try:
        number = coco_json.whole_number(entry, 'id')
    except coco_json.ValueProblem as problem:
        raise AdaptisError(f'{label} has {_told(entry, "id")}: it must be a whole number.'
                           ) from problem
    if not isinstance(name, str):
        raise AdaptisError(f'{label} has {_told(entry, "name")}: it must be text.')
    isthing = entry.get('isthing', 1 if things_only else None)
    if isthing not in (0, 1):
        raise AdaptisError(f'{label} has {_told(entry, "isthing")}: write 1 for things, which are '
                           'counted, and 0 for stuff.')
    color = entry.get('color')
    if color is not None and not is_color(color):
        raise AdaptisError(f'{label} has {_told(entry, "color")}: it must be [red, green, blue], '
                           'each from 0 to 255; you can also leave it out.')
    return number, name, things_only or bool(isthing), tuple(map(int, color)) if color else None


def _told(entry: dict, key: str) -> str:
    return f'the {key} {entry[key]!r:.60}' if key in entry else f'no {key}'
