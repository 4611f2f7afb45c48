"""The dense instance affinity head against double precision, in both orders."""
from __future__ import annotations

import json

import numpy as np
import pytest

from adaptis.errors import AdaptisError
from adaptis.model.graph import multiply_adds, peak_bytes, trace
from adaptis.runtime import mx
from panoptic_baselines.unified.affinity import Affinity


@pytest.fixture(scope='module')
def golden(unified_kit):
    return dict(np.load(unified_kit / 'affinity.npz'))


def filled(golden, dtype, activation='relu'):
    head = Affinity(golden['Q'].shape[1], activation)
    head.initialize()
    head.cast(dtype)
    for i, layer in enumerate((head.phi0, head.phi1)):
        layer.weight.set_data(mx.nd.array(golden[f'W{i}'][..., None, None], dtype=dtype))
        layer.bias.set_data(mx.nd.array(golden[f'b{i}'], dtype=dtype))
    return head


def as_map(rows, golden, dtype):
    return mx.nd.array(rows.T.reshape(1, -1, *golden['hw']), dtype=dtype)


def as_rows(maps):
    return maps.asnumpy().reshape(maps.shape[1], -1).T


TOLERANCES = [('float64', 1e-10), ('float32', 1e-4)]


@pytest.mark.parametrize('hybridize', [False, True])
@pytest.mark.parametrize('dtype, tolerance', TOLERANCES)
def test_golden_values_and_gradients(golden, dtype, tolerance, hybridize):
    head = filled(golden, dtype)
    head.hybridize(hybridize)
    features, potentials = (as_map(golden[key], golden, dtype) for key in ('Q', 'Psi'))
    for array in (features, potentials):
        array.attach_grad()
    with mx.autograd.record():
        found = head(features, potentials)
    found.backward(as_map(golden['upstream'], golden, dtype))
    expected = {'P_linear': as_rows(found), 'P_quadratic': as_rows(found),
                'dQ': as_rows(features.grad), 'dPsi': as_rows(potentials.grad)}
    for i, layer in enumerate((head.phi0, head.phi1)):
        expected[f'dW{i}'] = layer.weight.grad().asnumpy()[..., 0, 0]
        expected[f'db{i}'] = layer.bias.grad().asnumpy()
    for key, values in expected.items():
        scale = np.abs(golden[key]).max()
        np.testing.assert_allclose(values / scale, golden[key] / scale, rtol=tolerance,
                                   atol=tolerance / 10, err_msg=key)


@pytest.mark.parametrize('dtype, tolerance', TOLERANCES)
def test_other_activation(golden, dtype, tolerance):
    found = filled(golden, dtype, 'sigmoid')(*(as_map(golden[key], golden, dtype)
                                               for key in ('Q', 'Psi')))
    np.testing.assert_allclose(as_rows(found), golden['P_sigmoid'], rtol=tolerance)


def test_the_explicit_matrix_gives_the_same(golden):
    """A = phi0 phi1^T of all pairs of pixels, once, on a small image."""
    head = filled(golden, 'float64')
    features, potentials = (as_map(golden[key], golden, 'float64') for key in ('Q', 'Psi'))
    ours, theirs = (as_rows(phi(features)) for phi in (head.phi0, head.phi1))
    np.testing.assert_allclose(ours @ theirs.T, golden['A'], rtol=1e-10, atol=1e-10)
    explicit = golden['Psi'] + (ours @ theirs.T) @ golden['Psi']
    np.testing.assert_allclose(as_rows(head(features, potentials)), explicit, rtol=1e-12)


def test_numbers_by_hand(unified_kit):
    head = Affinity(1)
    head.initialize(mx.init.One())
    for phi in (head.phi0, head.phi1):
        phi.weight.set_data(mx.nd.ones((1, 1, 1, 1)))   # the identity
    found = head(mx.nd.array([1, 2]).reshape((1, 1, 1, 2)),
                 mx.nd.array([[1, 0], [0, 3]]).reshape((1, 2, 1, 2)))
    hand = json.loads((unified_kit / 'hand.json').read_text())['affinity']
    assert as_rows(found).tolist() == hand['P']


def test_cost_is_that_of_the_paper(unified_kit):
    """And memory grows with the pixels, not with their square."""
    cost = json.loads((unified_kit / 'hand.json').read_text())['cost']
    head, channels = Affinity(cost['C']), cost['D'] + cost['Nst']

    def graph(height, width):
        return trace(head, (1, cost['C'], height, width), (1, channels, height, width))

    ours = graph(cost['H'] // cost['d'], cost['W'] // cost['d'])
    convolutions = 2 * cost['C'] ** 2 * cost['pixels']
    assert multiply_adds(ours) == cost['madds_linear'] + convolutions
    assert peak_bytes(ours) < cost['affinity_matrix_bytes'] / 100
    assert peak_bytes(graph(400, 650)) == pytest.approx(4 * peak_bytes(ours), rel=0.01)


def test_one_graph_for_any_size_and_number_of_channels():
    head = Affinity(4)
    head.initialize(mx.init.Normal(1))
    pairs = [(mx.nd.random.normal(shape=(2, 4, *size)), mx.nd.random.normal(shape=(2, k, *size)))
             for size, k in (((5, 7), 3), ((1, 1), 1), ((1, 50), 100))]
    expected = [head(*pair).asnumpy() for pair in pairs]
    head.hybridize()
    for pair, values in zip(pairs, expected):
        np.testing.assert_allclose(head(*pair).asnumpy(), values, rtol=1e-4, atol=1e-4)


def test_unknown_activation():
    with pytest.raises(AdaptisError, match="activation is 'swish'.*relu"):
        Affinity(4, 'swish')
