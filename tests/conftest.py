"""Where the golden data of the official implementations lies."""
from __future__ import annotations

import os
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
