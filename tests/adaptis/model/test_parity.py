"""The toy network against the official one's tensors, tap by tap."""
from __future__ import annotations

import numpy as np
import pytest

from adaptis.runtime import mx
from tests.adaptis.model.golden import official_net
from tests.golden.reading import Arrays, stored

WIDTHS = {'toy': 32, 'toy_w8': 8}


@pytest.fixture(scope='module', params=sorted(WIDTHS))
def folder(request):
    return request.param


@pytest.fixture(scope='module')
def net(parity_root, folder):
    return official_net(parity_root, folder, 'adaptis_toy', width=WIDTHS[folder])


@pytest.fixture(scope='module', params=['96x96', '101x83'])
def case(request, parity, folder):
    return Arrays.load(parity / folder / f'case_{request.param}.npz')


@pytest.fixture(params=[False, True], ids=['imperative', 'hybridized'])
def hybridized(request, net):
    # Hybridized once, called with every size and number of points that the tests have.
    net.hybridize(request.param)
    return request.param


def _inputs(case):
    image = case['image'].transpose(2, 0, 1)[None].astype(np.float32)
    return mx.nd.array(image), mx.nd.array(case['points'][None])


def _close(actual, expected, tolerance):
    np.testing.assert_allclose(*stored(actual, expected), rtol=0, atol=tolerance)


def test_outputs(net, case, hybridized):
    instances, semantic, proposals = net(*_inputs(case))
    _close(instances, case['instances'], 1e-3)
    _close(semantic, case['semantic'], 2e-4)
    _close(proposals, case['proposals'], 2e-4)


def test_once_per_image(net, case, hybridized, folder):
    features, query_map, semantic, proposals = net.encoder(_inputs(case)[0])
    stride = slice(None, None, 2 if folder == 'toy' else 1)
    _close(features, case['features'], 2e-4)
    _close(query_map[:, :, stride, stride], case['controller'], 2e-4)
    _close(semantic, case['semantic'], 2e-4)
    _close(proposals, case['proposals_map'], 2e-4)


def test_once_per_point(net, case, hybridized, folder):
    image, points = _inputs(case)
    head, taps = net.point_head, case['tap_points'].tolist()
    features, query_map, _, _ = net.encoder(image)
    query = head.sample(query_map, points)
    _close(query, case['query'], 2e-4)
    _close(head.adain.scale(query), case['adain_scale'], 2e-4)
    _close(head.adain.bias(query), case['adain_bias'], 2e-4)
    coordinates = head.coordinates(features, points)
    _close(coordinates[taps], case['coords'], 1e-6)
    adain = head.adain(head.before(head.first(features, coordinates, points)), query)
    stride = slice(None, None, 2 if folder == 'toy' else 1)
    _close(adain[taps][:, :, stride, stride], case['adain'], 2e-3)
