"""Losses of dense heads against the official values and gradients, and at their limits."""
from __future__ import annotations

import numpy as np
import pytest

from adaptis.runtime import mx
from panoptic_baselines.fcos.losses import (
    BOX_LOSSES,
    box_loss,
    dice_loss,
    intersection_over_union,
    sigmoid_focal_loss,
)
from panoptic_baselines.layers.losses import binary_cross_entropy

F = mx.nd


@pytest.fixture(scope='module')
def golden(parity_root):
    arrays = np.load(parity_root / 'condinst' / 'ops' / 'losses.npz')
    return {name: mx.nd.array(arrays[name], dtype='float32') for name in arrays.files}


def gradient(x, function):
    """The value of a function at ``x`` and its gradient."""
    x = x.copy()
    x.attach_grad()
    with mx.autograd.record():
        value = function(x)
    value.backward()
    return value.asnumpy(), x.grad.asnumpy()


def close(got, expected):
    np.testing.assert_allclose(got, expected.asnumpy(), rtol=1e-5, atol=1e-6)


def test_focal(golden):
    value, grad = gradient(golden['focal_logits'],
                           lambda x: sigmoid_focal_loss(F, x, golden['focal_targets']))
    close(value, golden['focal_none'])
    close(value.sum(), golden['focal_sum'])
    close(grad, golden['focal_grad'])


def test_giou(golden):
    target, weight = golden['giou_target'], golden['ctr_targets']
    iou, giou = intersection_over_union(F, golden['giou_pred'], target)
    close(iou.asnumpy(), golden['iou'])
    close(giou.asnumpy(), golden['giou'])
    value, grad = gradient(golden['giou_pred'],
                           lambda x: F.sum(box_loss(F, x, target) * weight) / F.sum(weight))
    close(value[0], golden['giou_loss_weighted'])
    close(grad, golden['giou_grad'])


@pytest.mark.parametrize('kind', ['iou', 'linear_iou'])
def test_other_box_losses(golden, kind):
    loss = box_loss(F, golden['giou_pred'], golden['giou_target'], kind)
    close(loss.sum().asscalar(), golden[f'{kind}_loss_sum'])


def test_centerness(golden):
    value, grad = gradient(golden['ctr_logits'], lambda x: F.sum(
        binary_cross_entropy(F, x, golden['ctr_targets'])) / 30)
    close(value[0], golden['ctr_bce'])
    close(grad, golden['ctr_grad'])


def test_dice(golden):
    value, grad = gradient(golden['dice_logits'],
                           lambda x: dice_loss(F, F.sigmoid(x), golden['dice_targets']))
    close(value, golden['dice'])
    np.testing.assert_allclose(grad / 6, golden['dice_mean_grad'].asnumpy(), atol=1e-9, rtol=1e-5)


def test_far_logits_stay_finite():
    logits = mx.nd.array([-1e4, -100, 100, 1e4])
    for target in (0, 1):
        value, grad = gradient(logits, lambda x: sigmoid_focal_loss(
            F, x, F.full(4, target)))   # noqa: B023
        assert np.isfinite(value).all() and np.isfinite(grad).all()
        np.testing.assert_allclose(value[2 * (1 - target):][:2], np.abs(
            logits.asnumpy()[2 * (1 - target):][:2]) * (0.25 if target else 0.75), rtol=1e-6)


@pytest.mark.parametrize('kind', BOX_LOSSES)
def test_boxes_without_area(kind):
    nothing = mx.nd.zeros((1, 4))
    for predicted, target in ((nothing, nothing), (nothing, nothing + 3), (nothing + 3, nothing)):
        value, grad = gradient(predicted, lambda x: box_loss(F, x, target, kind))  # noqa: B023
        assert np.isfinite(value).all() and np.isfinite(grad).all()


def test_iou_by_hand():
    a, b = mx.nd.array([[1, 1, 1, 1]]), mx.nd.array([[1, 1, 3, 1]])   # 2x2 in 4x2
    iou, giou = intersection_over_union(F, a, b, smooth=0)
    assert iou.asscalar() == giou.asscalar() == 0.5
    iou, giou = intersection_over_union(F, a, mx.nd.array([[0, 1, 2, 1]]), smooth=1)
    assert iou.asscalar() == pytest.approx(3 / 7)
    assert giou.asscalar() == pytest.approx(3 / 7)   # the hull is the union
    assert box_loss(F, a, b, 'iou', 0).asscalar() == pytest.approx(np.log(2))
    assert box_loss(F, a, b, 'linear_iou', 0).asscalar() == 0.5
