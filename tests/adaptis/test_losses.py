"""Losses against the official code's golden values and against small cases worked by hand."""
from __future__ import annotations

import json

import numpy as np
import pytest

from adaptis import losses
from adaptis.errors import AdaptisError
from adaptis.runtime import mx

LOSSES = {
    'nfl_sigmoid_a50': lambda p: losses.NormalizedFocalLossSigmoid(p['alpha'], p['gamma']),
    'nfl_sigmoid_a25': lambda p: losses.NormalizedFocalLossSigmoid(p['alpha'], p['gamma']),
    'nfl_sigmoid_saturated': lambda p: losses.NormalizedFocalLossSigmoid(p['alpha'], p['gamma']),
    'nfl_sigmoid_sum': lambda p: losses.NormalizedFocalLossSigmoid(
        p['alpha'], p['gamma'], size_average=False, scale=p['scale']),
    'nfl_softmax_g1': lambda p: losses.NormalizedFocalLossSoftmax(p['gamma']),
    'nfl_softmax_g2': lambda p: losses.NormalizedFocalLossSoftmax(p['gamma']),
    'nfl_softmax_allignored': lambda p: losses.NormalizedFocalLossSoftmax(p['gamma']),
    'focal': lambda p: losses.FocalLoss(p['alpha'], p['gamma']),
    'focal_nopositive': lambda p: losses.FocalLoss(official=True),
    'softmax_ce': lambda p: losses.SoftmaxCrossEntropy(official=True),
    'softmax_ce_null': lambda p: losses.SoftmaxCrossEntropy(
        official=True, size_average=False, grad_scale=p['grad_scale']),
    'sigmoid_bce': lambda p: losses.SigmoidBinaryCrossEntropy(),
    'sigmoid_bce_probs': lambda p: losses.SigmoidBinaryCrossEntropy(from_sigmoid=True),
}


def _load(folder, name):
    case = np.load(folder / 'losses' / f'{name}.npz', allow_pickle=False)
    return case, json.loads(str(case['params']))


def _value_and_gradient(loss, pred, label):
    pred, label = mx.nd.array(pred), mx.nd.array(label)
    pred.attach_grad()
    with mx.autograd.record():
        value = loss(pred, label)
    value.backward()
    return value.asnumpy(), pred.grad.asnumpy()


