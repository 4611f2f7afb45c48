"""Shards of an evaluation: the images of a shard, and the file that stores its result.

A data set is divided among n jobs as the shards 1/n ... n/n.  Each saves its accumulators, and
``Evaluator.merge_files`` merges them into exactly the result of a single job.  The file is an .npz
without pickled objects: the entry ``header`` is JSON in UTF-8, and the others are arrays.
"""
from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Optional

import numpy as np

from adaptis.errors import AdaptisError
from adaptis.files import PathLike, atomic_write
from adaptis.npz import NPZ_ERRORS, read_npz
from adaptis.types import Category, Taxonomy

FORMAT = 2


class Shard(NamedTuple):
    """Part ``index`` of ``count``; the index starts at 1."""

    index: int = 1
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Parse ``i/n``; AdaptisError unless 1 <= i <= n."""
        index, _, count = text.partition('/')
        if not (index.isdecimal() and count.isdecimal() and 1 <= int(index) <= int(count)):
            raise AdaptisError(f'"{text}" is not a shard: write i/n, from 1/n to n/n.')
        return cls(int(index), int(count))

    def __str__(self) -> str:
        return f'{self.index}/{self.count}'

    def indices(self, total: int) -> range:
        """Return its images out of ``total``, evenly spread over the data set."""
        return range(self.index - 1, total, self.count)


WHOLE = Shard()


class ShardContent(NamedTuple):
    """The content of a file: JSON values, and the arrays of each accumulator."""

    header: dict[str, Any]
    parts: dict[str, dict[str, np.ndarray]]


def write_shard(path: PathLike, header: Mapping[str, Any],
                parts: Mapping[str, Mapping[str, np.ndarray]]) -> None:
    """Write a file of accumulators: part -> name -> array; AdaptisError if it cannot be written."""
    text = json.dumps({'format': FORMAT, **header}).encode('utf-8')
    arrays = {f'{part}.{name}': array for part, entry in parts.items()
              for name, array in entry.items()}
    with atomic_write(path) as temporary, open(temporary, 'wb') as stream:
        np.savez_compressed(stream, header=np.frombuffer(text, np.uint8), **arrays)


def read_shard(path: PathLike) -> ShardContent:
    """Read such a file; AdaptisError if it is missing, of another type, or in another format."""
    try:
        data = read_npz(path)
        header = json.loads(data.pop('header').tobytes().decode('utf-8'))
        parts: dict[str, dict[str, np.ndarray]] = {}
        for key, array in data.items():
            part, name = key.split('.')
            parts.setdefault(part, {})[name] = array
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise AdaptisError(f'{path} cannot be read: {error.strerror}.') from error
    except NPZ_ERRORS as error:
        raise malformed_shard_error(path, error) from error
    if not isinstance(header, dict) or header.get('format') != FORMAT:
        raise AdaptisError(f'{path} is not a shard of an evaluation in format {FORMAT}: evaluate '
                           'that shard again.')
    return ShardContent(header, parts)


def malformed_shard_error(path: PathLike, error: Exception) -> AdaptisError:
    """Return the error for a file that is truncated or was not written by :func:`write_shard`."""
    return AdaptisError(f'{path} is not a shard of an evaluation, or it is cut short '
                        f'({type(error).__name__}): evaluate that shard again.')


def check_complete(names: Sequence[str], shards: Sequence[Shard]) -> None:
    """Raise AdaptisError unless the shards are 1/n ... n/n; ``names`` are their files."""
    count = shards[0].count
    seen: dict[int, str] = {}
    for name, shard in zip(names, shards):
        if shard.count != count:
            raise AdaptisError(f'{name} is shard {shard}, but {names[0]} is shard {shards[0]}: '
                               'the numbers of shards differ.')
        if shard.index in seen:
            raise AdaptisError(f'{seen[shard.index]} and {name} are both shard {shard}: '
                               'give each shard once.')
        seen[shard.index] = name
    missing = [str(Shard(k, count)) for k in range(1, count + 1) if k not in seen]
    if missing:
        more = f' and {len(missing) - 3} more' if len(missing) > 3 else ''
        raise AdaptisError('The evaluation is incomplete: it lacks shard '
                           f'{", ".join(missing[:3])}{more}.')


def find_difference(mine: Any, theirs: Any, path: str = '') -> Optional[str]:
    """Return where two JSON values differ first, as part of a sentence; None if they are equal."""
    if mine == theirs:
        return None
    if isinstance(mine, dict) and isinstance(theirs, dict):
        for key in sorted({*mine, *theirs}):
            found = find_difference(mine.get(key), theirs.get(key), f'{path}.{key}'.lstrip('.'))
            if found:
                return found
        return None
    texts = [json.dumps(value, sort_keys=True) for value in (mine, theirs)]
    if texts[0] == texts[1]:  # NaN, which is not equal to itself
        return None
    if max(map(len, texts)) > 60:
        return f'{path} differs'
    return f'{path} is {texts[0]} in one and {texts[1]} in the other'


def as_json(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values as read back from a file: paths as text, tuples as lists."""
    return json.loads(json.dumps(dict(values), default=str))


def taxonomy_to_json(taxonomy: Taxonomy) -> list[list[Any]]:
    """Return the categories in the order of their class indices."""
    return [[int(c.id), c.name, bool(c.isthing), [int(v) for v in c.color]]
            for c in taxonomy.categories]


def taxonomy_from_json(entries: Sequence[Sequence[Any]]) -> Taxonomy:
    """Do the inverse of :func:`taxonomy_to_json`."""
    return Taxonomy([Category(i, name, isthing, tuple(color))
                     for i, name, isthing, color in entries])


def check_like(array: np.ndarray, like: np.ndarray) -> np.ndarray:
    """Return an array from a file; ValueError if its shape or type is not that of ``like``."""
    if array.shape != like.shape or array.dtype != like.dtype:
        raise ValueError(f'an array is {array.dtype} {array.shape}, not {like.dtype} {like.shape}')
    return array
