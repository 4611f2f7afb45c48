"""Converters of single operators, with sizes and numbers of dimensions that no network may have."""
from __future__ import annotations

import sys

import numpy as np
import pytest

from adaptis.deploy.onnx_export import onnx_model, to_onnx
from adaptis.deploy.onnx_shapes import new_dimensions
from adaptis.deploy.stages import Signature, Stage, concrete_shape
from adaptis.errors import AdaptisError
from adaptis.runtime import mx
from panoptic_baselines.layers.softmax import channel_softmax
from tests.adaptis.deploy.onnx_check import differences

onnx = pytest.importorskip('onnx')
pytest.importorskip('onnxruntime')

RNG = np.random.default_rng(0)
MAP, MATRIX, VECTOR = ('a', 4, 'b', 'c'), ('a', 'b'), ('a',)
SIZES = dict(a=2, b=3, c=6), dict(a=1, b=7, c=5), dict(a=4, b=1, c=2)


class Function(mx.gluon.HybridBlock):
    """A function of F and arrays as a block."""

    def __init__(self, function):
        super().__init__()
        self._function = function

    def hybrid_forward(self, F, *arrays):
        return self._function(F, *arrays)


def stage_of(function, *shapes, outputs=1):
    inputs = tuple(Signature(f'x{i}', shape) for i, shape in enumerate(shapes))
    return Stage('case', Function(function), inputs, tuple(f'y{i}' for i in range(outputs)),
                 SIZES[0])


