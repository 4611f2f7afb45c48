"""What all tests share: the device, where golden data and real images are, and how memory is freed.

``pytest --device cpu:1`` (or ``gpu``, ``gpu:1``) runs all tests on that context.  Without it,
modules that are marked ``device`` run on the context that they name, and the others on the CPU.
"""
from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
_ENTERED = pytest.StashKey[contextlib.ExitStack]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--device``."""
    parser.addoption('--device', help='the MXNet context that tests run on: cpu:1, gpu, gpu:1')


def pytest_configure(config: pytest.Config) -> None:
    """Make ``--device`` the current context, before modules that make arrays are imported."""
    config.addinivalue_line('markers', 'device(name): the context that this module runs on, if '
                            '--device does not name another')
    if config.getoption('--device'):
        config.stash[_ENTERED] = stack = contextlib.ExitStack()
        stack.enter_context(_on_device(config.getoption('--device')))


def pytest_unconfigure(config: pytest.Config) -> None:
    """Leave the context of ``--device``."""
    config.stash.get(_ENTERED, contextlib.ExitStack()).close()


@pytest.fixture(scope='module', autouse=True)
def device(request: pytest.FixtureRequest) -> Iterator[None]:
    """Run a module that is marked so on the context that it names."""
    marker = request.node.get_closest_marker('device')
    if marker is None or request.config.getoption('--device'):
        yield
        return
    with _on_device(*marker.args):
        yield


def _on_device(name: str) -> contextlib.AbstractContextManager[None]:
    from tests.devices import on_device  # loads MXNet, which tests of toy_data do without
    return on_device(name)


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
