"""What the DeepLab and FPN networks promise, small and without golden data."""
from __future__ import annotations

import warnings

import numpy as np
import pytest

from adaptis.errors import AdaptisError
from adaptis.inference.encoded import ImageEncoder
from adaptis.inference.settings import AdaptISSettings
from adaptis.model import get_model
from adaptis.model.deeplab import ASPP
from adaptis.model.fpn import SemanticFPN
from adaptis.model.layers import nn, resize_like, separable_unit
from adaptis.runtime import mx

NAMES = ['adaptis_deeplab', 'adaptis_fpn']
SyncBatchNorm = mx.gluon.contrib.nn.SyncBatchNorm


def make_net(name, **options):
    mx.random.seed(0)
    backbone = {} if name == 'adaptis_toy' else {'backbone': 'resnet18'}
    net = get_model(name, **{'width': 16, 'num_classes': 5, 'num_stuff': 2, **backbone,
                             **options})
    net.initialize(mx.init.Xavier())
    return net


def inputs(batch, points, height, width, seed=0):
    rng = np.random.default_rng(seed)
    image = rng.uniform(0, 255, (batch, 3, height, width))
    where = rng.uniform(0, 1, (batch, points, 2)) * (height - 1, width - 1)
    return mx.nd.array(image), mx.nd.array(where)


def drop_nothing(net):
    net.apply(lambda block: setattr(block, '_rate', 0) if isinstance(block, nn.Dropout) else None)


