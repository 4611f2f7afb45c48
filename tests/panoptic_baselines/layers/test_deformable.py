"""Deformable convolutions against a loop over pixels and taps in double precision."""
from __future__ import annotations

import numpy as np
import pytest

from adaptis.errors import AdaptisError
from adaptis.runtime import mx
from panoptic_baselines.initializers import set_initializers
from panoptic_baselines.layers.deformable import DeformableConvNorm
from panoptic_baselines.layers.norm import ConvNorm
from panoptic_baselines.layers.resnet import ResNet, get_resnet_spec


def pixel(image, y, x):
    """(C,): an image (C, H, W) between its pixels; zeros outside."""
    total = np.zeros(len(image))
    for row in (int(np.floor(y)), int(np.floor(y)) + 1):
        for column in (int(np.floor(x)), int(np.floor(x)) + 1):
            if 0 <= row < image.shape[1] and 0 <= column < image.shape[2]:
                total += image[:, row, column] * (1 - abs(y - row)) * (1 - abs(x - column))
    return total


def reference(image, weight, offset, stride):
    """(O, h, w) of an image (C, H, W) and offsets (18 or 27, h, w)."""
    result = np.zeros((len(weight), *offset.shape[1:]))
    share = np.ones(9) if len(offset) == 18 else None
    for i, j in np.ndindex(*offset.shape[1:]):
        now = 1 / (1 + np.exp(-offset[18:, i, j])) if share is None else share
        for tap in range(9):
            place = (stride * i - 1 + tap // 3 + offset[2 * tap, i, j],
                     stride * j - 1 + tap % 3 + offset[2 * tap + 1, i, j])
            result[:, i, j] += weight[:, :, tap // 3, tap % 3] @ pixel(image, *place) * now[tap]
    return result


class Nothing(mx.gluon.HybridBlock):
    """A norm that changes nothing."""

    def __init__(self, in_channels):
        super().__init__()

    def hybrid_forward(self, F, x):
        return x * 1


def layer(stride, modulated, **options):
    net = DeformableConvNorm(5, 4, strides=stride, modulated=modulated,
                             **{**dict(relu=False, norm_layer=Nothing), **options})
    net.initialize(mx.init.Normal(1))
    return net


@pytest.mark.parametrize('stride', [1, 2])
@pytest.mark.parametrize('modulated', [False, True])
def test_values_and_gradients(stride, modulated):
    rng = np.random.default_rng(0)
    net = layer(stride, modulated)
    net.hybridize()
    net.offset.weight.set_data(mx.nd.random.normal(shape=net.offset.weight.shape, scale=0.3))
    x = rng.normal(size=(2, 4, 5, 6))
    data = mx.nd.array(x)
    data.attach_grad()
    with mx.autograd.record():
        y = net(data)
    direction = rng.normal(size=y.shape)
    y.backward(mx.nd.array(direction))
    kernel, bias = (p.data().asnumpy().astype(float) for p in (net.offset.weight,
                                                               net.offset.bias))

    def run(x, kernel, bias, weight):
        moves = [reference(image, kernel, np.zeros((18, *y.shape[2:])), stride)
                 + bias[:, None, None] for image in x]   # without offsets it is a convolution
        return np.stack([reference(image, weight, m, stride) for image, m in zip(x, moves)])

    weight = net.weight.data().asnumpy().astype(float)
    np.testing.assert_allclose(y.asnumpy(), run(x, kernel, bias, weight), atol=3e-5)
    arrays = [x, kernel, bias, weight]
    gradients = [data.grad, net.offset.weight.grad(), net.offset.bias.grad(), net.weight.grad()]
    for i, gradient in enumerate(gradients):
        step = rng.normal(size=arrays[i].shape) * 1e-6
        ends = [(run(*arrays[:i], arrays[i] + sign * step, *arrays[i + 1:]) * direction).sum()
                for sign in (-1, 1)]
        np.testing.assert_allclose((gradient.asnumpy() * step).sum() * 2e6,
                                   (ends[1] - ends[0]) * 1e6, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize('groups', [1, 2])
@pytest.mark.parametrize('modulated', [False, True])
def test_without_offsets_it_is_a_convolution(groups, modulated):
    options = dict(groups=groups, strides=2, norm_layer='BatchNorm')
    usual, ours = ConvNorm(6, 4, **options), DeformableConvNorm(6, 4, modulated=modulated,
                                                                **options)
    usual.initialize(mx.init.Normal(1))
    ours.initialize(mx.init.Normal(1))
    ours.hybridize()
    ours.weight.set_data(usual.weight.data() * (2 if modulated else 1))
    for size in ((7, 10), (1, 1), (1, 4)):
        x = mx.nd.random.normal(shape=(2, 4, *size))
        np.testing.assert_allclose(ours(x).asnumpy(), usual(x).asnumpy(), atol=1e-4)


def test_hybridized_outside_of_training():
    """With enough channels for the CPU's own orders of memory."""
    net = DeformableConvNorm(32, 32)
    net.initialize(mx.init.Normal(1))
    images = [mx.nd.random.normal(shape=(1, 32, *size)) for size in ((16, 32), (9, 7))]
    expected = [net(x).asnumpy() for x in images]
    net.hybridize()
    for x, y in zip(images, expected):
        np.testing.assert_allclose(net(x).asnumpy(), y, atol=1e-4)


def test_places_far_outside_are_zero():
    net = layer(1, False)
    net.offset.bias.set_data(mx.nd.ones(18) * 100)
    assert not net(mx.nd.ones((1, 4, 5, 6))).asnumpy().any()


@pytest.mark.parametrize('backbone, modulated', [('resnet18', True), ('resnext101_32x8d', False)])
def test_backbones_with_some(backbone, modulated):
    spec = get_resnet_spec(backbone)._replace(blocks=(1, 1, 4, 1))
    net = ResNet(spec, 'BatchNorm', deformable_stages=[4, 5], deformable_interval=3,
                 modulated=modulated)
    set_initializers(net, [('.+', mx.init.Normal(0.1))])
    net.initialize()
    layers = net._collect_params_with_prefix()
    names = {name for name in layers if 'offset' in name}
    assert names == {f'{block}.conv2.offset.{kind}' for block in ('res4.0', 'res4.3', 'res5.0')
                     for kind in ('weight', 'bias')}
    assert not any(layers[name].data().asnumpy().any() for name in names)
    assert layers['res4.0.conv2.weight'].data().asnumpy().any()
    net.hybridize()
    for size in ((64, 96), (32, 32)):
        with mx.autograd.record():
            features = net(mx.nd.random.normal(shape=(2, 3, *size)))
            sum((f ** 2).sum() for f in features).backward()
        assert [f.shape[2:] for f in features] == [(size[0] >> i, size[1] >> i)
                                                   for i in range(2, 6)]
        assert all(np.abs(layers[name].grad().asnumpy()).max() > 0 for name in names)


@pytest.mark.parametrize('options, match', [
    (dict(deformable_stages=[1]), 'a list of stages'),
    (dict(deformable_stages=3), 'deformable_stages is 3'),
    (dict(deformable_stages=[3], deformable_interval=0), 'deformable_interval is 0')])
def test_stages_that_make_no_sense(options, match):
    with pytest.raises(AdaptisError, match=match):
        ResNet(get_resnet_spec('resnet18'), **options)


@pytest.mark.parametrize('stride', [1, 2])
@pytest.mark.parametrize('modulated', [False, True])
def test_values_without_a_gradient_equal_those_of_the_graph(stride, modulated):
    """Offsets reach beyond the image; the two add up in different orders."""
    net = layer(stride, modulated)
    net.hybridize()
    net.offset.weight.set_data(mx.nd.random.normal(shape=net.offset.weight.shape))
    for size in ((5, 6), (1, 1), (40, 50)):
        x = mx.nd.random.normal(shape=(2, 4, *size))
        with mx.autograd.record(train_mode=False):
            expected = net(x).asnumpy()
        np.testing.assert_allclose(net(x).asnumpy(), expected, atol=3e-4)


def test_offsets_that_are_no_numbers_stay_so():
    net = layer(1, False)
    net.offset.bias.set_data(mx.nd.ones(18) * np.nan)
    assert np.isnan(net(mx.nd.ones((1, 4, 5, 6))).asnumpy()).all()