CASES = {
    'reshape merge': (lambda F, x: F.reshape(x, (-3, 0, 0)), MAP),
    'reshape merge twice': (lambda F, x: F.reshape(x, (-3, -3)), MAP),
    'reshape merge and rest': (lambda F, x: F.reshape(x, (-3, -1)), MAP),
    'reshape split': (lambda F, x: F.reshape(x, (0, -4, 2, -1, 0, 0)), MAP),
    'reshape split the other way': (lambda F, x: F.reshape(x, (0, -4, -1, 2, -2)), MAP),
    'reshape split in known parts': (lambda F, x: F.reshape(x, (0, -4, 2, 2, -3)), MAP),
    'reshape split off one': (lambda F, x: F.reshape(x, (-4, -1, 1, -2)), MAP),
    'reshape moved': (lambda F, x: F.reshape(x, (1, 0, -1)), MAP),
    'reshape the rest': (lambda F, x: F.reshape(x, (0, 4, -2)), MAP),
    'reshape to a vector': (lambda F, x: F.reshape(x, (-1,)), MAP),
    'reshape_like': (lambda F, x: F.reshape_like(x.reshape((-1,)), x), MAP),
    'reshape_like in part': (lambda F, x: F.reshape_like(
        x.reshape((-3, 0, 0)), x, lhs_begin=0, lhs_end=1, rhs_begin=0, rhs_end=2), MAP),
    'reshape_like at the end': (lambda F, x: F.reshape_like(
        x.reshape((0, 0, -1)), x, lhs_begin=-1, lhs_end=None, rhs_begin=-2, rhs_end=None), MAP),
    'expand_dims': (lambda F, x: F.expand_dims(F.expand_dims(x, -1), 0), MAP),
    'squeeze': (lambda F, x: F.squeeze(F.expand_dims(x, 1), axis=1), MAP),
    'stack': (lambda F, x: F.stack(x, x + 1, x * 2, axis=-1), MAP),
    'broadcast_like': (lambda F, x, y: F.broadcast_like(x, y), (1, 4, 1, 'c'), MAP),
    'broadcast_like of axes': (lambda F, x, y: F.broadcast_like(
        F.expand_dims(x, 1), y, lhs_axes=(1,), rhs_axes=(3,)), MAP, MAP),
    'broadcast_like counted from the end': (lambda F, x, y: F.broadcast_like(
        F.expand_dims(x, -1), y, lhs_axes=(-1,), rhs_axes=(-2,)), MATRIX, MAP),
    'tile': (lambda F, x: F.tile(x, (2, 1, 3)), MAP),
    'tile more dimensions': (lambda F, x: F.tile(x, (2, 3)), VECTOR),
    'repeat': (lambda F, x: F.repeat(x, 3, axis=2), MAP),
    'repeat the first': (lambda F, x: F.repeat(x, 2, axis=0), MAP),
    'repeat the last': (lambda F, x: F.repeat(x, 2, axis=-1), MAP),
    'repeat all': (lambda F, x: F.repeat(x, 2), MAP),
    'slice_axis': (lambda F, x: F.slice_axis(x, axis=-3, begin=1, end=-1), MAP),
    'slice_axis to the end': (lambda F, x: F.slice_axis(x, axis=3, begin=-2, end=None), MAP),
    'slice': (lambda F, x: F.slice(x, (None, 1, 0), (1, None, 2)), MAP),
    'slice with steps': (lambda F, x: F.slice(x, (None, 3, None), (None, None, None),
                                              (1, -2, None)), MAP),
    'slice of everything': (lambda F, x: F.slice(x, (None,), (None,)) + 1, MAP),
    'slice_like': (lambda F, x, y: F.slice_like(F.concat(x, x, dim=3), y, axes=(1, -1)), MAP, MAP),
    'slice_like of all': (lambda F, x, y: F.slice_like(F.tile(x, (3, 2)), y), MATRIX, MATRIX),
    'reverse': (lambda F, x: F.reverse(x, axis=2), MAP),
    'reverse two': (lambda F, x: F.reverse(x, axis=(1, 3)), MAP),
    'crop': (lambda F, x: F.Crop(F.tile(x, (1, 1, 4, 4)), x, offset=(1, 2)), MAP),
    'crop the middle': (lambda F, x: F.Crop(F.tile(x, (1, 1, 4, 3)), x, center_crop=True), MAP),
    'crop to a size': (lambda F, x: F.Crop(F.tile(x, (1, 1, 4, 4)), h_w=(3, 2), offset=(1, 0)),
                       MAP),
    'split': (lambda F, x: F.concat(*F.split(x, num_outputs=2, axis=1), dim=2), MAP),
    'split and squeeze': (lambda F, x: F.concat(*F.split(
        x, num_outputs=4, axis=1, squeeze_axis=True), dim=1), MAP),
    'split for one': (lambda F, x: F.split(x, num_outputs=2, axis=-3)[1], MAP),
    'take': (lambda F, x, i: F.take(x, i * 3, axis=1), MAP, VECTOR),
    'one_hot': (lambda F, x: F.one_hot(F.abs(x), 3, on_value=2, off_value=-1), MATRIX),
    'pad': (lambda F, x: F.pad(x, mode='constant', constant_value=2,
                               pad_width=(0, 0, 0, 0, 1, 2, 3, 0)), MAP),
    'pad by the edge': (lambda F, x: F.pad(x, mode='edge', pad_width=(0, 0, 0, 0, 1, 2, 3, 1)),
                        MAP),
    'arange_like': (lambda F, x: F.contrib.arange_like(x, axis=-2, start=2, step=3), MAP),
    'arange_like of all': (lambda F, x: F.contrib.arange_like(x), MAP),
    'ones_like': (lambda F, x: F.ones_like(x) + F.zeros_like(x), MAP),
    'scalars': (lambda F, x: 3 - (2 / (x + 5)) * 4 + (x - 1) / 7, MAP),
    'scalars of a constant': (lambda F, x: x + (3 - F.ones_like(x)) ** 2 + 2 ** x, MAP),
    'extremes': (lambda F, x: F.maximum(x, 0.2) + F.minimum(x, 0.1), MAP),
    'extremes of two': (lambda F, x, y: F.broadcast_maximum(x, y) + F.broadcast_minimum(x, y)
                        + F.maximum(x, x * 2), MATRIX, (1, 'b')),
    'comparisons': (lambda F, x, y: F.broadcast_greater_equal(x, y) + 2 * F.broadcast_lesser(x, y)
                    + 4 * (x == 0) + 8 * (x != 0) + 16 * (x > 0.1), MATRIX, MATRIX),
    'square': (lambda F, x: F.square(x), MAP),
    'rsqrt': (lambda F, x: F.rsqrt(F.abs(x) + 1), MAP),
    'clip': (lambda F, x: F.clip(x, -0.5, 0.25), MAP),
    'softmax': (lambda F, x: F.softmax(100 * x, axis=1), MAP),
    'softmax over the last axis': (lambda F, x: F.softmax(100 * x), MAP),
    'softmax between transpositions': (lambda F, x: channel_softmax(F, 100 * x), MAP),
    'softmax after another transposition': (lambda F, x: F.softmax(
        F.transpose(100 * x, (2, 0, 3, 1)), axis=1), MAP),
    'sum': (lambda F, x: F.sum(x, axis=(1, -1)), MAP),
    'sum of all': (lambda F, x: F.sum(x), MAP),
    'mean': (lambda F, x: F.mean(x, axis=(2, 3), keepdims=True), MAP),
    'max': (lambda F, x: F.max(x, axis=1), MAP),
    'max of all': (lambda F, x: F.max(x) + F.min(x, axis=(0, 1)), MATRIX),
    'argmax': (lambda F, x: F.argmax(x, axis=1), MAP),
    'dot': (lambda F, x, y: F.dot(x, y, transpose_b=True), MAP, (3, 'c')),
    'dot of a vector': (lambda F, x, y: F.dot(x, y), MAP, ('c',)),
    'dot of vectors': (lambda F, x, y: F.dot(x, y), VECTOR, VECTOR),
    'dot of the other side': (lambda F, x, y: F.dot(x, y, transpose_a=True), MATRIX, MATRIX),
    'batch_dot of rows': (lambda F, x: F.batch_dot(
        F.expand_dims(x, 1), F.expand_dims(x, 1), transpose_b=True), MATRIX),
    'dot of ones': (lambda F, x, y: F.dot(x, F.ones_like(y)), MATRIX, ('b',)),
    'gemm': (lambda F, x, y, z: F.linalg.gemm(x, y, z, alpha=0.5, beta=-2.0),
             MATRIX, ('b', 3), ('a', 3)),
    'gemm of a row of ones': (lambda F, x, y, z: F.linalg.gemm(
        x, F.expand_dims(F.ones_like(y), 0), z, alpha=-1.0), ('a', 1), ('b',), MATRIX),
    'batch_dot': (lambda F, x, y: F.batch_dot(x, y, transpose_a=True, transpose_b=True),
                  ('a', 'b', 'c'), ('a', 5, 'b')),
    'convolution': (lambda F, x, w, b: F.Convolution(
        x, w, b, kernel=(3, 2), stride=(2, 1), dilate=(1, 2), pad=(1, 1), num_group=2,
        num_filter=6), MAP, (6, 2, 3, 2), (6,)),
    'convolution of vectors': (lambda F, x, w: F.Convolution(
        x, w, kernel=(1, 1), num_filter=3, no_bias=True), MAP, (3, 4, 1, 1)),
    'upsampling': (lambda F, x: F.UpSampling(x, scale=3, sample_type='nearest'), MAP),
    'resize like': (lambda F, x, y: F.contrib.BilinearResize2D(x, y, mode='like'),
                    MAP, ('a', 2, 9, 'b')),
    'resize by scales': (lambda F, x: F.contrib.BilinearResize2D(
        x, scale_height=4, scale_width=2, align_corners=False), MAP),
    'resize to a size': (lambda F, x: F.contrib.BilinearResize2D(x, height=5, width=7), MAP),
    'sampler': (lambda F, x, y: F.BilinearSampler(F.pad(x, mode='edge', pad_width=(
        0, 0, 0, 0, 1, 1, 1, 1)), y), MAP, ('a', 2, 3, 'b')),
}


