"""The golden data of the official CondInst."""
from __future__ import annotations

import pytest

from tests.panoptic_baselines.condinst.golden import Data


@pytest.fixture(scope='session')
def condinst_kit(parity_root):
    """The folder of the golden data."""
    folder = parity_root / 'condinst'
    return folder if folder.is_dir() else pytest.skip(f'no golden data at {folder}')


@pytest.fixture(scope='session')
def cases(condinst_kit):
    """The two whole-network cases."""
    return {name: Data.load(condinst_kit / f'case_{name}.npz') for name in 'ab'}


@pytest.fixture(scope='session')
def ops(condinst_kit):
    """Function: name of a unit case -> its arrays."""
    return lambda name: Data.load(condinst_kit / 'ops' / f'{name}.npz')
