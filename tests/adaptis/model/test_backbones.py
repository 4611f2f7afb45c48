"""Backbones of GluonCV: where they are cut, dilation, initial weights."""
from __future__ import annotations

import json

import numpy as np
import pytest

import adaptis.runtime
from adaptis.errors import AdaptisError
from adaptis.model import get_model, load_model, save_model
from adaptis.model.backbones import BACKBONES, make_trunk
from adaptis.runtime import mx


def stages(backbone, dilated, image):
    mx.random.seed(0)
    trunk = make_trunk(backbone, dilated, pretrained=False)
    trunk.initialize(mx.init.Xavier())
    for name, parameter in trunk.collect_params().items():
        if name.endswith('gamma'):   # GluonCV's ResNeXt starts some with 0, where nothing shows
            parameter.set_data(mx.nd.random.uniform(0.5, 1, parameter.shape))
    return [stage.asnumpy() for stage in trunk(image)]


@pytest.mark.parametrize('backbone', ['resnet18', 'resnext50_32x4d'])
def test_dilation_only_adds_pixels_between(backbone):
    """Where the plain network has a pixel, the dilated one has the same value."""
    image = mx.nd.random.normal(shape=(1, 3, 65, 33))
    plain, dilated = stages(backbone, False, image), stages(backbone, True, image)
    assert [s.shape[2:] for s in plain] == [(17, 9), (9, 5), (5, 3), (3, 2)]
    assert [s.shape[2:] for s in dilated] == [(17, 9), (9, 5), (9, 5), (9, 5)]
    assert [s.shape[1] for s in dilated] == list(BACKBONES[backbone].channels)
    for i, step in ((0, 1), (1, 1), (2, 2), (3, 4)):
        scale = np.abs(plain[i]).max()
        assert scale > 0
        np.testing.assert_allclose(dilated[i][..., ::step, ::step] / scale, plain[i] / scale,
                                   atol=1e-5)


@pytest.mark.parametrize('backbone', ['resnet34', 'resnet101', 'resnext101_64x4d'])
def test_nothing_is_left_of_the_classifier(backbone):
    trunk = make_trunk(backbone, True, pretrained=False)
    names = trunk._collect_params_with_prefix()
    assert not [n for n in names if not n.startswith(('stem.', 'stages.'))]
    assert all(0 not in parameter.shape for parameter in trunk.collect_params().values())


@pytest.fixture
def zoo(tmp_path, monkeypatch):
    """GluonCV's model store, holding a ResNet-18 with random values; returns those, by name."""
    store = adaptis.runtime.gluoncv.model_zoo.model_store
    net = adaptis.runtime.gluoncv.model_zoo.resnet18_v1b()
    net.initialize(mx.init.Normal(0.5))
    net(mx.nd.zeros((1, 3, 32, 32)))
    net.save_parameters(str(tmp_path / 'zoo.params'))
    asked = []
    monkeypatch.setattr(store, 'get_model_file',
                        lambda name, **_: asked.append(name) or str(tmp_path / 'zoo.params'))
    values = {n: p.data().asnumpy() for n, p in net._collect_params_with_prefix().items()}
    return asked, values


def first_convolution(net):
    return net.encoder.backbone.trunk.stem[0].weight


@pytest.mark.parametrize('initialize', [
    lambda net: net.initialize(mx.init.Xavier()),
    lambda net: net.collect_params().initialize(mx.init.Zero(), ctx=[mx.cpu(0), mx.cpu(1)]),
    lambda net: (net.initialize(), net.initialize(force_reinit=True))])
def test_imagenet_weights_survive_initialisation(zoo, initialize):
    asked, values = zoo
    net = get_model('adaptis_fpn', backbone='resnet18', width=16, pretrained_base=True)
    initialize(net)
    assert asked == ['resnet18_v1b']
    for data in first_convolution(net).list_data():
        np.testing.assert_array_equal(data.asnumpy(), values['conv1.weight'])
    last = net.encoder.backbone.trunk.stages[3][1].bn2
    np.testing.assert_array_equal(last.gamma.data().asnumpy(), values['layer4.1.bn2.gamma'])


def test_a_saved_network_asks_for_no_download(zoo, tmp_path):
    asked, _ = zoo
    net = get_model('adaptis_deeplab', backbone='resnet18', width=16, pretrained_base=True,
                    norm_layer='SyncBatchNorm', norm_kwargs={'num_devices': 4, 'momentum': 0.8})
    net.initialize()
    first_convolution(net).set_data(first_convolution(net).data() * 2)
    save_model(net, tmp_path / 'net.params')
    described = json.loads((tmp_path / 'net.json').read_text())['model']
    assert described == {'name': 'adaptis_deeplab', 'backbone': 'resnet18', 'width': 16,
                         'norm_layer': 'BatchNorm', 'norm_kwargs': {'momentum': 0.8}}
    asked.clear()
    loaded = load_model(tmp_path / 'net.params')
    assert not asked
    np.testing.assert_array_equal(first_convolution(loaded).data().asnumpy(),
                                  first_convolution(net).data().asnumpy())


def test_nothing_is_downloaded_unasked(zoo):
    asked, values = zoo
    net = get_model('adaptis_fpn', backbone='resnet18', width=16)
    net.initialize()
    assert not asked
    assert (first_convolution(net).data().asnumpy() != values['conv1.weight']).any()


def test_a_download_that_fails_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv('MXNET_HOME', str(tmp_path))
    monkeypatch.setenv('MXNET_GLUON_REPO', 'http://127.0.0.1:9/')
    with pytest.raises(AdaptisError, match=r'resnet50_v1s-25a187fa\.params into .*pretrained_base'):
        get_model('adaptis_deeplab', pretrained_base=True)


def test_backbone_parameters_are_a_group():
    net = get_model('adaptis_deeplab', backbone='resnet18', width=16)
    inside = set(net.backbone_params().keys())
    assert inside == set(net.encoder.backbone.trunk.collect_params().keys())
    assert not inside & set(net.point_head.collect_params().keys())
    assert not list(get_model('adaptis_toy', width=4).backbone_params().keys())
