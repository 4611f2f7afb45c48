"""Backbones, pyramid and heads: cases that the golden network does not cover."""
from __future__ import annotations

import numpy as np
import pytest

from adaptis.errors import AdaptisError
from adaptis.runtime import mx
from panoptic_baselines.layers.fpn import FPN
from panoptic_baselines.layers.resnet import RESNET_SPECS, ResNet, get_resnet_spec
from panoptic_baselines.layers.semantic import SemanticHead
from panoptic_baselines.rcnn.heads import MaskHead, SplitDeconv


def parameter_count(block):
    return sum(int(np.prod(p.shape)) for p in block.collect_params().values()
               if 'running' not in p.name)


# Of torchvision's networks without their classifiers; ResNeXt-152 of its formula.
PUBLISHED = {'resnet18': 11689512 - 513000, 'resnet34': 21797672 - 513000,
             'resnet50': 25557032 - 2049000, 'resnet101': 44549160 - 2049000,
             'resnet152': 60192808 - 2049000, 'resnext101_32x8d': 88791336 - 2049000}


@pytest.mark.parametrize('name', sorted(PUBLISHED))
def test_sizes_of_the_backbones(name):
    assert parameter_count(ResNet(get_resnet_spec(name))) == PUBLISHED[name]


@pytest.mark.parametrize('name', ['resnet18', 'resnext101_32x8d'])
def test_features_of_backbones(name):
    net = ResNet(get_resnet_spec(name)._replace(blocks=(1, 1, 1, 1)))
    net.initialize()
    features = net(mx.nd.random.normal(shape=(1, 3, 64, 96)))
    assert [f.shape for f in features] == [
        (1, channels, 16 >> i, 24 >> i) for i, channels in enumerate(net.channels)]


def test_where_the_stride_is():
    for name, first, second in (('resnet50', (2, 2), (1, 1)), ('resnext101_32x8d', (1, 1), (2, 2))):
        block = ResNet(get_resnet_spec(name)).res3[0]
        assert block.conv1._kwargs['stride'] == first
        assert block.conv2._kwargs['stride'] == second


def test_freezing_stages():
    net = ResNet(get_resnet_spec('resnet18'), 'BatchNorm')
    net.freeze(2)
    trained = {name.split('.')[0] for name, p in net._collect_params_with_prefix().items()
               if p.grad_req != 'null'}
    assert trained == {'res3', 'res4', 'res5'}
    with pytest.raises(AdaptisError, match='5 stages'):
        net.freeze(6)


def test_unknown_backbone():
    with pytest.raises(AdaptisError, match='"vgg".*resnet50'):
        get_resnet_spec('vgg')
    assert set(PUBLISHED) < set(RESNET_SPECS)


def test_pyramid_layers_are_the_official_ones(kit):
    d = np.load(kit / 'ops' / 'layers.npz')
    x = mx.nd.array(d['logits'])
    # Their own shares of the pyramid and the stem, with weights that copy.
    fpn = FPN(5, [5, 5])
    fpn.initialize(mx.init.Zero())
    for name, p in fpn._collect_params_with_prefix().items():
        if name.endswith('weight'):
            kernel = np.zeros(p.shape, np.float32)
            kernel[range(5), range(5), p.shape[2] // 2, p.shape[3] // 2] = 1
            p.set_data(mx.nd.array(kernel))
    fine, coarse, last = fpn(mx.nd.zeros((1, 5, 16, 22)), x)
    np.testing.assert_array_equal(fine.asnumpy(), d['nearest2'])
    np.testing.assert_array_equal(coarse.asnumpy(), d['logits'])
    np.testing.assert_array_equal(last.asnumpy(), d['maxpool_k1s2'])
    pooled = mx.nd.Pooling(x, kernel=(3, 3), stride=(2, 2), pad=(1, 1), pool_type='max')
    np.testing.assert_array_equal(pooled.asnumpy(), d['maxpool_k3s2p1'])


def test_split_transposed_convolution_equals_the_usual_one():
    x = mx.nd.random.normal(shape=(2, 3, 4, 5))
    split = SplitDeconv(6, 3)
    split.initialize(mx.init.Normal(1))
    split.bias.set_data(mx.nd.arange(6))
    usual = mx.nd.Deconvolution(x, split.weight.data(), split.bias.data(), kernel=(2, 2),
                                stride=(2, 2), num_filter=6, no_bias=False).asnumpy()
    parts = split(x).asnumpy().reshape(2, 2, 2, 6, 4, 5)
    for dy, dx in np.ndindex(2, 2):
        np.testing.assert_allclose(parts[:, dy, dx], usual[:, :, dy::2, dx::2], atol=1e-5)


def test_mask_of_a_class_is_the_one_of_its_channel():
    head = MaskHead(4, 3, channels=8)
    head.initialize(mx.init.Normal(0.2))
    x = mx.nd.random.normal(shape=(1, 4, 14, 14))
    each = [head(x, mx.nd.array([c]))[0].asnumpy() for c in range(3)]
    together = head(mx.nd.concat(x, x, x, dim=0), mx.nd.array([2, 0, 1])).asnumpy()
    assert together.shape == (3, 28, 28)
    np.testing.assert_allclose(together, [each[2], each[0], each[1]], atol=1e-5)
    assert np.abs(each[0] - each[1]).max() > 1e-3


@pytest.mark.parametrize('join, channels', [('sum', 64), ('concat', 128), ('sum', 256)])
def test_variants_of_the_semantic_branch(join, channels):
    head = SemanticHead(8, 5, channels, join)
    head.initialize()
    pyramid = [mx.nd.random.normal(shape=(1, 8, 16 >> i, 24 >> i)) for i in range(4)]
    assert head(*pyramid).shape == (1, 5, 16, 24)
    assert head.predictor.weight.shape[1] == channels * (4 if join == 'concat' else 1)


def test_unknown_join():
    with pytest.raises(AdaptisError, match='"product".*concat'):
        SemanticHead(8, 5, join='product')
