"""The four other systems as ONNX models, at other sizes than those they were traced with."""
from __future__ import annotations

import numpy as np
import pytest

from adaptis.deploy.onnx_export import onnx_model, to_onnx
from adaptis.deploy.stages import Signature, Stage
from adaptis.registry import find_family
from adaptis.runtime import mx
from panoptic_baselines.condinst.mask_head import DynamicMaskHead
from panoptic_baselines.condinst.network import CondInst
from panoptic_baselines.dense_detections.network import DenseDetections
from panoptic_baselines.layers.deformable import DeformableConvNorm
from panoptic_baselines.panoptic_fpn.network import PanopticFPN
from panoptic_baselines.unified.affinity import ACTIVATIONS, Affinity
from panoptic_baselines.unified.network import Unified
from panoptic_baselines.unified.potential import Potential
from panoptic_baselines.unified.stages import potential_stage
from tests.adaptis.deploy.onnx_cases import assert_all_equal, assert_equal, initialized

pytest.importorskip('onnx')
pytest.importorskip('onnxruntime')

SMALL = dict(backbone='resnet18', num_things=2, num_stuff=3, fpn_channels=8)
TWO_STAGE = dict(SMALL, semantic_channels=32, box_channels=16, mask_channels=8)
CONDINST = dict(SMALL, branch_channels=8, semantic_channels=32, head_depth=1)
DENSE = dict(SMALL, class_channels=8, box_channels=8)


def slow(**options):
    return pytest.param(options, marks=pytest.mark.slow)


@pytest.mark.parametrize('options', [
    dict(grouped_fpn=True, fpn_channels=16, semantic_join='concat'), slow(),
    slow(semantic=False, norm_layer='SyncBatchNorm', norm_kwargs={'num_devices': 1}),
    slow(instances=False, merge_things=False)])
def test_panoptic_fpn(tmp_path, options):
    net = initialized(PanopticFPN(**{**TWO_STAGE, **options}))
    assert_all_equal(find_family('panoptic_fpn').export_stages(net), tmp_path, (96, 64), (32, 128))


@pytest.mark.parametrize('options', [
    dict(backbone='dla34', levels=3, bifpn_repeats=1, head_norm='BatchNorm', share_depth=1),
    dict(deformable_stages=(4,), deformable_interval=2, mask_channels=0, head_depth=0),
    slow(semantic=True), slow(bifpn_repeats=2, semantic=True, semantic_join='plain'),
    slow(deformable_stages=(3,), modulated=False)])
def test_condinst(tmp_path, options):
    net = initialized(CondInst(**{**CONDINST, **options}))
    assert_all_equal(find_family('condinst').export_stages(net), tmp_path, (96, 64), (32, 128))


@pytest.mark.parametrize('options', [
    dict(levelness=False), slow(), slow(towers=1),
    slow(towers=1, levelness=False, semantic_stride=4)])
def test_dense_detections(tmp_path, options):
    net = initialized(DenseDetections(**{**DENSE, **options}))
    stages = find_family('dense_detections').export_stages(net)
    assert_all_equal(stages, tmp_path, (75, 133), (96, 64))


@pytest.mark.parametrize('options', [
    dict(affinity_channels=8, affinity=False, potential='C'), slow(masks=False),
    slow(deformable=False, squeeze=False, potential='A')])
def test_unified(tmp_path, options):
    net = initialized(Unified(**{**TWO_STAGE, **options}))
    assert_all_equal(find_family('unified').export_stages(net), tmp_path, (96, 64), (32, 128))


@pytest.mark.parametrize('options', [
    {}, dict(factor=4, channels=4), dict(factor=1, coordinates='absolute', depth=1),
    dict(coordinates=None), dict(in_channels=0)])
def test_the_dynamic_mask_head(tmp_path, options):
    head = initialized(DynamicMaskHead(**options))
    stage = stage_of(head, features=(1, head.in_channels or 3, 'h', 'w'),
                     params=('N', head.num_params), locations=('N', 2), sizes=('N', 1))
    assert_equal(stage, tmp_path / 'a.onnx', {'h': 7, 'w': 4, 'N': 1}, {'h': 1, 'w': 9, 'N': 6})


@pytest.mark.parametrize('options', [
    dict(variant='boxes'), dict(variant='A'), dict(variant='B'), dict(variant='C'),
    dict(variant='C', damp_masks=False)])
def test_the_potential(tmp_path, options):
    potential = Potential(3, **options)
    stage = potential_stage(potential, 5)
    assert_equal(stage, tmp_path / 'a.onnx', {'h': 16, 'w': 24, 'N': 1},
                 {'h': 7, 'w': 9, 'N': 6})


@pytest.mark.parametrize('activation', ACTIVATIONS)
def test_the_affinity(tmp_path, activation):
    stage = stage_of(initialized(Affinity(8, activation)), features=(1, 8, 'h', 'w'),
                     potentials=(1, 'K', 'h', 'w'))
    assert_equal(stage, tmp_path / 'a.onnx', {'h': 7, 'w': 4, 'K': 1}, {'h': 1, 'w': 9, 'K': 6})


@pytest.mark.parametrize('options', [
    {}, dict(strides=2), dict(modulated=False), dict(strides=2, modulated=False), dict(groups=2)])
def test_a_deformable_convolution(tmp_path, options):
    """Offsets reach far beyond the image; two images, of the smallest size, too."""
    stage = deformable_stage(**options)
    weight = stage.block.offset.weight
    weight.set_data(mx.nd.random.normal(0, 2, weight.shape))
    assert_equal(stage, tmp_path / 'a.onnx', {'B': 2, 'h': 15, 'w': 20}, {'B': 1, 'h': 1, 'w': 1})
    kinds = {node.op_type for node in onnx_model(stage).graph.node}
    assert ('GridSample' in kinds) == ('groups' in options)


def test_a_deformable_convolution_with_endless_offsets(tmp_path):
    stage = deformable_stage()
    offsets = np.zeros(27)
    offsets[:8] = np.inf, 0, 0, -np.inf, 1e30, 0, 0, -1e30
    stage.block.offset.bias.set_data(mx.nd.array(offsets))
    assert_equal(stage, tmp_path / 'a.onnx', {'B': 1, 'h': 7, 'w': 8})
    stage.block.offset.bias.set_data(mx.nd.array(offsets * np.nan))
    to_onnx(stage, tmp_path / 'a.onnx')
    session = pytest.importorskip('onnxruntime').InferenceSession(str(tmp_path / 'a.onnx'))
    output, = session.run(None, {'features': np.ones((1, 4, 7, 8), np.float32)})
    assert np.isnan(output).all()


def deformable_stage(**options):
    block = initialized(DeformableConvNorm(6, 4, norm_layer='BatchNorm', relu=False, **options))
    return stage_of(block, features=('B', 4, 'h', 'w'))._replace(example={'B': 3, 'h': 5, 'w': 8})


def stage_of(block, **shapes):
    return Stage('stage', block, tuple(Signature(*item) for item in shapes.items()), ('output',),
                 {'h': 5, 'w': 8, 'N': 3, 'K': 2})
