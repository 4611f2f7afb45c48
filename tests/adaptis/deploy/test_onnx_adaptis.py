"""The networks of AdaptIS as ONNX models, at other sizes than those they were traced with."""
from __future__ import annotations

import numpy as np
import pytest

from adaptis.deploy.onnx_check import differences
from adaptis.deploy.onnx_export import to_onnx
from adaptis.deploy.stages import Signature, Stage
from adaptis.model.deeplab import DeepLabAdaptIS
from adaptis.model.fpn import FPNAdaptIS
from adaptis.model.unet import ToyAdaptIS
from adaptis.runtime import mx

pytest.importorskip('onnx')
pytest.importorskip('onnxruntime')

RNG = np.random.default_rng(0)


def initialized(net):
    """With statistics and shifts that matter, and let something through every ReLU."""
    mx.random.seed(0)
    net.initialize(mx.init.Xavier())
    for name, parameter in net.collect_params().items():
        if name.endswith(('running_var', 'gamma')):
            parameter.set_data(mx.nd.random.uniform(0.5, 1.5, parameter.shape))
        elif name.endswith(('running_mean', 'beta')):
            parameter.set_data(mx.nd.random.normal(0, 0.3, parameter.shape))
    net.hybridize()
    return net


def encoder_of(net, least):
    outputs = ['features', 'queries', 'semantic', 'proposals'][:3 + net.has_proposals]
    return Stage('features', net.encoder, (Signature('image', (1, 3, 'H', 'W')),), tuple(outputs),
                 {'H': least, 'W': least + 16})


def point_head_of(net, channels, queries, shared):
    share, head = net.point_head.split()
    maps = {name: Signature(name, (1, count, 'h', 'w')) for name, count in (
        ('features', channels), ('queries', queries), ('shared', shared))}
    size = {'h': 9, 'w': 12}
    return (Stage('share', share, (maps['features'],), ('shared',), size),
            Stage('points', head, (maps['shared'], maps['queries'], Signature(
                'points', (1, 'N', 2))), ('logits',), {**size, 'N': 3}))


def image(height, width):
    return RNG.uniform(0, 255, (1, 3, height, width)).astype(np.float32)


def maps(channels, height, width):
    return RNG.normal(size=(1, channels, height, width)).astype(np.float32)


def points(count, height, width):
    return (RNG.uniform(-0.5, 1.5, (1, count, 2)) * [height, width]).astype(np.float32)


def assert_equal(stage, path, *inputs, within=1e-4):
    """``inputs`` of several calls, each a sequence of arrays."""
    to_onnx(stage, path)
    for arrays in inputs:
        found = differences(stage, path, arrays)
        assert list(found) == list(stage.outputs)
        assert all(0 < d.largest and d.relative < within for d in found.values()), found


@pytest.mark.parametrize('options', [{}, {'proposals': False, 'norm_layer': 'SyncBatchNorm'}])
def test_the_toy_encoder_at_any_size(tmp_path, options):
    net = initialized(ToyAdaptIS(width=4, **options))
    assert_equal(encoder_of(net, 16), tmp_path / 'a.onnx', [image(16, 32)], [image(33, 47)],
                 [image(17, 64)])


@pytest.mark.parametrize('coordinates', ['relative', 'absolute', 'none'])
def test_the_toy_point_head_at_any_size_and_number_of_points(tmp_path, coordinates):
    net = initialized(ToyAdaptIS(width=4, coordinates=coordinates))
    share, head = point_head_of(net, 4, 4, 4)
    assert_equal(share, tmp_path / 'a.onnx', [maps(4, 9, 12)], [maps(4, 7, 20)])
    assert_equal(head, tmp_path / 'b.onnx', *(
        [maps(4, *size), maps(4, *size), points(count, *size)]
        for count, size in ((3, (9, 12)), (1, (17, 16)), (8, (16, 31)))))


@pytest.mark.parametrize('network, backbone, sizes', [
    (DeepLabAdaptIS, 'resnet18', [(33, 65), (64, 50)]),
    pytest.param(DeepLabAdaptIS, 'resnext50_32x4d', [(49, 65)], marks=pytest.mark.slow),
    (FPNAdaptIS, 'resnet18', [(67, 129)]),
    pytest.param(FPNAdaptIS, 'resnet50', [(200, 193)], marks=pytest.mark.slow)])
def test_the_encoders_on_backbones_at_any_size(tmp_path, network, backbone, sizes):
    net = initialized(network(width=8, backbone=backbone, num_classes=5, num_stuff=2))
    assert_equal(encoder_of(net, max(net.min_side, 48)), tmp_path / 'a.onnx',
                 *([image(*size)] for size in sizes))


def test_the_point_head_at_a_quarter_of_the_size(tmp_path):
    net = initialized(DeepLabAdaptIS(width=8, backbone='resnet18'))
    share, head = point_head_of(net, 8, 8, 4)
    assert_equal(share, tmp_path / 'a.onnx', [maps(8, 7, 20)])
    assert_equal(head, tmp_path / 'b.onnx', *(
        [maps(4, *size), maps(8, *size), points(count, 4 * size[0], 4 * size[1])]
        for count, size in ((3, (9, 12)), (1, (17, 16)), (8, (16, 31)))))
