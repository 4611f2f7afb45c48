from __future__ import annotations

import numpy as np
import pytest

from adaptis.errors import AdaptisError
from adaptis.runtime import mx
from panoptic_baselines.layers.norm import ConvNorm, FrozenBatchNorm, GroupNorm, make_norm


@pytest.fixture(params=[False, True], ids=['imperative', 'hybridized'])
def hybridized(request):
    return request.param


def filled(layer, **arrays):
    layer.initialize()
    for name, array in arrays.items():
        getattr(layer, name).set_data(mx.nd.array(array))
    return layer


def test_group_norm_is_the_official_one(kit, hybridized):
    d = np.load(kit / 'ops' / 'layers.npz')
    layer = filled(GroupNorm(128), gamma=d['gn_weight'], beta=d['gn_bias'])
    layer.hybridize(hybridized)
    np.testing.assert_allclose(layer(mx.nd.array(d['gn_x'])).asnumpy(), d['gn_out'], atol=5e-5)


def test_frozen_batch_norm_is_the_official_one(kit, hybridized):
    d = np.load(kit / 'ops' / 'layers.npz')
    layer = filled(FrozenBatchNorm(6), gamma=d['fbn_weight'], beta=d['fbn_bias'],
                   running_mean=d['fbn_running_mean'], running_var=d['fbn_running_var'])
    layer.hybridize(hybridized)
    scale = np.abs(d['fbn_out']).max()   # variances are next to nothing
    found = layer(mx.nd.array(d['fbn_x'])).asnumpy()
    np.testing.assert_allclose(found, d['fbn_out'], atol=1e-6 * scale)


def test_group_norm_by_hand_and_its_gradient():
    """Against the formula, and against MXNet's operator with one scale for all."""
    rng = np.random.default_rng(0)
    value, weight = rng.normal(3, 2, size=(2, 6, 5, 4)), rng.normal(size=(2, 6, 5, 4))
    groups = value.reshape(2, 3, -1)
    mean, var = groups.mean(axis=2), groups.var(axis=2)
    expected = ((groups - mean[..., None]) / np.sqrt(var[..., None] + 1e-5)).reshape(value.shape)
    layer, gradients = filled(GroupNorm(6, num_groups=3)), []
    for function in (layer, lambda x: mx.nd.GroupNorm(x, mx.nd.ones(3), mx.nd.zeros(3),
                                                      num_groups=3, eps=1e-5)):
        x = mx.nd.array(value)
        x.attach_grad()
        with mx.autograd.record():
            y = function(x)
            loss = (y * mx.nd.array(weight)).sum()
        loss.backward()
        np.testing.assert_allclose(y.asnumpy(), expected, atol=1e-5)
        gradients.append(x.grad.asnumpy())
    np.testing.assert_allclose(*gradients, atol=1e-5)


def test_training_leaves_frozen_norms_alone():
    layer = filled(FrozenBatchNorm(2), running_mean=[1, 2])
    x = mx.nd.random.normal(shape=(4, 2, 3, 3))
    x.attach_grad()
    with mx.autograd.record():
        loss = layer(x).sum()
    loss.backward()
    np.testing.assert_array_equal(layer.running_mean.data().asnumpy(), [1, 2])
    np.testing.assert_allclose(x.grad.asnumpy(), 1, atol=1e-4)
    assert all(p.grad_req == 'null' for p in layer.collect_params().values())


@pytest.mark.parametrize('norm', ['FrozenBatchNorm', 'BatchNorm', 'GroupNorm'])
def test_a_convolution_with_a_norm_is_one_layer(norm):
    layer = ConvNorm(32, 3, kernel=3, strides=2, norm_layer=norm)
    layer.initialize()
    found = layer(mx.nd.random.normal(shape=(1, 3, 9, 8)))
    assert found.shape == (1, 32, 5, 4) and found.min() >= 0
    names = set(layer._collect_params_with_prefix())
    assert {'weight', 'norm.gamma', 'norm.beta'} <= names and 'bias' not in names


def test_norms_that_do_not_exist_or_fit():
    with pytest.raises(AdaptisError, match='"LayerNorm".*BatchNorm'):
        make_norm('LayerNorm', 8)
    with pytest.raises(AdaptisError, match='48 channels.*32'):
        GroupNorm(48)
    with pytest.raises(AdaptisError, match='num_groups is 0'):
        make_norm('GroupNorm', 8, {'num_groups': 0})
