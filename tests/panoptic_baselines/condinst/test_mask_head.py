"""Aligned upsampling and the dynamic mask head against the official ones."""
from __future__ import annotations

import numpy as np
import pytest

from adaptis.errors import AdaptisError
from adaptis.runtime import mx
from panoptic_baselines.condinst.aligned import AlignedUpsample
from panoptic_baselines.condinst.mask_head import DynamicMaskHead
from tests.panoptic_baselines.condinst.golden import close

BOTH = pytest.mark.parametrize('hybrid', [False, True], ids=['imperative', 'hybridized'])


@BOTH
def test_aligned_upsampling(ops, hybrid):
    data = ops('aligned_bilinear')
    layers = {}
    for i in range(7):
        factor = int(data[f'factor{i}'])
        layer = layers.setdefault(factor, AlignedUpsample(factor))   # one graph for all sizes
        layer.hybridize(hybrid)
        close(layer(data.nd(f'x{i}')), data[f'y{i}'], 1e-6)


@BOTH
def test_gradient_of_aligned_upsampling(ops, hybrid):
    data = ops('aligned_bilinear')
    layer, x = AlignedUpsample(int(data['gfactor'])), data.nd('gx')
    layer.hybridize(hybrid)
    x.attach_grad()
    with mx.autograd.record():
        y = layer(x)
    y.backward(data.nd('gy_grad'))
    close(x.grad, data['gx_grad'], 1e-6)


def test_aligned_upsampling_by_one_keeps_the_gradient():
    layer, x = AlignedUpsample(1), mx.nd.ones((1, 1, 2, 2))
    layer.hybridize()
    x.attach_grad()
    with mx.autograd.record():
        loss = (layer(x) * 3).sum()
    loss.backward()
    close(x.grad, np.full((1, 1, 2, 2), 3.0), 0)


def test_order_of_the_predicted_weights(ops):
    data = ops('parse_dynamic_params')
    head = DynamicMaskHead()
    assert head.num_params == data['params'].shape[1]
    weights, biases = head.split(mx.nd, data.nd('params'))
    for i, (weight, bias) in enumerate(zip(weights, biases)):
        np.testing.assert_array_equal(weight.asnumpy().ravel(), data[f'w{i}'].ravel())
        np.testing.assert_array_equal(bias.asnumpy().ravel(), data[f'b{i}'].ravel())


def official_order(data):
    """Of the instances that are sorted by image."""
    return np.argsort(np.argsort(data['im_inds'], kind='stable'))


def of_images(data, features):
    """Features, params, locations, sizes of the instances of each image."""
    for i in range(len(features)):
        rows = mx.nd.array(np.flatnonzero(data['im_inds'] == i))
        sizes = data['sizes_of_interest'][data['levels']].astype(np.float32)[:, None]
        yield (features[i:i + 1], *(part.take(rows) for part in (
            data.params, data.nd('locations'), mx.nd.array(sizes))))


@BOTH
def test_masks(ops, hybrid):
    data = ops('mask_head')
    data.params = data.nd('params')
    for factor, key in ((1, 'logits_s8'), (2, 'logits_s4')):
        head = DynamicMaskHead(factor=factor)
        head.hybridize(hybrid)
        found = [head(*parts).asnumpy() for parts in of_images(data, data.nd('mask_feats'))]
        close(np.concatenate(found)[official_order(data)], data[key], 1e-5)


def test_inputs_of_the_mask_head(ops):
    data = ops('mask_head')
    data.params = data.nd('params')
    head = DynamicMaskHead(depth=2, channels=10)
    found = []
    for features, _, locations, sizes in of_images(data, data.nd('mask_feats')):
        same = mx.nd.tile(mx.nd.eye(10).expand_dims(0), (len(sizes), 1, 1))
        found.append(head.first(mx.nd, features, same, mx.nd.zeros((len(sizes), 10, 1)),
                                locations, sizes).asnumpy())
    found = np.concatenate(found)[official_order(data)]
    close(found.reshape(data['inputs'].shape), data['inputs'], 1e-5)


