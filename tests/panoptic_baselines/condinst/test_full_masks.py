from __future__ import annotations

import numpy as np
import pytest

from adaptis.runtime import mx
from panoptic_baselines.condinst.aligned import AlignedUpsample
from panoptic_baselines.condinst.full_masks import full_masks, resize_weights
from panoptic_baselines.layers.upsample import bilinear


@pytest.mark.parametrize('stride', [2, 4, 8])
def test_first_step_is_aligned_upsampling(stride):
    x = np.random.default_rng(0).random((3, 5)).astype(np.float32)
    rows, columns = (resize_weights(n, stride, n * stride, n * stride) for n in x.shape)
    expected = AlignedUpsample(stride)(mx.nd.array(x[None, None]))[0, 0].asnumpy()
    np.testing.assert_allclose(rows @ x @ columns.T, expected, atol=1e-6)


@pytest.mark.parametrize('stride, shape, cut, target', [
    (4, (24, 40), (90, 155), (90, 155)), (4, (24, 40), (90, 155), (203, 310)),
    (2, (40, 64), (77, 128), (31, 50)), (8, (1, 1), (1, 1), (1, 1)),
    (4, (8, 8), (1, 30), (1, 200))])
def test_parts_that_are_left_out_are_empty(stride, shape, cut, target):
    rng = np.random.default_rng(0)
    noise = rng.random((4, *shape)).astype(np.float32)
    few, none = noise * (rng.random((4, *shape)) < 0.02), noise / 2
    small: np.ndarray = np.zeros((1, *shape), np.float32)
    small[0, shape[0] // 2, shape[1] // 2] = 1
    p = np.concatenate([noise, few, none, small])
    rows, columns = (bilinear(c, t) @ resize_weights(n, stride, c, c)
                     for n, c, t in zip(shape, cut, target))
    values = np.stack([rows @ x @ columns.T for x in p.astype(float)])
    found = full_masks(p, stride, cut, target)
    assert found.shape == (13, *target) and found.dtype == bool
    wrong = found != (values > 0.5)
    assert np.abs(values[wrong] - 0.5).max(initial=0) < 1e-6
    assert not found[8:12].any()
    higher = full_masks(p, stride, cut, target, 0.8)
    assert not (higher & ~found).any()


def test_no_masks():
    assert full_masks(np.zeros((0, 4, 4), np.float32), 4, (16, 16), (20, 30)).shape == (0, 20, 30)