def check(stage, path, arrays_of):
    to_onnx(stage, path)
    for sizes in SIZES:
        found = differences(stage, path, arrays_of(stage, sizes))
        assert all(d.relative < 1e-5 for d in found.values()), (sizes, found)


def random_arrays(stage, sizes):
    return [RNG.normal(size=concrete_shape(s, sizes)).astype(np.float32) for s in stage.inputs]


@pytest.mark.parametrize('case', CASES)
def test_a_converted_operator_equals_mxnets_at_every_size(tmp_path, case):
    function, *shapes = CASES[case]
    check(stage_of(function, *shapes), tmp_path / 'a.onnx', random_arrays)


@pytest.mark.parametrize('options', [
    dict(aligned=True, sample_ratio=-1, spatial_scale=1.0),
    dict(aligned=True, sample_ratio=2, spatial_scale=0.5),
    dict(aligned=False, sample_ratio=1, spatial_scale=1.0)])
def test_roi_align(tmp_path, options):
    """Also of boxes that are partly outside, or very small."""
    def arrays(stage, sizes):
        maps, rois = random_arrays(stage, sizes)
        corners = np.sort(RNG.uniform(-2, 9, (len(rois), 2, 2)), axis=1)
        rois[:, 0], rois[:, 1:] = 0, corners.reshape(-1, 4)
        rois[0, 3:] = rois[0, 1:3] + 0.1
        return [maps, rois]
    stage = stage_of(lambda F, x, rois: F.contrib.ROIAlign(x, rois, pooled_size=(3, 2), **options),
                     (1, 4, 'b', 'c'), ('a', 5))
    check(stage, tmp_path / 'a.onnx', arrays)


