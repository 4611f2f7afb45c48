from __future__ import annotations

import numpy as np
import pytest

from adaptis.runtime import mx
from panoptic_baselines.rcnn.roi_align import (
    SparsePooling,
    _pool_by_operator,
    pool_rois,
    roi_levels,
)
from panoptic_baselines.rcnn.sparse_pooling import pool_arrays

pytestmark = pytest.mark.device('cpu:1')

SIZES = {'7x7': (7, 7), '3x5': (3, 5)}


def recoded(feature, box, size, scale):
    """RoIAlign of one box as loops in double precision: (C, H, W) -> (C, *size)."""
    x0, y0, x1, y1 = (v * scale - 0.5 for v in box)
    bins = (y1 - y0) / size[0], (x1 - x0) / size[1]
    grid = [int(np.ceil(b)) for b in bins]
    result = np.zeros((len(feature), *size))
    for row, column in np.ndindex(*size):
        for i, j in np.ndindex(*grid):
            y = y0 + bins[0] * (row + (i + 0.5) / grid[0])
            x = x0 + bins[1] * (column + (j + 0.5) / grid[1])
            result[:, row, column] += bilinear(feature, y, x) / (grid[0] * grid[1])
    return result


def bilinear(feature, y, x):
    _, height, width = feature.shape
    if not (-1 <= y <= height and -1 <= x <= width):
        return 0
    y, x = np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)
    top, left = int(y), int(x)
    below, right = min(top + 1, height - 1), min(left + 1, width - 1)
    return ((top + 1 - y) * ((left + 1 - x) * feature[:, top, left]
                             + (x - left) * feature[:, top, right])
            + (y - top) * ((left + 1 - x) * feature[:, below, left]
                           + (x - left) * feature[:, below, right]))


@pytest.mark.parametrize('size', SIZES)
def test_it_is_the_official_one(kit, size):
    d = np.load(kit / 'ops' / 'roi_align.npz')   # some boxes are tiny, flat, or outside
    pooling = SparsePooling(d['rois'], np.zeros(20, int), SIZES[size], [4])
    found = pooling(mx.nd.array(d['x'])).asnumpy()
    np.testing.assert_allclose(found, d[f'out_aligned1_sr0_{size}'], atol=5e-5)


def test_gradient_is_the_official_one(kit):
    d = np.load(kit / 'ops' / 'roi_align.npz')
    x = mx.nd.array(d['x'])
    x.attach_grad()
    with mx.autograd.record():
        pooled = SparsePooling(d['rois'], np.zeros(20, int), (7, 7), [4])(x)
        loss = (pooled * mx.nd.array(d['grad_weight'])).sum()
    loss.backward()
    expected = d['grad_x_aligned1_sr0_7x7']
    np.testing.assert_allclose(x.grad.asnumpy(), expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize('aligned', [0, 1])
@pytest.mark.parametrize('samples', [0, 2])
@pytest.mark.parametrize('size', SIZES)
def test_the_operator_of_mxnet_is_official_too(kit, aligned, samples, size):
    """It is used on GPUs; boxes without area stop it there, and MXNet with it."""
    d = np.load(kit / 'ops' / 'roi_align.npz')
    rois = d['rois']
    solid = (rois[:, 3:] > rois[:, 1:3]).all(axis=1)
    found = mx.nd.contrib.ROIAlign(
        mx.nd.array(d['x']), mx.nd.array(rois[solid]), pooled_size=SIZES[size],
        spatial_scale=float(d['spatial_scale']), sample_ratio=samples or -1, aligned=bool(aligned))
    expected = d[f'out_aligned{aligned}_sr{samples}_{size}'][solid]
    np.testing.assert_allclose(found.asnumpy(), expected, atol=5e-5)


def test_levels_and_pyramid_pooling_are_the_official_ones(kit):
    d = np.load(kit / 'ops' / 'fpn_levels.npz')
    np.testing.assert_array_equal(roi_levels(d['level_boxes']), d['level'])
    features = [mx.nd.array(d[f'feat_p{level}']) for level in range(2, 6)]
    boxes = [d['boxes_img0'], d['boxes_img1']]
    np.testing.assert_array_equal(roi_levels(np.concatenate(boxes)), d['pooled_level'])
    for size in (7, 14):
        found = pool_rois(features, boxes, size).asnumpy()
        np.testing.assert_allclose(found, d[f'pooled_{size}'], atol=5e-5)


@pytest.fixture(scope='module')
def pyramid():
    rng = np.random.default_rng(0)
    return [rng.normal(size=(2, 3, 32 >> i, 24 >> i)).astype(np.float32) for i in range(4)]


def test_a_recoded_one_agrees(pyramid):
    boxes = np.array([[3.2, 5.1, 30.7, 21.3], [0, 0, 100, 130], [60, 70, 140, 150],
                      [-50, -60, -20, -30], [10, 20, 13, 90], [-200, -200, 400, 400]], np.float32)
    levels = roi_levels(boxes)
    assert set(levels) == {0, 1, 3}
    rois = np.concatenate([np.ones((len(boxes), 1), np.float32), boxes], axis=1)
    found = SparsePooling(rois, levels, (4, 3), (4, 8, 16, 32))(*map(mx.nd.array, pyramid))
    for box, level, actual in zip(boxes, levels, found.asnumpy()):
        expected = recoded(pyramid[level][1].astype(float), box, (4, 3), 1 / (4 << level))
        np.testing.assert_allclose(actual, expected, atol=1e-5)
    assert not found[3].asnumpy().any()   # outside of the image


def test_the_operator_and_the_matrix_agree_with_gradients(pyramid):
    boxes = np.array([[3.2, 5.1, 30.7, 21.3], [0, 0, 96, 128], [9, 9, 9, 30]], np.float32)
    rois = np.concatenate([np.array([[1], [0], [1]], np.float32), boxes], axis=1)
    levels, results = roi_levels(boxes), []
    for pool in (lambda *f: SparsePooling(rois, levels, (7, 7), (4, 8, 16, 32))(*f),
                 lambda *f: _pool_by_operator(f, rois, levels, 7, (4, 8, 16, 32))):
        features = [mx.nd.array(f) for f in pyramid]
        for feature in features:
            feature.attach_grad()
        with mx.autograd.record():
            pooled = pool(*features)
            loss = (pooled ** 2).sum()
        loss.backward()
        results.append([pooled, *(feature.grad for feature in features)])
    for ours, operators in zip(*results):
        np.testing.assert_allclose(ours.asnumpy(), operators.asnumpy(), atol=1e-4)
    assert not results[0][0][2].asnumpy().any()   # a box without width has no samples


def test_no_boxes(pyramid):
    found = pool_rois([mx.nd.array(f) for f in pyramid], [np.zeros((0, 4), np.float32)] * 2, 7)
    assert found.shape == (0, 3, 7, 7)


def test_arrays_of_onnx_runtime_are_pooled_like_those_of_mxnet():
    rng = np.random.default_rng(1)
    features = [rng.normal(size=(2, 3, 64 >> i, 96 >> i)).astype(np.float32) for i in range(4)]
    corners = rng.uniform(-20, 300, (2, 9, 4)).astype(np.float32)
    corners[..., 2:] = corners[..., :2] + rng.uniform(1, 300, (2, 9, 2))
    corners[0, 0, 2] = corners[0, 0, 0]   # no width
    expected = pool_rois([mx.nd.array(f) for f in features], list(corners), 7).asnumpy()
    found = pool_arrays(features, list(corners), 7)
    np.testing.assert_array_equal(found, expected)
    assert not found[0].any() and found[1].any()
