"""DLA-34 against GluonCV's, and what backbones have in common."""
from __future__ import annotations

import numpy as np
import pytest

from adaptis.errors import AdaptisError
from adaptis.runtime import gluoncv, mx
from panoptic_baselines.convert.backbones import dla_name
from panoptic_baselines.layers.backbones import BACKBONES, make_backbone
from panoptic_baselines.layers.dla import DLA34

PUBLISHED = 15742104   # parameters with the classifier, without the two unused projections


def official(structural):
    """What the official implementation calls a parameter of GluonCV's."""
    return structural.replace('.gamma', '.weight').replace('.beta', '.bias')


@pytest.fixture(scope='module')
def net():
    mx.random.seed(0)
    net = make_backbone('dla34', 'BatchNorm')
    net.initialize(mx.init.Xavier('gaussian', magnitude=3))
    for name, parameter in net._collect_params_with_prefix().items():
        if not name.endswith('.weight'):
            parameter.set_data(mx.nd.random.uniform(0.5, 1.5, parameter.shape))
    return net


def test_features_are_those_of_gluoncv(net):
    theirs = gluoncv.model_zoo.dla.dla34(use_feature=True)
    theirs.initialize()
    x = mx.nd.random.normal(shape=(2, 3, 64, 96))
    theirs(x)
    ours = net._collect_params_with_prefix()
    names = {name: dla_name(official(name)) for name in theirs._collect_params_with_prefix()}
    assert sorted(names.values()) == sorted(ours)
    for name, parameter in theirs._collect_params_with_prefix().items():
        parameter.set_data(ours[names[name]].data())
    expected = [x.asnumpy() for x in theirs(x)[2:]]
    net.hybridize()
    for actual, wanted, channels in zip(net(x), expected, net.channels):
        assert actual.shape[1] == channels
        np.testing.assert_allclose(actual.asnumpy(), wanted, atol=1e-4 * wanted.std())


def test_size_and_names(net):
    count = sum(int(np.prod(p.shape)) for name, p in net.collect_params().items()
                if 'running' not in name)
    assert count == PUBLISHED - 512 * 1000 - 1000
    assert dla_name('level3.tree1.project.1.running_var') == 'level3.tree1.project.norm.running_var'
    assert dla_name('level4.tree2.root.bn.weight') == 'level4.tree2.root.norm.gamma'
    for unused in ('level3.project.0.weight', 'level4.project.1.bias', 'fc.weight',
                   'base_layer.1.num_batches_tracked'):
        assert dla_name(unused) is None


def test_gradients_reach_everything(net):
    net.hybridize()
    for size in ((64, 96), (32, 64)):
        with mx.autograd.record():
            features = net(mx.nd.random.normal(shape=(2, 3, *size)))
            sum((f ** 2 * mx.nd.random.normal(shape=f.shape)).sum() for f in features).backward()
        assert [f.shape[2:] for f in features] == [(size[0] >> i, size[1] >> i)
                                                   for i in range(2, 6)]
        for name, parameter in net._collect_params_with_prefix().items():
            assert parameter.grad_req == 'null' or np.abs(
                parameter.grad().asnumpy()).max() > 0, name


def test_freezing():
    net = DLA34()
    net.freeze(2)
    assert {name.split('.')[0] for name, p in net._collect_params_with_prefix().items()
            if p.grad_req != 'null'} == {'level3', 'level4', 'level5'}
    with pytest.raises(AdaptisError, match='5 stages'):
        net.freeze(6)


def test_backbones_by_name():
    assert 'dla34' in BACKBONES and 'resnet50' in BACKBONES
    assert make_backbone('resnet18', deformable_stages=[5]).res5[0].conv2.offset
    assert make_backbone('resnext101_32x8d').std != make_backbone('resnet18').std == (1, 1, 1)
    with pytest.raises(AdaptisError, match='"vgg".*dla34'):
        make_backbone('vgg')
    with pytest.raises(AdaptisError, match='dla34 is not a ResNet'):
        make_backbone('dla34', deformable_stages=[3])
