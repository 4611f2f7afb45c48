"""What every network promises, on small sizes and without golden data."""
from __future__ import annotations

import warnings

import numpy as np
import pytest

from adaptis.errors import AdaptisError
from adaptis.model import get_model
from adaptis.model.layers import AdaIN, CoordinateMaps, PointConv, SamplePoints
from adaptis.runtime import mx

OPTIONS = [{}, {'coordinates': 'absolute'}, {'coordinates': 'none'},
           {'num_classes': 5, 'num_stuff': 2}]


def make_net(**options):
    mx.random.seed(0)
    net = get_model('adaptis_toy', width=4, **options)
    net.initialize(mx.init.Xavier())
    return net


def inputs(batch=2, points=3, height=33, width=47, seed=0):
    rng = np.random.default_rng(seed)
    image = rng.uniform(0, 255, (batch, 3, height, width))
    where = rng.uniform(0, 1, (batch, points, 2)) * (height - 1, width - 1)
    return mx.nd.array(image), mx.nd.array(where)


@pytest.mark.parametrize('options', OPTIONS)
def test_one_hybridized_network_serves_all_sizes(options):
    net, hybrid = make_net(**options), make_net(**options)
    hybrid.hybridize()
    for size in ((2, 3, 33, 47), (1, 1, 64, 32), (3, 5, 17, 96), (1, 2, 9, 9)):
        expected, actual = net(*inputs(*size)), hybrid(*inputs(*size))
        batch, points, height, width = size
        shapes = [(batch * points, 1, height, width), (batch, net.num_classes, height, width),
                  (batch * points, 1)]
        assert [a.shape for a in actual] == shapes
        for a, b in zip(actual, expected):
            np.testing.assert_allclose(a.asnumpy(), b.asnumpy(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('options', OPTIONS[:3])
def test_fast_training_path_has_the_gradients_of_the_graph(options):
    results = []
    for hybrid in (False, True):
        net = make_net(**options)
        net.hybridize(hybrid)
        with mx.autograd.record():
            instances, semantic, proposals = net(*inputs())
            loss = (instances ** 2).mean() + (semantic ** 2).mean() + (proposals ** 2).mean()
        loss.backward()
        gradients = {name: parameter.grad().asnumpy()
                     for name, parameter in net._collect_params_with_prefix().items()
                     if parameter.grad_req != 'null'}
        results.append((loss.asscalar(), gradients))
    (value, fast), (expected_value, graph) = results
    assert value == pytest.approx(expected_value, rel=1e-4)
    for name in graph:
        scale = max(np.abs(graph[name]).max(), 1e-3)
        np.testing.assert_allclose(fast[name] / scale, graph[name] / scale, atol=5e-3, err_msg=name)


def test_exported_graph_equals_the_network(tmp_path):
    net = make_net()
    net.hybridize()
    expected = net(*inputs())
    net.export(str(tmp_path / 'net'))
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        loaded = mx.gluon.SymbolBlock.imports(
            str(tmp_path / 'net-symbol.json'), ['data0', 'data1'],
            str(tmp_path / 'net-0000.params'),
            ctx=mx.current_context())
    for a, b in zip(loaded(*inputs()), expected):
        np.testing.assert_allclose(a.asnumpy(), b.asnumpy(), atol=1e-6)
    again = inputs(1, 4, 25, 39)
    for a, b in zip(loaded(*again), net(*again)):
        np.testing.assert_allclose(a.asnumpy(), b.asnumpy(), atol=1e-6)


def test_proposal_branch_sends_no_gradient_into_the_features():
    net = make_net()
    with mx.autograd.record():
        net(*inputs())[2].sum().backward()
    backbone = net.encoder.backbone.final[0][0].weight.grad()
    assert backbone.abs().sum().asscalar() == 0
    assert net.encoder.proposals[0][0].weight.grad().abs().sum().asscalar() > 0


def test_a_point_does_not_depend_on_its_neighbours():
    net = make_net()
    image, points = inputs(points=4)
    all_at_once = net(image, points)[0].reshape((2, 4, 33, 47))
    for i in range(4):
        alone = net(image, points[:, i:i + 1])[0].reshape((2, 33, 47))
        np.testing.assert_allclose(all_at_once[:, i].asnumpy(), alone.asnumpy(), atol=1e-4)


def test_dead_channel_gives_nan_only_in_the_official_way():
    x, query = mx.nd.zeros((1, 2, 3, 3)), mx.nd.ones((1, 2))
    for epsilon, finite in ((1e-5, True), (0.0, False)):
        block = AdaIN(2, 2, epsilon)
        block.initialize()
        assert np.isfinite(block(x, query).asnumpy()).all() == finite


def test_adain_by_hand():
    block = AdaIN(1, 1, 0.0)
    block.initialize()
    block.scale.weight.set_data(mx.nd.array([[3.0]]))
    block.scale.bias.set_data(mx.nd.array([0.0]))
    block.bias.weight.set_data(mx.nd.array([[0.0]]))
    block.bias.bias.set_data(mx.nd.array([7.0]))
    x = mx.nd.array([[[[1.0, 3.0], [1.0, 3.0]]]])     # mean 2, deviation 1
    np.testing.assert_allclose(block(x, mx.nd.array([[2.0]])).asnumpy(),
                               [[[[1, 13], [1, 13]]]], rtol=1e-5)


def test_relative_coordinates_by_hand():
    block = CoordinateMaps('relative', radius=2)
    maps = block(mx.nd.zeros((1, 4, 5, 5)), mx.nd.array([[[1, 2]]])).asnumpy()[0]
    np.testing.assert_allclose(maps[:, 1, 2], 0)
    np.testing.assert_allclose(maps[:, 0, 1], [-0.5, -0.5, np.sqrt(0.5)], rtol=1e-6)
    np.testing.assert_allclose(maps[:, 4, 2], [1, 0, 1])       # 1.5 is clipped to 1


def test_sampling_interpolates_and_clamps_at_the_border():
    feature_map = mx.nd.arange(12).reshape((1, 1, 3, 4))
    points = mx.nd.array([[[1, 2], [0.5, 0.5], [2, 4], [9, 9]]])
    samples = SamplePoints()(feature_map, points).asnumpy().ravel()
    np.testing.assert_allclose(samples, [6, 2.5, 11, 0])


def test_split_convolution_equals_the_joint_one():
    block = PointConv(4, 5, 3)
    block.initialize(mx.init.Xavier())
    features, coordinates = mx.nd.random.normal(shape=(2, 5, 6, 7)), mx.nd.random.normal(
        shape=(6, 3, 6, 7))
    joint = mx.nd.concat(coordinates, mx.nd.repeat(features, repeats=3, axis=0), dim=1)
    expected = mx.nd.Convolution(joint, block.weight.data(), block.bias.data(), kernel=(3, 3),
                                 pad=(1, 1), num_filter=4)
    actual = block(features, coordinates, mx.nd.zeros((2, 3, 2)))
    np.testing.assert_allclose(actual.asnumpy(), expected.asnumpy(), atol=1e-5)


@pytest.mark.parametrize('options, word', [
    ({'width': 3}, 'width'), ({'coordinates': 'polar'}, 'coordinates'),
    ({'num_classes': 2, 'num_stuff': 2}, 'num_stuff'), ({'widht': 8}, 'widht'),
    ({'width': 16.0}, 'width is 16.0'), ({'width': True}, 'width'), ({'radius': 0}, 'radius'),
    ({'radius': float('nan')}, 'radius'), ({'epsilon': -1}, 'epsilon'),
    ({'coordinates': ['relative']}, 'coordinates'), ({'mean': [0.5, 0.5]}, 'mean'),
    ({'std': [1, 1, 0]}, 'std'), ({'std': [1, 1, 'x']}, 'std'), ({'official': 'no'}, 'official')])
def test_wrong_options_are_named(options, word):
    with pytest.raises(AdaptisError, match=word):
        get_model('adaptis_toy', **options)


def test_unknown_network_is_named():
    with pytest.raises(AdaptisError, match='adaptis_toi'):
        get_model('adaptis_toi')
