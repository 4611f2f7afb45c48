"""The networks of AdaptIS as ONNX models, at other sizes than those they were traced with."""
from __future__ import annotations

import pytest

from adaptis.model.deeplab import DeepLabAdaptIS
from adaptis.model.fpn import FPNAdaptIS
from adaptis.model.stages import export_stages
from adaptis.model.unet import ToyAdaptIS
from tests.adaptis.deploy.onnx_cases import assert_all_equal, initialized

pytest.importorskip('onnx')
pytest.importorskip('onnxruntime')

slow = pytest.mark.slow


@pytest.mark.parametrize('options', [
    {}, dict(coordinates='absolute', proposals=False, norm_layer='SyncBatchNorm'),
    dict(coordinates='none')])
def test_the_toy_network(tmp_path, options):
    net = initialized(ToyAdaptIS(width=4, **options))
    assert_all_equal(export_stages(net), tmp_path, (33, 47), (17, 64))


@pytest.mark.parametrize('network, backbone, sizes', [
    (DeepLabAdaptIS, 'resnet18', [(33, 65), (64, 50)]), (FPNAdaptIS, 'resnet18', [(67, 129)]),
    pytest.param(DeepLabAdaptIS, 'resnext50_32x4d', [(49, 65)], marks=slow),
    pytest.param(FPNAdaptIS, 'resnet50', [(200, 193)], marks=slow)])
def test_the_networks_on_backbones(tmp_path, network, backbone, sizes):
    net = initialized(network(width=8, backbone=backbone, num_classes=5, num_stuff=2))
    assert_all_equal(export_stages(net), tmp_path, *sizes)
