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

from tests.golden.reading import SMALL_SET, absent_means_skip

ROOT = Path(__file__).resolve().parents[1]
_ENTERED = pytest.StashKey[contextlib.ExitStack]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--device``."""
    parser.addoption('--device', help='the MXNet context that tests run on: cpu:1, gpu, gpu:1')


def pytest_configure(config: pytest.Config) -> None:
    """Make ``--device`` the current context, before modules that make arrays are imported."""
    config.addinivalue_line('markers', 'device(name): the context that this module runs on, if '
                            '--device does not name another')
    config.addinivalue_line('markers', 'golden: reads golden data; every test that does is marked')
    if config.getoption('--device'):
        config.stash[_ENTERED] = stack = contextlib.ExitStack()
        stack.enter_context(_on_device(config.getoption('--device')))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what reads golden data, so that ``-m golden`` chooses it."""
    for item in items:
        if 'parity_root' in getattr(item, 'fixturenames', ()):
            item.add_marker('golden')


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


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup() -> Iterator[None]:
    """Skip what the small golden set cannot answer."""
    with absent_means_skip():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Iterator[None]:
    """The same of what a test itself reads."""
    with absent_means_skip():
        return (yield)


def _full_golden_data() -> Path:
    if (named := os.environ.get('ADAPTIS_PARITY')) and not Path(named).is_dir():
        pytest.fail(f'ADAPTIS_PARITY names {named}, which is no folder.', pytrace=False)
    return Path(named or ROOT.parent / 'shared' / 'parity')


@pytest.fixture(scope='session')
def parity_root() -> Path:
    """The golden data: all of them where they are, or the small set of this repository."""
    return path if (path := _full_golden_data()).is_dir() else SMALL_SET


@pytest.fixture(scope='session')
def full_parity() -> Path:
    """The golden data, all of them."""
    if not (path := _full_golden_data()).is_dir():
        pytest.skip(f'no golden data at {path}: set ADAPTIS_PARITY to the full golden data')
    return path


@pytest.fixture(scope='session')
def parity(parity_root: Path) -> Path:
    """The golden data of the official AdaptIS."""
    return parity_root / 'adaptis'


@pytest.fixture(scope='session')
def shared(full_parity: Path) -> Path:
    """The folder beside the project with real images."""
    return full_parity.parent


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