@pytest.mark.parametrize('name', NAMES)
def test_one_hybridized_network_serves_all_sizes(name):
    net, hybrid = make_net(name), make_net(name)
    hybrid.hybridize()
    sizes = [(2, 3, 131, 253), (1, 1, 97, 65), (1, 5, 96, 128)]
    if name == 'adaptis_deeplab':
        sizes += [(1, 2, 33, 47), (2, 1, 16, 16)]
    for batch, points, height, width in sizes:
        arguments = inputs(batch, points, height, width)
        expected, actual = net(*arguments), hybrid(*arguments)
        assert [a.shape for a in actual] == [
            (batch * points, 1, height, width), (batch, 5, height, width), (batch * points, 1)]
        assert hybrid.encoder(arguments[0])[0].shape == (batch, 16, -(-height // 4), -(-width // 4))
        for a, b in zip(actual, expected):
            np.testing.assert_allclose(a.asnumpy(), b.asnumpy(), rtol=1e-4, atol=1e-4)


def _gradients(name, hybridize):
    net = make_net(name)
    drop_nothing(net)
    net.hybridize(hybridize)
    with mx.autograd.record():
        outputs = net(*inputs(2, 3, 65, 97))
        loss = sum((output ** 2).mean() for output in outputs)
    loss.backward()
    return float(loss.asscalar()), {
        n: p.grad().asnumpy() for n, p in net._collect_params_with_prefix().items()
        if p.grad_req != 'null'}


@pytest.mark.parametrize('name', NAMES)
def test_gradients_reach_all_and_are_those_of_the_graph(name):
    value, eager = _gradients(name, False)
    expected, graph = _gradients(name, True)
    assert value == pytest.approx(expected, rel=1e-4)
    largest = max(np.abs(gradient).max() for gradient in graph.values())
    for key, gradient in graph.items():
        assert np.isfinite(gradient).all() and np.abs(gradient).max() > 0, key
        scale = max(np.abs(gradient).max(), 1e-4 * largest)
        np.testing.assert_allclose(eager[key] / scale, gradient / scale, atol=1e-2, err_msg=key)


@pytest.mark.parametrize('name', NAMES)
def test_exported_graph_equals_the_network(name, tmp_path):
    net = make_net(name)
    net.hybridize()
    net(*inputs(1, 2, 65, 97))
    net.export(str(tmp_path / 'net'))
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        loaded = mx.gluon.SymbolBlock.imports(
            str(tmp_path / 'net-symbol.json'), ['data0', 'data1'],
            str(tmp_path / 'net-0000.params'),
            ctx=mx.current_context())
    again = inputs(2, 3, 70, 81)
    for a, b in zip(loaded(*again), net(*again)):
        np.testing.assert_allclose(a.asnumpy(), b.asnumpy(), atol=1e-5)


@pytest.mark.parametrize('hybridize', [False, True])
def test_split_point_head_equals_the_whole(hybridize):
    for options in ({}, {'coordinates': 'none'}):
        net = make_net('adaptis_deeplab', **options)
        net.hybridize(hybridize)
        image, points = inputs(1, 3, 33, 47)
        features, query_map, *_ = net.encoder(image)
        share, head = net.point_head.split()
        np.testing.assert_allclose(head(share(features), query_map, points).asnumpy(),
                                   net.point_head(features, query_map, points).asnumpy(),
                                   atol=1e-5)


def test_resize_has_aligned_corners_and_a_gradient_for_many_points():
    maps, image = mx.nd.random.normal(shape=(6, 2, 3, 4)), mx.nd.zeros((2, 3, 5, 10))
    maps.attach_grad()
    with mx.autograd.record():
        large = resize_like(mx.nd, maps, image)
        large.sum().backward()
    assert large.shape == (6, 2, 5, 10)
    np.testing.assert_allclose(large[:, :, ::2, ::3].asnumpy(), maps.asnumpy(), atol=1e-6)
    np.testing.assert_allclose(large[:, :, 1, 0].asnumpy(),
                               maps[:, :, :2, 0].mean(axis=2).asnumpy(), atol=1e-6)
    np.testing.assert_allclose(maps.grad.sum().asscalar(), large.size, rtol=1e-5)


def test_a_pyramid_too_small_for_its_head_is_named():
    net = make_net('adaptis_fpn')
    for hybridize in (False, True):
        net.hybridize(hybridize)
        image, points = inputs(1, 1, 64, 80)
        for call in (lambda image=image, points=points: net(image, points),
                     lambda image=image: net.encoder(image)):
            with pytest.raises(AdaptisError, match='64x80, but .* at least 65x65'):
                call()
    encoded = ImageEncoder(net, AdaptISSettings())(np.zeros((20, 30, 3),
                                                              np.uint8))   # is continued
    assert encoded.masks_at(np.zeros((2, 2))).shape == (2, 20, 30)


def test_semantic_pyramid_by_hand():
    """Sums of ones through 3x3 convolutions of ones: 9 per unit, whatever the resizing."""
    head = SemanticFPN(1, 1)
    head.initialize(mx.init.One())
    maps = [mx.nd.ones((1, 1, side, side)) for side in (24, 12, 6, 3)]
    for block in head.levels:
        block.apply(lambda b: b.running_mean.set_data(mx.nd.zeros((1,)))
                    if isinstance(b, nn.BatchNorm) else None)
    head.collect_params('.*bias|.*beta').initialize(mx.init.Zero(), force_reinit=True)
    np.testing.assert_allclose(head(*maps).asnumpy(), 1 + 9 + 81 + 729, rtol=1e-3)


def test_aspp_of_a_constant_map_is_constant():
    """Its pooled branch and all dilations see the same value, but for the padded border."""
    block = ASPP(2, 4, rates=(1, 2), dropout=0.0)
    block.initialize(mx.init.Xavier())
    values = block(mx.nd.ones((1, 2, 9, 9))).asnumpy()[0]
    np.testing.assert_allclose(values[:, 2:7, 2:7],
                               np.broadcast_to(values[:, 4:5, 4:5], (4, 5, 5)), atol=1e-6)
    assert values.max() > 0


def test_separable_unit_keeps_channels_apart_first():
    unit = separable_unit(1, 2)
    unit.initialize(mx.init.One())
    x = mx.nd.zeros((1, 2, 5, 5))
    x[0, 0, 2, 2] = 1
    assert unit[0](x).asnumpy()[0, 1].sum() == 0
    assert unit[1](unit[0](x)).asnumpy()[0, 0].sum() == 9


@pytest.mark.parametrize('name', [*NAMES, 'adaptis_toy'])
def test_norm_layer_reaches_every_layer_and_changes_no_prediction(name):
    common = {'width': 4} if name == 'adaptis_toy' else {}
    plain_net = make_net(name, norm_kwargs={'epsilon': 1e-4}, **common)
    net = make_net(name, norm_layer='SyncBatchNorm',
                   norm_kwargs={'num_devices': 1, 'epsilon': 1e-4}, **common)
    plain, synchronised = [], []
    for owner, found in ((plain_net, plain), (net, synchronised)):
        owner.apply(lambda b, found=found: found.append(b) if isinstance(b, nn.BatchNorm) else None)
    assert len(plain) == len(synchronised) > 20
    assert {type(b) for b in plain} == {nn.BatchNorm}
    assert {type(b) for b in synchronised} == {SyncBatchNorm}
    assert {b._kwargs['eps'] for b in plain + synchronised} == {1e-4}
    assert len({b._kwargs['key'] for b in synchronised}) == len(synchronised)
    arguments = inputs(1, 2, 65, 70)
    for a, b in zip(net(*arguments), plain_net(*arguments)):
        np.testing.assert_allclose(a.asnumpy(), b.asnumpy(), rtol=1e-3, atol=1e-3)


def test_devices_of_sync_batch_norm_need_not_be_told():
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        net = get_model('adaptis_toy', width=4, norm_layer='SyncBatchNorm')
    assert net.encoder.backbone.image_norm._kwargs['ndev'] == max(mx.context.num_gpus(), 1)


@pytest.mark.parametrize('options, word', [
    ({'backbone': 'vgg16'}, "backbone is 'vgg16': choose one of .*resnet50"),
    ({'backbone': None}, 'backbone is None'), ({'width': 12}, 'width is 12.*multiple of 8'),
    ({'pretrained_base': 'yes'}, 'pretrained_base'), ({'norm_layer': 'GroupNorm'}, 'norm_layer'),
    ({'norm_layer': ['BatchNorm']}, 'norm_layer'), ({'norm_kwargs': {'eps': 1}}, "option 'eps'"),
    ({'norm_kwargs': {'num_devices': 2}}, "BatchNorm has no option 'num_devices'"),
    ({'norm_kwargs': {'momentum': '1'}}, "momentum is '1'"), ({'norm_kwargs': [1]}, 'norm_kwargs'),
    ({'num_stuff': 19}, 'num_stuff'), ({'coordinates': 'polar'}, 'coordinates'),
    ({'std': [1, 1, 0]}, 'std'), ({'radius': 0}, 'radius'), ({'depth': 50}, 'depth')])
def test_wrong_options_are_named(options, word):
    for name in NAMES:
        with pytest.raises(AdaptisError, match=word):
            get_model(name, **options)
