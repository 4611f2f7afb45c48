"""The golden data of the official CondInst."""
from __future__ import annotations

import importlib.util

import pytest

from adaptis.model.zoo import set_parameters
from adaptis.runtime import mx
from panoptic_baselines.condinst import CondInst
from panoptic_baselines.convert_condinst import condinst_name
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


@pytest.fixture(scope='session')
def condinst_net(condinst_kit, parity_root):
    """The network with the weights that the official one had."""
    spec = importlib.util.spec_from_file_location('weights', parity_root / 'weights.py')
    weights = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(weights)
    net = CondInst(things=True)
    net.initialize(mx.init.Zero())
    set_parameters(net, {condinst_name(name): mx.nd.array(array) for name, array
                         in weights.load(condinst_kit / 'names.json').items()}, condinst_kit)
    return net
