"""Losses against small cases by hand and against the official values and gradients."""
from __future__ import annotations

import numpy as np
import pytest

from adaptis.runtime import mx
from panoptic_baselines.layers.losses import BoxLoss, MaskLoss, RPNLoss, SemanticLoss


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
        (value,), (grad,) = run(loss, [case['logits']], case['classes'],
                                bits(case['target_bits'], 28, 28))
        check(value, case['loss_mask'])
        check(grad, case['grad_logits'])

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
        from panoptic_baselines.layers.boxes import encode
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
