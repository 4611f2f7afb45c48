"""Losses against small cases by hand and against the official values and gradients."""
from __future__ import annotations

import numpy as np
import pytest

from adaptis.runtime import mx
from panoptic_baselines.layers.boxes import encode
from panoptic_baselines.layers.losses import SemanticLoss
from panoptic_baselines.rcnn.losses import BoxLoss, MaskLoss, RPNLoss
from panoptic_baselines.rcnn.nearby import (
    anchor_grids,
    anchor_targets,
    label_anchors,
    match_anchors,
)


def run(loss, inputs, *targets):
    """Values of a loss and the gradients of their sum with respect to ``inputs``."""
    arrays = [mx.nd.array(a) for a in inputs]
    for array in arrays:
        array.attach_grad()
    with mx.autograd.record():
        values = loss(*arrays, *[mx.nd.array(t) for t in targets])
        values = values if isinstance(values, (list, tuple)) else [values]
        total = sum(values)
    total.backward()
    return [v.asscalar() for v in values], [a.grad.asnumpy() for a in arrays]


def check(got, expected, bound=1e-5):
    assert np.abs(got - expected).max() <= bound * np.abs(expected).max()


def bits(packed, height, width):
    return np.unpackbits(packed, axis=1)[:, :height * width].reshape(-1, height, width)


@pytest.fixture
def golden(parity_root):
    return lambda name: np.load(parity_root / 'panoptic_fpn' / 'training' / f'{name}.npz')


@pytest.mark.parametrize('hybridize', [False, True])
class TestOfficial:
    """Relative errors of at most 1e-5, imperatively and as a graph."""

    def test_mask_loss(self, golden, hybridize):
        case, loss = golden('mask_loss'), MaskLoss()
        loss.hybridize(hybridize)
        own = np.arange(len(case['classes'])), case['classes']
        (value,), (grad,) = run(loss, [case['logits'][own]], case['classes'],
                                bits(case['target_bits'], 28, 28))
        check(value, case['loss_mask'])
        check(grad, case['grad_logits'][own])
        assert np.abs(case['grad_logits']).sum() == np.abs(case['grad_logits'][own]).sum()

    def test_semantic_loss(self, golden, hybridize):
        case, loss = golden('sem_loss'), SemanticLoss()
        loss.hybridize(hybridize)
        target = case['target'].astype(np.float32)
        target[target == 255] = -1
        (value,), (grad,) = run(loss, [case['logits']], target)
        weight = case['loss_weight']
        check(weight * value, case['loss_sem_seg'])
        check(weight * grad, case['grad_logits'])

    def test_box_loss(self, golden, hybridize):
        case, loss = golden('box_loss'), BoxLoss(80)
        loss.hybridize(hybridize)
        wanted = encode(case['proposals'], case['gt_boxes'], (10, 10, 5, 5))
        values, grads = run(loss, [case['scores'], case['deltas']], case['gt_classes'], wanted)
        check(np.array(values), np.array([case['loss_cls'], case['loss_box_reg']]))
        check(grads[0], case['grad_scores'])
        check(grads[1], case['grad_deltas'])
        values, _ = run(loss, [case['scores'], case['deltas']], np.full(24, 80), wanted)
        check(values[0], case['allbg_loss_cls'])
        assert values[1] == case['allbg_loss_box_reg'] == 0

    def test_rpn_loss(self, golden, hybridize):
        case, loss = golden('rpn_loss'), RPNLoss()
        loss.hybridize(hybridize)
        grids = anchor_grids([tuple(hw) for hw in case['grid_hw']], (32, 64, 128, 256, 512))
        every = np.arange(len(case['label_full_0']))
        targets = []
        for k in range(2):
            boxes = match_anchors(grids, every, case[f'gt_boxes_{k}'])
            np.testing.assert_array_equal(label_anchors(grids, case[f'gt_boxes_{k}']),
                                          case[f'label_full_{k}'])
            np.testing.assert_array_equal(boxes, case[f'matched_gt_{k}'])
            some, others = (np.flatnonzero(case[f'label_{k}'] == v) for v in (1, 0))
            sampled = anchor_targets(grids, some, others, boxes[some])
            np.testing.assert_array_equal(sampled.index, np.flatnonzero(case[f'label_{k}'] >= 0))
            deltas = np.zeros((len(every), 4), np.float32)
            deltas[sampled.index] = sampled.deltas
            targets.append((case[f'label_{k}'], deltas))
        values, grads = run(loss, [case['logits'], case['deltas']],
                            *(np.stack(parts) for parts in zip(*targets)))
        check(np.array(values), np.array([case['loss_rpn_cls'], case['loss_rpn_loc']]))
        check(grads[0], case['grad_logits'])
        check(grads[1], case['grad_deltas'])


def test_rpn_loss_by_hand():
    logits, deltas = np.zeros((1, 3)), np.array([[[1, 0, 0, 0], [9, 9, 9, 9], [9, 9, 9, 9]]])
    (objectness, boxes), (_, grad) = run(RPNLoss(4), [logits, deltas], np.array([[1, 0, -1]]),
                                         np.zeros((1, 3, 4)))
    assert objectness == pytest.approx(2 * np.log(2) / 4)
    assert boxes == 0.25 and np.abs(grad).sum() == 0.25


def test_rows_without_a_class_do_not_count():
    rng = np.random.default_rng(0)
    logits, deltas, wanted = rng.normal(size=(3, 6)), rng.normal(size=(3, 20)), np.zeros((3, 4))
    whole, _ = run(BoxLoss(5), [logits, deltas], np.array([2, 5, -1]), wanted)
    some, _ = run(BoxLoss(5), [logits[:2], deltas[:2]], np.array([2, 5]), wanted[:2])
    np.testing.assert_allclose(whole, some, rtol=1e-6)
    (value,), (grad,) = run(MaskLoss(), [rng.normal(size=(1, 4, 4))], [-1], np.zeros((1, 4, 4)))
    assert value == 0 and not grad.any()


def test_an_image_of_which_nothing_is_known():
    (value,), (grad,) = run(SemanticLoss(2), [np.ones((1, 3, 2, 2))], -np.ones((1, 4, 4)))
    assert value == 0 and not grad.any()


def test_losses_of_huge_logits_are_finite():
    values, grads = run(MaskLoss(), [np.full((1, 2, 2), 1e4)], [0], np.zeros((1, 2, 2)))
    assert values == [1e4] and np.isfinite(grads).all()
