"""The four other systems as ONNX models, at other sizes than those they were traced with."""
from __future__ import annotations

import numpy as np
import pytest

from adaptis.deploy.onnx_check import differences
from adaptis.deploy.onnx_export import to_onnx
from adaptis.deploy.stages import Signature, Stage, concrete_shape
from adaptis.runtime import mx
from panoptic_baselines.condinst import CondInst
from panoptic_baselines.dense_detections import DenseDetections
from panoptic_baselines.layers.affinity import ACTIVATIONS, Affinity
from panoptic_baselines.layers.dynamic_mask import DynamicMaskHead
from panoptic_baselines.layers.potential import Potential
from panoptic_baselines.panoptic_fpn import PanopticFPN
from panoptic_baselines.unified import Unified

pytest.importorskip('onnx')
pytest.importorskip('onnxruntime')

slow = pytest.mark.slow
RNG = np.random.default_rng(0)
IMAGE = Signature('image', (1, 3, 'H', 'W'))
SIZE = {'H': 64, 'W': 96}
SMALL = dict(backbone='resnet18', num_things=2, num_stuff=3, fpn_channels=8)
TWO_STAGE = dict(SMALL, semantic_channels=32, box_channels=16, mask_channels=8)
CONDINST = dict(SMALL, branch_channels=8, semantic_channels=32, head_depth=1)
DENSE = dict(SMALL, class_channels=8, box_channels=8)


def initialized(block):
    """With statistics, shifts and places to look at that matter."""
    mx.random.seed(0)
    block.initialize(mx.init.Xavier())
    for name, parameter in block.collect_params().items():
        if name.endswith(('running_var', 'gamma')):
            parameter.set_data(mx.nd.random.uniform(0.5, 1.5, parameter.shape))
        elif name.endswith(('running_mean', 'beta', 'conv0_bias')):
            parameter.set_data(mx.nd.random.normal(0, 0.3, parameter.shape))
    block.hybridize()
    return block


def boxes(count, height, width):
    """float32 (N, 4) inside of an image and beyond, of all lengths."""
    corners = RNG.uniform(-0.2, 1.2, (count, 2, 2)) * [width, height]
    return np.sort(corners, axis=1).reshape(count, 4).astype(np.float32)


def stage_of(block, outputs, example, **shapes):
    return Stage('stage', block, tuple(Signature(n, s) for n, s in shapes.items()),
                 tuple(f'output{i}' for i in range(outputs)), example)


def random_inputs(stage, **values):
    """Images from 0 to 255, classes from 0 to 1, boxes, and normal numbers for all others."""
    arrays = []
    for signature in stage.inputs:
        shape = concrete_shape(signature, values)
        array = RNG.normal(size=shape).astype(np.float32)
        if signature.name == 'image':
            array = RNG.uniform(0, 255, shape).astype(np.float32)
        elif signature.name == 'classes':
            array = RNG.integers(0, 2, shape).astype(np.float32)
        elif signature.name == 'boxes':
            array = boxes(shape[0], 64, 96)
        elif signature.name == 'dense_boxes':
            array = boxes(shape[1] * shape[2], 64, 96).T.reshape(shape)
        elif signature.name in ('probabilities', 'scores', 'masks'):
            array = RNG.uniform(size=shape).astype(np.float32)
        arrays.append(array)
    return arrays


def assert_equal(stage, path, *sizes, within=1e-4):
    """Up to 1e-4 of the largest value, at sizes by their names."""
    to_onnx(stage, path)
    for values in sizes:
        found = differences(stage, path, random_inputs(stage, **values))
        assert list(found) == list(stage.outputs)
        assert all(d.relative < within for d in found.values()), found
        assert np.median([d.largest for d in found.values()]) > 0, found


def encoder_of(net, *sizes):
    encoder = initialized(getattr(net, 'encoder', net))
    count = len(encoder(mx.nd.zeros((1, 3, 64, 64))))
    return stage_of(encoder, count, SIZE, image=IMAGE.shape)


@pytest.mark.parametrize('options', [
    dict(grouped_fpn=True, fpn_channels=16, semantic_join='concat'),
    pytest.param({}, marks=slow),
    pytest.param(dict(semantic=False, norm_layer='SyncBatchNorm'), marks=slow)])
def test_the_encoder_of_panoptic_fpn(tmp_path, options):
    stage = encoder_of(PanopticFPN(**{**TWO_STAGE, **options}))
    assert_equal(stage, tmp_path / 'a.onnx', {'H': 96, 'W': 64}, {'H': 32, 'W': 128})


def test_the_heads_of_mask_rcnn_for_any_number_of_boxes(tmp_path):
    net = initialized(PanopticFPN(**TWO_STAGE))
    box_head = stage_of(net.box_head, 2, {'N': 3}, pooled=('N', 8, 7, 7))
    mask_head = stage_of(net.mask_head, 1, {'N': 3}, pooled=('N', 8, 14, 14), classes=('N',))
    for stage in (box_head, mask_head):
        assert_equal(stage, tmp_path / 'a.onnx', {'N': 3}, {'N': 1}, {'N': 11})


