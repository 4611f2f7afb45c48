"""Read golden data, the full set or the small set beside this module.

The small set has the files of the full folder that take little space.  Of large arrays it keeps a
sample: ``KEY`` then holds a few values, and ``KEY@shape`` the shape of the whole.  They are read as
an array of this shape that is NaN where nothing was kept, and compared where something was.
"""
from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest

SMALL_SET = Path(__file__).parent / 'data'
SHAPE = '@shape'
KEPT = 256   # values of an array, at most

_T = TypeVar('_T')


class Absent(LookupError):
    """The small set lacks what a test needs."""

    def __init__(self, path: Path, what: str):
        super().__init__(f'{path} does not hold {what}')
        self.path, self.what = path, what


class Arrays(dict[str, np.ndarray]):
    """The arrays of a file."""

    path: Path

    @classmethod
    def load(cls, path: Path) -> Arrays:
        """All arrays of an ``.npz`` file; a FileNotFoundError if there is none."""
        with np.load(path, allow_pickle=False) as file:
            found = cls((key, _spread(file, key)) for key in file.files if not key.endswith(SHAPE))
        found.path = path
        return found

    def __missing__(self, key: str) -> np.ndarray:
        raise Absent(self.path, f'"{key}"')

    def whole(self, key: str) -> np.ndarray:
        """An array that a test computes with, so that a sample does not do."""
        array = self[key]
        if array.dtype.kind == 'f' and np.isnan(array).any():
            raise Absent(self.path, f'all of "{key}"')
        return array


class Cases(dict[str, _T]):
    """Cases by name, read when a test asks for them."""

    def __init__(self, read: Callable[[str], _T]):
        super().__init__()
        self._read = read

    def __missing__(self, name: str) -> _T:
        self[name] = self._read(name)
        return self[name]


def places(shape: tuple[int, ...]) -> np.ndarray:
    """Flat indices, in order, of the values that are kept of an array of this shape."""
    size = int(np.prod(shape))
    return np.unique(np.random.RandomState(0).randint(0, size, KEPT))


def stored(actual: Any, expected: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two arrays of one shape, at the places where the golden data have a value."""
    actual = actual.asnumpy() if hasattr(actual, 'asnumpy') else actual
    assert actual.shape == expected.shape
    kept = ~np.isnan(expected) if expected.dtype.kind == 'f' else np.True_
    if kept.all():
        return actual, expected
    assert kept.any(), 'the golden data have no value here'
    return actual[kept], expected[kept]


@contextlib.contextmanager
def absent_means_skip() -> Iterator[None]:
    """Skip a test that needs what the small set lacks, and say what it is."""
    try:
        yield
    except Absent as error:
        path, what = error.path, error.what
        if SMALL_SET not in path.parents:
            raise
    except FileNotFoundError as error:
        path, what = Path(str(error.filename)), 'it'
        if SMALL_SET not in path.parents:
            raise
    else:
        return
    pytest.skip(f'needs {"" if what == "it" else f"{what} of "}{path.relative_to(SMALL_SET)}, '
                'which the small set in tests/golden lacks: set ADAPTIS_PARITY to the full golden '
                'data')


def _spread(file: Any, key: str) -> np.ndarray:
    """One array of a file, NaN where the small set keeps nothing."""
    if key + SHAPE not in file.files:
        return file[key]
    shape = tuple(file[key + SHAPE].tolist())
    whole = np.full(shape, np.nan, file[key].dtype)
    whole.flat[places(shape)] = file[key]
    return whole
