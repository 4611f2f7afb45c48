"""The dynamic potential head against double precision, and against loops over pixels."""
from __future__ import annotations

import json

import numpy as np
import pytest

from adaptis.errors import AdaptisError
from adaptis.runtime import mx
from panoptic_baselines.unified.potential import Potential, paste

CASES = [('boxes', {}, 'psi_no_mask'), ('A', {}, 'psi_A'), ('B', {}, 'psi_B'), ('C', {}, 'psi_C'),
         ('C', {'damp_masks': False}, 'psi_C_score_on_V_only')]


@pytest.fixture(scope='module')
def golden(unified_kit):
    return dict(np.load(unified_kit / 'potential.npz'))


def inputs(golden, dtype='float64'):
    arrays = golden['V'][None], golden['boxes'], golden['classes'] - golden['n_stuff'], \
        golden['scores'], golden['raw_masks']
    return [mx.nd.array(a, dtype=dtype) for a in arrays]


@pytest.mark.parametrize('hybridize', [False, True])
@pytest.mark.parametrize('dtype, tolerance', [('float64', 1e-10), ('float32', 1e-5)])
@pytest.mark.parametrize('variant, options, key', CASES)
def test_golden_values(golden, variant, options, key, dtype, tolerance, hybridize):
    head = Potential(int(golden['n_stuff']), variant, stride=int(golden['d']), **options)
    head.hybridize(hybridize)
    found = head(*inputs(golden, dtype))
    assert found.dtype == np.dtype(dtype)
    np.testing.assert_allclose(found[0].asnumpy(), golden[key], rtol=tolerance, atol=tolerance / 10)


def test_golden_masks(golden):
    _, boxes, _, _, masks = inputs(golden)
    rows, columns = (mx.nd.arange(n, dtype='float64') * 4 + 2 for n in (12, 16))
    found = paste(mx.nd, masks, boxes, rows, columns).asnumpy()
    np.testing.assert_allclose(found, golden['masks'], rtol=1e-10, atol=1e-12)


def test_numbers_by_hand(unified_kit):
    hand = json.loads((unified_kit / 'hand.json').read_text())['potential']
    probabilities = mx.nd.array([[0.2, 0.2], [0.8, 0.8]]).reshape((1, 2, 1, 2))
    box = mx.nd.array([[-28, -28, 4, 32]])   # reaches the first pixel, whose centre is at (2, 2)
    masks = mx.nd.full((1, 32, 32), 0.6)     # of small cells, as the outermost fade
    for (variant, options, _), key in zip(CASES, ('no_mask', 'A', 'B', 'C', 'C_score_on_V_only')):
        head = Potential(1, variant, **options)
        found = head(probabilities, box, mx.nd.array([0]), mx.nd.array([0.5]), masks).asnumpy()
        np.testing.assert_allclose(found[0, :, 0], [[hand[key], 0], [0.2, 0.2]], rtol=1e-6)


@pytest.mark.parametrize('variant, options, key', CASES)
def test_gradients(golden, variant, options, key):
    """In double precision, by finite differences; boxes have none."""
    head = Potential(4, variant, **options)
    rng = np.random.default_rng(0)
    arrays = inputs(golden)
    chosen = [i for i in (0, 3, 4) if not (i == 3 and variant == 'A')
              and not (i == 4 and variant == 'boxes')]
    for i in chosen:
        arrays[i].attach_grad()
    direction = mx.nd.array(rng.normal(size=golden[key].shape)[None], dtype='float64')
    with mx.autograd.record():
        loss = (head(*arrays) * direction).sum()
    loss.backward()
    for i in chosen:
        step = rng.normal(size=arrays[i].shape) * 1e-6
        ends = [float((head(*arrays[:i], arrays[i] + mx.nd.array(sign * step, dtype='float64'),
                            *arrays[i + 1:]) * direction).sum().asscalar()) for sign in (-1, 1)]
        assert (arrays[i].grad.asnumpy() * step).sum() == pytest.approx((ends[1] - ends[0]) / 2,
                                                                        rel=1e-6)


@pytest.mark.parametrize('variant', ['boxes', 'A', 'B', 'C'])
def test_odd_boxes(variant):
    """Of one pixel, without length, outside of the image: no channel is more than its box."""
    boxes = mx.nd.array([[5, 5, 6, 6], [6, 6, 7, 7], [8, 8, 8, 8], [-9, -9, -1, -1],
                         [40, 40, 90, 90], [-1e4, -1e4, 1e4, 1e4]])
    head = Potential(1, variant)
    head.hybridize()
    for size in ((3, 5), (1, 1), (1, 50)):
        probabilities = mx.nd.full((1, 2, *size), 0.5)
        found = head(probabilities, boxes, mx.nd.zeros(6), mx.nd.ones(6), mx.nd.ones((6, 28, 28)))
        found = found.asnumpy()
        assert found.shape == (1, 7, *size) and np.isfinite(found).all()
        assert not found[0, [0, 2, 3, 4]].any() and (found[0, 5:] >= 0.5).all()
        assert np.count_nonzero(found[0, 1]) == (size == (3, 5))   # the centre at (6, 6)


def test_unknown_variant():
    with pytest.raises(AdaptisError, match="potential is 'D'.*boxes"):
        Potential(1, 'D')