@pytest.mark.parametrize('options', [
    dict(backbone='dla34', levels=3, bifpn_repeats=1, head_norm='BatchNorm', share_depth=1),
    dict(deformable_stages=(4,), deformable_interval=2, mask_channels=0, head_depth=0),
    pytest.param(dict(semantic=True), marks=slow),
    pytest.param(dict(bifpn_repeats=2, semantic=True, semantic_join='plain'), marks=slow),
    pytest.param(dict(deformable_stages=(3,), modulated=False), marks=slow)])
def test_the_encoder_of_condinst(tmp_path, options):
    stage = encoder_of(CondInst(**{**CONDINST, **options}))
    assert_equal(stage, tmp_path / 'a.onnx', {'H': 96, 'W': 64}, {'H': 32, 'W': 128})


@pytest.mark.parametrize('options', [
    {}, dict(factor=4, channels=4), dict(factor=1, coordinates='absolute', depth=1),
    dict(coordinates=None), dict(in_channels=0)])
def test_the_dynamic_mask_head(tmp_path, options):
    head = initialized(DynamicMaskHead(**options))
    shapes = {'features': (1, head._in_channels or 3, 'h', 'w'), 'params': ('N', head.num_params)}
    shapes.update(locations=('N', 2), sizes=('N', 1))
    stage = stage_of(head, 1, {'h': 5, 'w': 8, 'N': 3}, **shapes)
    assert_equal(stage, tmp_path / 'a.onnx', {'h': 7, 'w': 4, 'N': 1}, {'h': 1, 'w': 9, 'N': 6})


@pytest.mark.parametrize('options', [
    {}, pytest.param(dict(towers=1, levelness=False, semantic_stride=4), marks=slow),
    pytest.param(dict(towers=1), marks=slow), pytest.param(dict(levelness=False), marks=slow)])
def test_dense_detections(tmp_path, options):
    net = initialized(DenseDetections(**{**DENSE, **options}))
    count = len(net(mx.nd.zeros((1, 3, 64, 64))))
    stage = stage_of(net, count, SIZE, image=IMAGE.shape)
    assert_equal(stage, tmp_path / 'a.onnx', {'H': 96, 'W': 64}, {'H': 75, 'W': 133})


@pytest.mark.parametrize('kind', ['giou_masks', 'iou_masks'])
def test_the_masks_of_dense_detections(tmp_path, kind):
    net = initialized(DenseDetections(**DENSE))
    stage = stage_of(getattr(net, kind), 1, {'h': 5, 'w': 8, 'N': 3}, dense_boxes=(4, 'h', 'w'),
                     things=(2, 'h', 'w'), boxes=('N', 4), classes=('N',))
    assert_equal(stage, tmp_path / 'a.onnx', {'h': 7, 'w': 4, 'N': 1}, {'h': 1, 'w': 9, 'N': 6})


@pytest.mark.parametrize('options', [
    dict(affinity=False, masks=False), pytest.param({}, marks=slow),
    pytest.param(dict(deformable=False, squeeze=False), marks=slow)])
def test_the_encoder_of_unified(tmp_path, options):
    stage = encoder_of(Unified(affinity_channels=8, **{**TWO_STAGE, **options}))
    assert_equal(stage, tmp_path / 'a.onnx', {'H': 96, 'W': 64}, {'H': 32, 'W': 128})


@pytest.mark.parametrize('variant, damp', [
    ('boxes', True), ('A', True), ('B', True), ('C', True), ('C', False)])
def test_the_potential(tmp_path, variant, damp):
    block = initialized(Potential(3, variant, damp))
    shapes = {'probabilities': (1, 5, 'h', 'w'), 'boxes': ('N', 4), 'classes': ('N',),
              'scores': ('N',), 'masks': ('N', 28, 28)}
    if variant == 'A':
        del shapes['scores']
    if variant == 'boxes':
        del shapes['masks']
    stage = stage_of(_Positional(block, shapes), 1, {'h': 5, 'w': 8, 'N': 3}, **shapes)
    assert_equal(stage, tmp_path / 'a.onnx', {'h': 16, 'w': 24, 'N': 1},
                 {'h': 7, 'w': 9, 'N': 6})


class _Positional(mx.gluon.HybridBlock):
    """A potential whose inputs are those it uses."""

    def __init__(self, potential, names):
        super().__init__()
        self._names, self.potential = list(names), potential

    def hybrid_forward(self, F, *arrays):
        given = dict(zip(self._names, arrays))
        return self.potential(*(given.get(name) for name in (
            'probabilities', 'boxes', 'classes', 'scores', 'masks')))


@pytest.mark.parametrize('activation', ACTIVATIONS)
def test_the_affinity(tmp_path, activation):
    block = initialized(Affinity(8, activation))
    stage = stage_of(block, 1, {'h': 5, 'w': 8, 'K': 3}, features=(1, 8, 'h', 'w'),
                     potentials=(1, 'K', 'h', 'w'))
    assert_equal(stage, tmp_path / 'a.onnx', {'h': 7, 'w': 4, 'K': 1}, {'h': 1, 'w': 9, 'K': 6})
