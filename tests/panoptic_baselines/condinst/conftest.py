"""The golden data of the official CondInst."""
from __future__ import annotations

import functools
from unittest import mock

import pytest

from adaptis.model.zoo import set_parameters
from adaptis.runtime import mx
from panoptic_baselines.condinst.convert import condinst_name
from panoptic_baselines.condinst.network import CondInst
from panoptic_baselines.layers.resnet import RESNET_SPECS
from tests.golden import weights
from tests.golden.reading import Cases
from tests.panoptic_baselines.condinst.golden import Data


@pytest.fixture(scope='module', autouse=True)
def short_backbone():
    """Small networks need no second block in a stage: half of their weights, and of their time."""
    short = RESNET_SPECS['resnet18']._replace(blocks=(1, 1, 1, 1))
    with mock.patch.dict(RESNET_SPECS, resnet18=short):
        yield


@pytest.fixture(scope='session')
def condinst_kit(parity_root):
    """The folder of the golden data."""
    return parity_root / 'condinst'


@pytest.fixture(scope='session')
def cases(condinst_kit):
    """The two whole-network cases."""
    return Cases(lambda name: Data.load(condinst_kit / f'case_{name}.npz'))


@pytest.fixture(scope='session')
def ops(condinst_kit):
    """Function: name of a unit case -> its arrays."""
    return lambda name: Data.load(condinst_kit / 'ops' / f'{name}.npz')


@pytest.fixture(scope='session')
def official_arrays():
    """Function: a list of official names -> what a file with them holds."""
    return functools.lru_cache(maxsize=1)(weights.load)


@pytest.fixture(scope='session')
def make_official():
    """Function: official arrays, options -> a network that holds them."""
    def make(arrays, **options):
        net = CondInst(**options)
        net.initialize(mx.init.Zero())
        set_parameters(net, {condinst_name(name): mx.nd.array(array)
                             for name, array in arrays.items()}, 'golden data')
        return net
    return make


@pytest.fixture(scope='session')
def condinst_net(condinst_kit, official_arrays, make_official):
    """The network with the weights that the official one had."""
    return make_official(official_arrays(condinst_kit / 'names.json'), things=True)
