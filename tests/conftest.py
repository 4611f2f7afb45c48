"""What all tests share: where golden data and real images lie, and how memory is freed."""
from __future__ import annotations

import ctypes
import gc
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def _folder(path: Path) -> Path:
    if not path.is_dir():
        pytest.skip(f'no golden data at {path} (set ADAPTIS_PARITY to the parity folder)')
    return path


@pytest.fixture(scope='session')
def parity_root() -> Path:
    """The ``parity`` folder, which also holds ``weights.py``."""
    return _folder(Path(os.environ.get('ADAPTIS_PARITY', ROOT.parent / 'shared' / 'parity')))


@pytest.fixture(scope='session')
def parity(parity_root: Path) -> Path:
    """The golden data of the official AdaptIS."""
    return _folder(parity_root / 'adaptis')


@pytest.fixture(scope='session')
def shared(parity_root: Path) -> Path:
    """The folder beside the project with real images."""
    return _folder(parity_root.parent)


@pytest.fixture(scope='module', autouse=True)
def freed_memory() -> Iterator[None]:
    """Give memory back when a module is done.

    The networks of all tests together leave gigabytes of free but scattered memory behind, which
    the C library keeps unless it is told not to.
    """
    yield
    gc.collect()
    if sys.platform == 'linux' and hasattr(ctypes.CDLL(None), 'malloc_trim'):
        ctypes.CDLL(None).malloc_trim(0)
