from __future__ import annotations

import numpy as np
import pytest

from panoptic_baselines.layers.boxes import (
    MAX_LOG_SCALE,
    area,
    clip,
    decode,
    encode,
    nonempty,
    pairwise_iou,
    scale,
)
from panoptic_baselines.rcnn.anchors import cell_anchors, grid_anchors

WEIGHTS = {'rpn': (1, 1, 1, 1), 'box': (10, 10, 5, 5)}


def boxes(*rows):
    return np.array(rows, np.float32)


@pytest.mark.parametrize('kind', WEIGHTS)
def test_deltas_are_the_official_ones(kit, kind):
    d, weights = np.load(kit / 'ops' / 'boxes.npz'), WEIGHTS[kind]
    np.testing.assert_allclose(encode(d['src'], d['tgt'], weights), d[f'encode_{kind}'],
                               rtol=1e-6, atol=1e-5)
    for classes in '1K':
        found = decode(d[f'deltas{classes}'], d['src'], weights)
        np.testing.assert_allclose(found, d[f'decode{classes}_{kind}'], rtol=1e-6, atol=1e-3)


def test_geometry_is_the_official_one(kit):
    d = np.load(kit / 'ops' / 'boxes.npz')
    cut = clip(d['clip_in'], tuple(d['clip_size_hw']))
    np.testing.assert_array_equal(cut, d['clip_out'])
    np.testing.assert_array_equal(nonempty(cut), d['nonempty'])
    np.testing.assert_array_equal(area(cut), d['area'])
    np.testing.assert_allclose(pairwise_iou(d['iou_a'], d['iou_b']), d['iou'], atol=1e-7)
    assert pytest.approx(float(d['scale_clamp'])) == MAX_LOG_SCALE


def test_anchors_are_the_official_ones(kit):
    d = np.load(kit / 'ops' / 'anchors.npz')
    for i, shape in enumerate(d['grid_hw']):
        np.testing.assert_allclose(cell_anchors(32 * 2 ** i), d[f'cell_p{i + 2}'], atol=1e-4)
        grid = grid_anchors(tuple(shape), 4 * 2 ** i, 32 * 2 ** i)
        np.testing.assert_allclose(grid, d[f'grid_p{i + 2}'], atol=1e-4)


def test_decoding_undoes_encoding():
    start, target = boxes((0, 0, 10, 20), (5, 5, 9, 7)), boxes((3, -2, 30, 11), (4, 4, 8, 8))
    for weights in WEIGHTS.values():
        np.testing.assert_allclose(decode(encode(start, target, weights), start, weights), target,
                                   atol=1e-5)


def test_only_growth_is_limited():
    # A box of 10 x 10 pixels around (5, 5): width times e^9 is cut, height times e^-9 is not.
    x0, y0, x1, y1 = decode(boxes((0, 0, 9, -9)), boxes((0, 0, 10, 10)))[0]
    assert x1 - x0 == pytest.approx(625, rel=1e-5)
    assert y1 - y0 == pytest.approx(10 * np.exp(-9), abs=1e-6)
    assert decode(boxes((7, 0, 0, 0)), boxes((0, 0, 10, 10)))[0, 0] == 70


def test_iou_by_hand():
    a = boxes((0, 0, 2, 2), (0, 0, 0, 0))
    b = boxes((1, 1, 3, 3), (0, 0, 2, 2), (2, 0, 4, 2), (0, 0, 0, 0))
    np.testing.assert_allclose(pairwise_iou(a, b), [[1 / 7, 1, 0, 0], [0, 0, 0, 0]], rtol=1e-6)
    assert pairwise_iou(a, b[:0]).shape == (2, 0)


def test_boxes_follow_a_resized_image():
    np.testing.assert_allclose(scale(boxes((1, 2, 3, 4)), (10, 20), (20, 10)), [[.5, 4, 1.5, 8]])


def test_anchors_by_hand():
    grid = grid_anchors((2, 3), 8, 16, (0.25, 1.0))
    assert grid.shape == (2 * 3 * 2, 4)
    np.testing.assert_array_equal(grid[:2], [[-16, -4, 16, 4], [-8, -8, 8, 8]])   # 32x8 and 16x16
    np.testing.assert_array_equal(grid[-1], [8, 0, 24, 16])   # around column 2, row 1
    with pytest.raises(ValueError):
        grid[0] = 0   # shared by all who ask for them
