"""Lovasz losses against the reference cases in double precision, and by hand."""
from __future__ import annotations

import json
from typing import Any, Callable

import numpy as np
import pytest

from adaptis.errors import AdaptisError
from adaptis.model.graph import trace
from adaptis.runtime import mx
from panoptic_baselines.unified.lovasz import LovaszHinge, LovaszSoftmax, running_sum

VOID = 255
MOST_SORTED = 2 ** 31 // 28   # elements whose workspace topk can count in 32 bits


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
    loss, gradient = evaluate(hinge(), np.reshape(case['logits'], (1, 1, 3)), np.zeros(1),
                              np.reshape(case['labels'], (1, 1, 3)))
    close(loss, case['loss'])
    close(gradient[0, 0], case['grad'])


@pytest.mark.parametrize('hybridize', [False, True])
@pytest.mark.parametrize('case', ['', '_empty', '_full', '_ignore'])
def test_hinge(unified_kit: Any, case: str, hybridize: bool) -> None:
    golden = np.load(unified_kit / 'lovasz_hinge.npz')
    loss, gradient = evaluate(hinge(hybridize), golden['logits'][None, None], np.zeros(1),
                              golden['labels' + case][None, None])
    close(loss, golden['loss' + case])
    close(gradient[0, 0], golden['grad' + case])


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
    loss = LovaszSoftmax(2, 1)
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
    loss = LovaszSoftmax(5, 1, classes)
    value, gradient = evaluate(lambda *a: loss.of_probabilities(mx.nd, *a),
                               as_image(golden['probs']), golden[labels][None, None])
    close(value, golden[f'loss_{name}'])
    close(gradient[0, :, 0].T, golden[f'grad_probs_{name}'])


@pytest.mark.parametrize('hybridize', [False, True])
def test_softmax_of_logits(unified_kit: Any, hybridize: bool) -> None:
    golden = np.load(unified_kit / 'lovasz_softmax.npz')
    loss = LovaszSoftmax(5, 1)
    loss.hybridize(hybridize)
    value, gradient = evaluate(loss, as_image(golden['logits']), golden['labels'][None, None])
    close(value, golden['loss_present'])
    close(gradient[0, :, 0].T, golden['grad_logits_present'])


def test_single_precision(unified_kit: Any) -> None:
    """As training computes."""
    softmax, masks = (np.load(unified_kit / f'lovasz_{name}.npz') for name in ('softmax', 'hinge'))
    for found, expected in (
            (evaluate(LovaszSoftmax(5, 1), as_image(softmax['logits']),
                      softmax['labels'][None, None], dtype='float32'),
             (softmax['loss_present'], as_image(softmax['grad_logits_present']))),
            (evaluate(hinge(), masks['roi_logits'], np.array([4, 0, 2]), masks['roi_labels'],
                      dtype='float32'), (masks['roi_mean'], masks['roi_grad']))):
        for got, value in zip(found, expected):
            np.testing.assert_allclose(got, value, rtol=1e-5, atol=1e-6 * np.abs(value).max())


def test_pixels_count_wherever_they_are_in_the_batch(unified_kit: Any) -> None:
    golden = np.load(unified_kit / 'lovasz_softmax.npz')
    logits = golden['logits'].reshape(2, 3, 5, 5).transpose(0, 3, 1, 2)
    value, _ = evaluate(LovaszSoftmax(5, 1), np.ascontiguousarray(logits),
                        golden['labels'].reshape(2, 3, 5))
    close(value, golden['loss_present'])


def test_nothing_labelled_is_no_loss() -> None:
    logits = np.random.default_rng(0).normal(size=(1, 3, 4, 4))
    for classes in ('present', 'all'):
        value, gradient = evaluate(LovaszSoftmax(3, 4, classes), logits, np.full((1, 16, 16), -1))
        assert value == 0 and not gradient.any()
    value, gradient = evaluate(hinge(), np.ones((1, 2, 2)), np.array([-1]), np.zeros((1, 2, 2)))
    assert value == 0 and not gradient.any()


def test_a_perfect_answer_is_no_loss() -> None:
    labels = np.random.default_rng(0).integers(0, 3, (2, 8, 8))
    logits = 100.0 * (labels[:, None] == np.arange(3)[:, None, None])
    assert evaluate(LovaszSoftmax(3, 1), logits, labels)[0] == pytest.approx(0)
    assert evaluate(hinge(), logits[:, 0] - 50, np.zeros(2), labels == 0)[0] == 0


def test_logits_that_are_not_finite_do_no_harm() -> None:
    for loss, shape, targets in ((hinge(), (1, 4, 4), (np.zeros(1), np.ones((1, 4, 4)))),
                                 (LovaszSoftmax(2, 1), (1, 2, 4, 4), (np.ones((1, 4, 4)),))):
        evaluate(loss, np.full(shape, np.nan), *targets)


def test_classes_that_do_not_exist() -> None:
    with pytest.raises(AdaptisError, match="is 'some': choose"):
        LovaszSoftmax(3, classes='some')


@pytest.mark.parametrize('crops', [1, 8])
def test_no_sort_of_the_paper_overflows(crops: int) -> None:
    """Crops of 512 x 1024 and 19 classes; only shapes are computed."""
    nodes = trace(LovaszSoftmax(19), (crops, 19, 128, 256), (crops, 512, 1024)).nodes
    sorts = [node for node in nodes if node.op == 'topk']
    assert len(sorts) == 19
    assert all(np.prod(node.read[0]) == crops * 512 * 1024 < MOST_SORTED for node in sorts)
    # A thread of cumsum reads one row of it, and the sums take no other way.
    sums = [(node.read[0], int(node.attributes['axis'])) for node in nodes
            if node.op == '_np_cumsum']
    assert len(sums) == 3 * 19
    assert max(shape[axis] for shape, axis in sums) == 1024
    assert not any(node.op == 'gather_nd' for node in nodes)


def at_once(errors: Any, foreground: Any) -> Any:
    """The losses of N sets (N, P) as the definition has them: one sort, one sum over all pixels."""
    order = np.argsort(-errors, axis=1, kind='stable')
    errors, foreground = (np.take_along_axis(a, order, axis=1) for a in (errors, foreground))
    kept = foreground.sum(axis=1, keepdims=True) - np.cumsum(foreground, axis=1)
    jaccard = 1 - kept / (kept + np.arange(1, errors.shape[1] + 1))
    return (errors * np.diff(jaccard, axis=1, prepend=0)).sum(axis=1)


def test_class_by_class_is_the_loss_of_all_pixels_at_once() -> None:
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(3, 4, 5, 7)), rng.integers(-1, 3, (3, 5, 7))
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    foreground = np.arange(4)[:, None] == labels.reshape(1, -1)
    errors = (labels.reshape(1, -1) >= 0) * np.abs(
        foreground - probabilities.transpose(1, 0, 2, 3).reshape(4, -1))
    losses = at_once(errors, foreground.astype(float))
    close(evaluate(LovaszSoftmax(4, 1, 'all'), logits, labels)[0], losses.mean())
    close(evaluate(LovaszSoftmax(4, 1), logits, labels)[0], losses[:3].mean())   # 3 is absent


def test_running_sum_in_levels() -> None:
    """Counts are exact in single precision, also above the 65,504 of half precision."""
    values = np.random.default_rng(0).integers(0, 2, (2, 3, 160, 300))
    found = running_sum(mx.nd, mx.nd.array(values, dtype='float32')).asnumpy()
    expected = np.cumsum(values.reshape(2, -1), axis=1)
    assert expected.max() > 65504
    np.testing.assert_array_equal(found.reshape(2, -1), expected)