@BOTH
def test_gradients_of_the_mask_head(ops, hybrid):
    data, expected = ops('mask_head'), ops('mask_head_grad')
    data.params, features = data.nd('params'), data.nd('mask_feats')
    target = expected.nd('target_s4').reshape((5, -1)).astype('float32')
    head = DynamicMaskHead()
    head.hybridize(hybrid)
    data.params.attach_grad()
    features.attach_grad()
    with mx.autograd.record():
        logits = mx.nd.concat(*(head(*parts) for parts in of_images(data, features)), dim=0)
        logits = logits.take(mx.nd.array(official_order(data)))
        p = mx.nd.sigmoid(logits).reshape((5, -1))
        dice = 1 - 2 * (p * target).sum(1) / ((p ** 2).sum(1) + (target ** 2).sum(1) + 1e-5)
        loss = dice.mean()
    loss.backward()
    close(dice, expected['dice'], 1e-6)
    close(data.params.grad, expected['grad_params'], 1e-6)
    close(features.grad, expected['grad_mask_feats'], 1e-6)


@BOTH
@pytest.mark.parametrize('options, count', [
    ({}, 169), ({'depth': 1}, 11), ({'depth': 2}, 97), ({'depth': 4}, 241),
    ({'channels': 2}, 31), ({'channels': 16}, 465), ({'in_channels': 1}, 113),
    ({'in_channels': 0}, 105), ({'coordinates': None}, 153), ({'coordinates': 'absolute'}, 169),
    ({'factor': 4}, 169), ({'factor': 1}, 169)])
def test_variants(options, count, hybrid):
    head = DynamicMaskHead(**options)
    head.hybridize(hybrid)
    assert head.num_params == count
    rng = np.random.default_rng(0)
    factor = options.get('factor', 2)
    for n, shape in ((2, (3, 5)), (1, (1, 1)), (7, (2, 9))):
        features = mx.nd.array(rng.normal(size=(1, options.get('in_channels', 8) or 1, *shape)))
        arrays = [features, *(mx.nd.array(rng.normal(size=(n, k))) for k in (count, 2)),
                  mx.nd.full((n, 1), 64)]
        found = head(*arrays)
        assert found.shape == (n, factor * shape[0], factor * shape[1])
        close(found, upsampled(by_hand(head, *arrays, options), factor), 1e-4)


def by_hand(head, features, params, locations, sizes, options):
    """Layer by layer, with the inputs written out."""
    h, w = features.shape[2:]
    y, x = np.mgrid[:h, :w].astype(float)
    results = []
    for row in range(len(sizes)):
        inputs = []
        if options.get('coordinates', 'relative') == 'relative':
            at, size = locations[row].asnumpy(), sizes[row, 0].asscalar()
            inputs = [(at[0] - (4 + 8 * x)) / size, (at[1] - (4 + 8 * y)) / size]
        elif options['coordinates'] == 'absolute':
            inputs = [2 * x / (w - 1) - 1 if w > 1 else x, 2 * y / (h - 1) - 1 if h > 1 else y]
        if options.get('in_channels', 8):
            inputs += list(features[0].asnumpy())
        value, rest = np.stack(inputs).reshape(len(inputs), -1), params[row].asnumpy()
        bias = rest[sum(out * source for out, source in head.shapes):]
        for i, (out, source) in enumerate(head.shapes):
            value = np.maximum(value, 0) if i else value
            value = rest[:out * source].reshape(out, source) @ value + bias[:out, None]
            rest, bias = rest[out * source:], bias[out:]
        results.append(value.reshape(h, w))
    return np.stack(results)


def upsampled(maps, factor):
    layer = AlignedUpsample(factor)
    return layer(mx.nd.array(maps[:, None])).asnumpy()[:, 0]


def test_nonsense():
    with pytest.raises(AdaptisError, match="'polar'.*relative"):
        DynamicMaskHead(coordinates='polar')
    with pytest.raises(AdaptisError, match='features, coordinates or both'):
        DynamicMaskHead(0, coordinates=None)