def test_statistics_of_maps_lose_no_digits(tmp_path):
    """Sums of many equal numbers are where errors of one kind add up; these are of 64,000."""
    def function(F, x):
        flat = x.reshape((-3, -3))
        ones = F.ones_like(F.slice_axis(flat, axis=0, begin=0, end=1).reshape((-1,)))
        half = F.expand_dims(F.slice_axis(flat, axis=1, begin=0, end=1).reshape((-1,)) / 2, 1)
        less = F.linalg.gemm(half, F.expand_dims(ones, 0), flat, alpha=-1.0)
        return [F.dot(flat, ones), F.dot(F.square(less), ones)]
    stage = stage_of(function, ('a', 2, 'h', 'w'), outputs=2)._replace(
        example={'a': 1, 'h': 4, 'w': 5})
    path = tmp_path / 'a.onnx'
    to_onnx(stage, path)
    x = np.full((1, 2, 320, 200), 0.1, np.float32)
    session = pytest.importorskip('onnxruntime').InferenceSession(str(path))
    total, squares = session.run(None, {'x0': x})
    exact = x.astype(np.float64).sum((2, 3)).ravel()
    np.testing.assert_allclose(total, exact, rtol=3e-6)
    np.testing.assert_allclose(squares, 0.025 * exact, rtol=3e-6)


def test_a_fixed_scale_of_a_norm_is_one(tmp_path):
    block = mx.gluon.nn.BatchNorm(in_channels=4, scale=False)
    block.initialize()
    block.gamma.set_data(mx.nd.array([2, 3, 4, 5]))
    block.running_mean.set_data(mx.nd.array([0.1, 0.2, 0.3, 0.4]))
    stage = stage_of(None, MAP)._replace(block=block)
    check(stage, tmp_path / 'a.onnx', random_arrays)


def test_the_codes_of_a_new_shape():
    assert new_dimensions((0, -4, 8, -1, -3), 4) == [(0,), 8, -1, (2, 3)]
    assert new_dimensions((-3, -3), 4) == [-1, (2, 3)]
    assert new_dimensions((1, -2), 3) == [1, (1,), (2,)]


def test_a_model_has_the_names_of_its_stage_and_its_dimensions():
    stage = stage_of(lambda F, x: [x.reshape((0, 0, -3)), F.sum(x, axis=(2, 3)), x],
                     MAP, outputs=3)
    graph = onnx_model(stage).graph
    shapes = {v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim]
              for v in [*graph.input, *graph.output]}
    assert shapes == {'x0': ['a', 4, 'b', 'c'], 'y0': ['a', 4, 0], 'y1': ['a', 4],
                      'y2': ['a', 4, 'b', 'c']}


def test_equal_nodes_and_constants_are_written_once():
    stage = stage_of(lambda F, x: F.reshape_like((x + 3).reshape((-1,)), x)
                     * F.reshape_like((x + 3).reshape((-1,)), x), MAP)
    graph = onnx_model(stage).graph
    assert sorted(node.op_type for node in graph.node) == [
        'Add', 'Identity', 'Mul', 'Reshape', 'Reshape', 'Shape']
    assert len(graph.initializer) == 2


def test_an_operator_without_translation_is_named():
    stage = stage_of(lambda F, x: F.contrib.fft(x), MATRIX)
    with pytest.raises(AdaptisError, match='stage case .* operator _contrib_fft'):
        onnx_model(stage)
    with pytest.raises(AdaptisError, match='operator Reshape .*reverse=True'):
        onnx_model(stage_of(lambda F, x: F.reshape(x, (-1, 0), reverse=True), MATRIX))


def test_a_missing_package_is_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, 'onnx', None)
    with pytest.raises(AdaptisError, match='pip install onnx'):
        onnx_model(stage_of(lambda F, x: x + 1, MAP))
