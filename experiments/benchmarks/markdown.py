"""Helpers that write Markdown pages."""
from __future__ import annotations

from collections.abc import Sequence

from adaptis.errors import AdaptisError
from adaptis.files import PathLike, atomic_write


def seconds(value: float) -> str:
    """Return a time with three digits; '-' for 0 seconds."""
    if not value:
        return '-'
    for unit, factor in (('s', 1.0), ('ms', 1e3)):
        if value * factor >= 1:
            return f'{value * factor:.3g} {unit}' if value * factor < 100 else (
                f'{value * factor:.0f} {unit}')
    return f'{value * 1e6:.3g} µs'


def table(head: Sequence[str], lines: Sequence[Sequence[str]], numbers: bool = False) -> str:
    """Return a Markdown table; with ``numbers``, all columns but the first are right-aligned."""
    rule = ['---', *(['---:' if numbers else '---'] * (len(head) - 1))]
    return '\n'.join(f'| {" | ".join(cells)} |' for cells in (head, rule, *lines))


def write_text(path: PathLike, content: str) -> None:
    """Write a page; AdaptisError if it cannot be written."""
    try:
        with atomic_write(path) as temporary:
            temporary.write_text(content, encoding='utf-8')
    except OSError as error:
        raise AdaptisError(f'{path} cannot be written: {error.strerror}.') from error
