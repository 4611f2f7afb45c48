"""Lovasz losses against the reference cases in double precision, and by hand."""
from __future__ import annotations

import json
from typing import Any, Callable

import numpy as np
import pytest

from adaptis.errors import AdaptisError
from adaptis.runtime import mx
from panoptic_baselines.unified.lovasz import LovaszHinge, LovaszSoftmax

VOID = 255


def evaluate(loss: Callable, inputs: np.ndarray, *targets: np.ndarray,
             dtype: str = 'float64') -> tuple[float, np.ndarray]:
    """Value and gradient."""
    array = mx.nd.array(inputs, dtype=dtype)
    array.attach_grad()
    with mx.autograd.record():
        value = loss(array, *[mx.nd.array(np.where(t == VOID, -1, t), dtype=dtype)
                              for t in targets])
    value.backward()
    return value.asscalar(), array.grad.asnumpy()


def hinge(hybridize: bool = False) -> Callable:
    loss = LovaszHinge()
    loss.hybridize(hybridize)
    return loss


@pytest.fixture(scope='module')
def by_hand(unified_kit: Any) -> Any:
    return json.loads((unified_kit / 'hand.json').read_text())


def close(got: Any, expected: Any) -> None:
    np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-14)


def test_hinge_by_hand(by_hand: Any) -> None:
    case = by_hand['lovasz_hinge']
    loss, gradient = evaluate(hinge(), np.reshape(case['logits'], (1, 3)), np.zeros(1),
                              np.reshape(case['labels'], (1, 3)))
    close(loss, case['loss'])
    close(gradient[0], case['grad'])


@pytest.mark.parametrize('hybridize', [False, True])
@pytest.mark.parametrize('case', ['', '_empty', '_full', '_ignore'])
def test_hinge(unified_kit: Any, case: str, hybridize: bool) -> None:
    golden = np.load(unified_kit / 'lovasz_hinge.npz')
    loss, gradient = evaluate(hinge(hybridize), golden['logits'][None], np.zeros(1),
                              golden['labels' + case][None])
    close(loss, golden['loss' + case])
    close(gradient[0], golden['grad' + case])


@pytest.mark.parametrize('hybridize', [False, True])
def test_hinge_of_regions(unified_kit: Any, hybridize: bool) -> None:
    golden = np.load(unified_kit / 'lovasz_hinge.npz')
    loss, gradient = evaluate(hinge(hybridize), golden['roi_logits'], np.array([4, 0, 2]),
                              golden['roi_labels'])
    close(loss, golden['roi_mean'])
    close(gradient, golden['roi_grad'])
    logits, labels = (np.concatenate([golden[key], golden[key][:1]])
                      for key in ('roi_logits', 'roi_labels'))
    loss, gradient = evaluate(hinge(hybridize), logits, np.array([4, 0, 2, -1]), labels)
    close(loss, golden['roi_mean'])   # a row without a class does not count
    close(gradient[:3], golden['roi_grad'])
    assert not gradient[3].any()


def as_image(rows: np.ndarray) -> np.ndarray:
    """(pixels, C) -> (1, C, 1, pixels)."""
    return np.ascontiguousarray(rows.T)[None, :, None]


def test_softmax_by_hand(by_hand: Any) -> None:
    case = by_hand['lovasz_softmax']
    loss = LovaszSoftmax(1)
    value, gradient = evaluate(lambda *a: loss.of_probabilities(mx.nd, *a),
                               as_image(np.array(case['probs'])),
                               np.reshape(case['labels'], (1, 1, 3)))
    close(value, case['loss'])
    close(gradient[0, :, 0].T, case['grad_probs'])


@pytest.mark.parametrize('classes, labels, name', [
    ('present', 'labels', 'present'), ('all', 'labels', 'all'),
    ('present', 'labels_ignore', 'ignore')])
def test_softmax_of_probabilities(unified_kit: Any, classes: str, labels: str, name: str) -> None:
    golden = np.load(unified_kit / 'lovasz_softmax.npz')
    loss = LovaszSoftmax(1, classes)
    value, gradient = evaluate(lambda *a: loss.of_probabilities(mx.nd, *a),
                               as_image(golden['probs']), golden[labels][None, None])
    close(value, golden[f'loss_{name}'])
    close(gradient[0, :, 0].T, golden[f'grad_probs_{name}'])


@pytest.mark.parametrize('hybridize', [False, True])
def test_softmax_of_logits(unified_kit: Any, hybridize: bool) -> None:
    golden = np.load(unified_kit / 'lovasz_softmax.npz')
    loss = LovaszSoftmax(1)
    loss.hybridize(hybridize)
    value, gradient = evaluate(loss, as_image(golden['logits']), golden['labels'][None, None])
    close(value, golden['loss_present'])
    close(gradient[0, :, 0].T, golden['grad_logits_present'])


def test_single_precision(unified_kit: Any) -> None:
    """As training computes."""
    softmax, masks = (np.load(unified_kit / f'lovasz_{name}.npz') for name in ('softmax', 'hinge'))
    for found, expected in (
            (evaluate(LovaszSoftmax(1), as_image(softmax['logits']), softmax['labels'][None, None],
                      dtype='float32'),
             (softmax['loss_present'], as_image(softmax['grad_logits_present']))),
            (evaluate(hinge(), masks['roi_logits'], np.array([4, 0, 2]), masks['roi_labels'],
                      dtype='float32'), (masks['roi_mean'], masks['roi_grad']))):
        for got, value in zip(found, expected):
            np.testing.assert_allclose(got, value, rtol=1e-5, atol=1e-6 * np.abs(value).max())


def test_pixels_count_wherever_they_are_in_the_batch(unified_kit: Any) -> None:
    golden = np.load(unified_kit / 'lovasz_softmax.npz')
    logits = golden['logits'].reshape(2, 3, 5, 5).transpose(0, 3, 1, 2)
    value, _ = evaluate(LovaszSoftmax(1), np.ascontiguousarray(logits),
                        golden['labels'].reshape(2, 3, 5))
    close(value, golden['loss_present'])


def test_nothing_labelled_is_no_loss() -> None:
    logits = np.random.default_rng(0).normal(size=(1, 3, 4, 4))
    for classes in ('present', 'all'):
        value, gradient = evaluate(LovaszSoftmax(4, classes), logits, np.full((1, 16, 16), -1))
        assert value == 0 and not gradient.any()
    value, gradient = evaluate(hinge(), np.ones((1, 2, 2)), np.array([-1]), np.zeros((1, 2, 2)))
    assert value == 0 and not gradient.any()


def test_a_perfect_answer_is_no_loss() -> None:
    labels = np.random.default_rng(0).integers(0, 3, (2, 8, 8))
    logits = 100.0 * (labels[:, None] == np.arange(3)[:, None, None])
    assert evaluate(LovaszSoftmax(1), logits, labels)[0] == pytest.approx(0)
    assert evaluate(hinge(), logits[:, 0] - 50, np.zeros(2), labels == 0)[0] == 0


def test_logits_that_are_not_finite_do_no_harm() -> None:
    for loss, shape, targets in ((hinge(), (1, 4, 4), (np.zeros(1), np.ones((1, 4, 4)))),
                                 (LovaszSoftmax(1), (1, 2, 4, 4), (np.ones((1, 4, 4)),))):
        evaluate(loss, np.full(shape, np.nan), *targets)


def test_classes_that_do_not_exist() -> None:
    with pytest.raises(AdaptisError, match='classes "some"'):
        LovaszSoftmax(classes='some')
