"""The golden data of the official dense detections."""
from __future__ import annotations

import pytest

from adaptis.model.zoo import set_parameters
from adaptis.runtime import mx
from panoptic_baselines.dense_detections.convert import dense_detections_name
from panoptic_baselines.dense_detections.network import DenseDetections
from tests.golden import weights
from tests.golden.reading import Cases
from tests.panoptic_baselines.dense_detections.golden import Arrays


@pytest.fixture(scope='session')
def dense_kit(parity_root):
    """The folder of the golden data."""
    return parity_root / 'realtime'


@pytest.fixture(scope='session')
def cases(dense_kit):
    """The three whole-network cases."""
    return Cases(lambda name: Arrays.load(dense_kit / f'case_{name}.npz'))


@pytest.fixture(scope='session')
def ops(dense_kit):
    """Function: name of a unit case -> its arrays."""
    return lambda name: Arrays.load(dense_kit / 'ops' / f'{name}.npz')


@pytest.fixture(scope='session')
def dense_weights(dense_kit):
    """Official names and the arrays that the official network had there."""
    return weights.load(dense_kit / 'names.json')


@pytest.fixture(scope='session')
def dense_net(dense_kit, dense_weights):
    """The network with the weights that the official one had."""
    net = DenseDetections()
    net.initialize(mx.init.Zero())
    set_parameters(net, {dense_detections_name(name): mx.nd.array(array)
                         for name, array in dense_weights.items()}, dense_kit)
    return net


@pytest.fixture(params=[False, True], ids=['imperative', 'hybridized'])
def either_net(request, dense_net):
    """Both forms of it; the hybridized one is made once for all the sizes that tests have."""
    dense_net.hybridize(request.param)
    return dense_net
