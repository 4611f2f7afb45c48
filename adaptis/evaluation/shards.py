"""Parts of one evaluation: which images a part measures, and the file that carries it.

A data set is shared among n jobs as the shards 1/n ... n/n.  Each saves its accumulators, and
``Evaluator.merge_files`` puts them together to exactly what one job would have measured.  The file
is an .npz without pickled objects: one entry ``header`` with JSON in UTF-8, the others arrays.
"""
from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Optional

import numpy as np

from adaptis.errors import AdaptisError
from adaptis.files import PathLike, atomic_write
from adaptis.types import Category, Taxonomy

FORMAT = 2
MALFORMED = (ValueError, KeyError, TypeError, AttributeError, IndexError, EOFError, OSError,
             zipfile.BadZipFile, zlib.error)


class Shard(NamedTuple):
    """Part ``index`` of ``count``; counts from 1."""

    index: int = 1
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> Shard:
        """From ``i/n``; AdaptisError unless 1 <= i <= n."""
        index, _, count = text.partition('/')
        if not (index.isdecimal() and count.isdecimal() and 1 <= int(index) <= int(count)):
            raise AdaptisError(f'There is no shard {text}: write i/n, from 1/n to n/n.')
        return cls(int(index), int(count))

    def __str__(self) -> str:
        return f'{self.index}/{self.count}'

    def indices(self, total: int) -> range:
        """Its images out of ``total``, spread evenly over the data set."""
        return range(self.index - 1, total, self.count)


WHOLE = Shard()


class Saved(NamedTuple):
    """What a file holds: JSON values, and the arrays of each accumulator."""

    header: dict[str, Any]
    parts: dict[str, dict[str, np.ndarray]]


def write_shard(path: PathLike, header: Mapping[str, Any],
                parts: Mapping[str, Mapping[str, np.ndarray]]) -> None:
    """Write a file of accumulators: part -> name -> array; AdaptisError if it cannot be."""
    text = json.dumps({'format': FORMAT, **header}).encode('utf-8')
    arrays = {f'{part}.{name}': array for part, entry in parts.items()
              for name, array in entry.items()}
    with atomic_write(path) as temporary, open(temporary, 'wb') as stream:
        np.savez_compressed(stream, header=np.frombuffer(text, np.uint8), **arrays)


def read_shard(path: PathLike) -> Saved:
    """Read such a file; AdaptisError if it is missing, no such file, or of another format."""
    try:
        with open(path, 'rb') as stream, np.load(stream, allow_pickle=False) as data:
            header = json.loads(data['header'].tobytes().decode('utf-8'))
            parts: dict[str, dict[str, np.ndarray]] = {}
            for key in set(data.files) - {'header'}:
                part, name = key.split('.')
                parts.setdefault(part, {})[name] = data[key]
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise AdaptisError(f'{path} cannot be read: {error.strerror}.') from error
    except MALFORMED as error:
        raise not_a_shard(path, error) from error
    if not isinstance(header, dict) or header.get('format') != FORMAT:
        raise AdaptisError(f'{path} is not a part of an evaluation in format {FORMAT}: '
                           'evaluate that part again.')
    return Saved(header, parts)


def not_a_shard(path: PathLike, error: Exception) -> AdaptisError:
    """The sentence for a file that is cut short or was not written by :func:`write_shard`."""
    return AdaptisError(f'{path} holds no part of an evaluation, or is cut short '
                        f'({type(error).__name__}): evaluate that part again.')


def check_complete(names: Sequence[str], shards: Sequence[Shard]) -> None:
    """AdaptisError unless the shards are 1/n ... n/n, each once; ``names`` are their files."""
    count = shards[0].count
    seen: dict[int, str] = {}
    for name, shard in zip(names, shards):
        if shard.count != count:
            raise AdaptisError(f'{name} is shard {shard}, but {names[0]} is shard {shards[0]}: '
                               'they are parts of different divisions.')
        if shard.index in seen:
            raise AdaptisError(f'{seen[shard.index]} and {name} are both shard {shard}: '
                               'give each shard once.')
        seen[shard.index] = name
    missing = [str(Shard(k, count)) for k in range(1, count + 1) if k not in seen]
    if missing:
        more = f' and {len(missing) - 3} more' if len(missing) > 3 else ''
        raise AdaptisError(f'The evaluation is not complete without shard '
                           f'{", ".join(missing[:3])}{more}.')


def difference(mine: Any, theirs: Any, path: str = '') -> Optional[str]:
    """Where two JSON values differ first, for a sentence; None if they are equal."""
    if mine == theirs:
        return None
    if isinstance(mine, dict) and isinstance(theirs, dict):
        for key in sorted({*mine, *theirs}):
            found = difference(mine.get(key), theirs.get(key), f'{path}.{key}'.lstrip('.'))
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
    """The values as they come back from a file: paths as text, tuples as lists."""
    return json.loads(json.dumps(dict(values), default=str))


def taxonomy_json(taxonomy: Taxonomy) -> list[list[Any]]:
    """The categories in the order of their class indices."""
    return [[int(c.id), c.name, bool(c.isthing), [int(v) for v in c.color]]
            for c in taxonomy.categories]


def json_taxonomy(entries: Sequence[Sequence[Any]]) -> Taxonomy:
    """Inverse of :func:`taxonomy_json`."""
    return Taxonomy([Category(i, name, isthing, tuple(color))
                     for i, name, isthing, color in entries])


def shaped(array: np.ndarray, like: np.ndarray) -> np.ndarray:
    """An array from a file; ValueError if it has another shape or type than ``like``."""
    if array.shape != like.shape or array.dtype != like.dtype:
        raise ValueError(f'an array of {array.dtype} {array.shape}, not {like.dtype} {like.shape}')
    return array