@pytest.mark.parametrize('hybrid', [False, True], ids=['imperative', 'hybridized'])
@pytest.mark.parametrize('name', sorted(LOSSES))
def test_loss_and_gradient_are_the_official_ones(parity, name, hybrid):
    case, params = _load(parity, name)
    loss = LOSSES[name](params)
    if hybrid:
        loss.hybridize()
    value, gradient = _value_and_gradient(loss, case['pred'], case['label'])
    np.testing.assert_allclose(value, case['loss'], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(gradient, case['grad'], rtol=1e-4, atol=1e-6)


def test_running_scale_is_the_official_one(parity):
    case, params = _load(parity, 'nfl_sigmoid_ksum')
    loss = losses.NormalizedFocalLossSigmoid(params['alpha'], params['gamma'])
    for i in range(params['calls']):
        value, gradient = _value_and_gradient(loss, case['pred'][i], case['label'])
        np.testing.assert_allclose(value, case['loss'][i], rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(gradient, case['grad'][i], rtol=1e-4, atol=1e-6)
        assert loss.k_sum == pytest.approx(float(case['k_sum'][i]), rel=1e-4)


@pytest.mark.parametrize('name', ['proposals_iou', 'proposals_iou_p60'])
def test_proposal_loss_is_the_official_one(parity, name):
    case, params = _load(parity, name)
    loss = losses.ProposalsIoULoss(params['bad_percentile'], params['init_iou_thresh'])
    again = losses.ProposalsIoULoss(params['bad_percentile'], params['init_iou_thresh'])
    for i in range(params['calls']):
        probabilities = 1 / (1 + np.exp(-case['inst'][i].astype(np.float64)))
        made = again.labels(probabilities, case['gt'], params['batch_size'])
        np.testing.assert_allclose(made, case['labels'][i], atol=1e-4)
        instances = mx.nd.array(case['inst'][i])
        value, gradient = _value_and_gradient(
            lambda pred, label, instances=instances: loss(pred, instances, label,
                                                          params['batch_size']),
            case['prop'][i], case['gt'])
        np.testing.assert_allclose(value, case['loss'][i], atol=1e-4)
        np.testing.assert_allclose(gradient, case['grad'][i], atol=1e-4)
        assert loss.iou.threshold == pytest.approx(float(case['iou_thresh'][i]), abs=1e-5)
        assert loss.iou.ema == pytest.approx(float(case['ema_iou'][i]), abs=1e-5)


@pytest.mark.parametrize('name', ['adaptive_iou', 'adaptive_iou_probs'])
def test_adaptive_iou_is_the_official_one(parity, name):
    case, params = _load(parity, name)
    metric = losses.AdaptiveIoU(params['init_thresh'])
    for i, (pred, label) in enumerate(zip(case['pred'], case['label'])):
        metric.update(1 / (1 + np.exp(-pred)) if params['from_logits'] else pred, label)
        assert metric.threshold == pytest.approx(float(case['iou_thresh'][i]), abs=1e-6)
        assert metric.ema == pytest.approx(float(case['ema_iou'][i]), abs=1e-6)
        assert metric.epoch_value() == pytest.approx(float(case['epoch_value'][i]), abs=1e-6)


def test_normalized_focal_loss_by_hand():
    # p = 1/2 everywhere: weights 1/4, scale 4, so the mean of -0.5 * log(1/2) remains.
    value, _ = _value_and_gradient(losses.NormalizedFocalLossSigmoid(), np.zeros((1, 1, 2, 2)),
                                   np.array([[[[1, 0], [0, 1]]]]))
    assert value[0] == pytest.approx(0.5 * np.log(2), rel=1e-5)


@pytest.mark.parametrize('table, name, strengths', [
    (losses.INSTANCE_LOSSES, 'normalized_focal', {'alpha': 0.25, 'gamma': 2}),
    (losses.INSTANCE_LOSSES, 'focal', {'alpha': 0.4, 'gamma': 1.5}),
    (losses.SEMANTIC_LOSSES, 'normalized_focal', {'gamma': 2})])
def test_strengths_reach_the_losses(table, name, strengths):
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(2, 3, 4, 5) if len(strengths) == 1 else (2, 1, 4, 5))
    label = rng.integers(0, 2, (2, 4, 5) if len(strengths) == 1 else (2, 1, 4, 5))
    made = losses.make_loss(table, name, 'some', **strengths)
    usual = losses.make_loss(table, name, 'some', **dict.fromkeys(strengths))
    value, *_ = _value_and_gradient(made, logits, label)
    assert (value == _value_and_gradient(table[name](**strengths), logits, label)[0]).all()
    assert (value != _value_and_gradient(usual, logits, label)[0]).all()


def test_strengths_that_a_loss_lacks_are_named():
    with pytest.raises(AdaptisError, match='"bce" has no alpha: set instance_alpha to null'):
        losses.make_loss(losses.INSTANCE_LOSSES, 'bce', 'instance', alpha=0.5)


def test_focal_loss_without_objects_is_small_unless_official():
    pred, label = np.zeros((1, 1, 2, 2)), np.zeros((1, 1, 2, 2))
    assert _value_and_gradient(losses.FocalLoss(), pred, label)[0][0] < 1
    assert _value_and_gradient(losses.FocalLoss(official=True), pred, label)[0][0] > 1e6


def test_adaptive_iou_ignores_a_batch_without_objects():
    metric = losses.AdaptiveIoU(0.4)
    metric.update(np.ones((2, 1, 3, 3)), np.zeros((2, 1, 3, 3)))
    assert metric.state() == {'threshold': 0.4, 'ema': 0.0, 'sum': 0.0, 'count': 0}


def test_hopeless_image_is_ignored_unless_official():
    # Both objects are missed completely: every IoU is 0, so no point is better than another.
    probabilities = np.zeros((2, 1, 2, 2))
    masks = np.ones((2, 1, 2, 2))
    assert (losses.ProposalsIoULoss().labels(probabilities, masks, 1) == -1).all()
    with pytest.raises(ValueError):
        losses.ProposalsIoULoss(official=True).labels(probabilities, masks, 1)


def test_hard_labels_are_one_for_the_best_fifth_of_an_image():
    masks = np.zeros((20, 1, 4, 5))
    masks[:, 0, :, 0] = 1
    probabilities = masks.copy()
    for point in range(20):          # false pixels: the later the point of an image, the worse
        probabilities[point, 0, 0, 1:1 + point % 5] = 0.9
    made = losses.ProposalsIoULoss(kind='hard').labels(probabilities, masks, 2)
    np.testing.assert_array_equal(made, [[1, 0, 0, 0, 0, 1, 0, 0, 0, 0]] * 2)
    masks[0] = -1                    # an image without an object
    probabilities[0] = 0
    made = losses.ProposalsIoULoss(kind='hard').labels(probabilities, masks, 2)
    assert (made[0] == -1).all() and made[1].sum() == 2


def test_other_proposal_labels_are_refused():
    with pytest.raises(AdaptisError, match='labels "fuzzy" are unknown: choose from soft, hard'):
        losses.ProposalsIoULoss(kind='fuzzy')
