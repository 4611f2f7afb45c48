"""Losses of dense detections, values and gradients, against golden data and by hand."""
from __future__ import annotations

import json
from functools import partial

import numpy as np
import pytest

from adaptis.runtime import mx
from panoptic_baselines.dense_detections.losses import (
    BootstrappedLoss,
    DetectionLoss,
    LevelnessLoss,
    QueryMaskLoss,
    paired_iou,
)
from panoptic_baselines.fcos.losses import box_loss, sigmoid_focal_loss
from panoptic_baselines.layers.losses import binary_cross_entropy

nd = mx.nd
TYPES = [('float32', 1e-5), ('float64', 1e-9)]


@pytest.fixture(scope='module')
def training(parity_root):
    return parity_root / 'realtime' / 'training'


@pytest.fixture(scope='module')
def hand(training):
    return json.loads((training / 'hand.json').read_text())


def load(training, name):
    return dict(np.load(training / f'{name}.npz'))


def put(array, dtype='float32'):
    return nd.array(array, dtype=dtype)


def learn(loss, variables, *fixed, dtype='float32'):
    """The value of ``loss(*variables, *fixed)`` and its gradients for the variables."""
    variables, fixed = ([put(a, dtype) for a in arrays] for arrays in (variables, fixed))
    for variable in variables:
        variable.attach_grad()
    with mx.autograd.record():
        value = loss(*variables, *fixed)
    value.backward()
    return value.asnumpy(), [variable.grad.asnumpy() for variable in variables]


def close(actual, expected, tolerance):
    np.testing.assert_allclose(actual, expected, rtol=tolerance,
                               atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize('dtype, tolerance', TYPES)
@pytest.mark.parametrize('name, smooth', [('ln', 0), ('ln_plus1', 1)])
def test_box_losses(training, name, smooth, dtype, tolerance):
    case = load(training, 'iou_loss')
    values, (gradient,) = learn(lambda p, t: box_loss(nd, p, t, 'iou', smooth),
                                [case['pred']], case['target'], dtype=dtype)
    close(values, case[f'loss_{name}'], tolerance)
    close(gradient, case[f'grad_{name}'], tolerance)


@pytest.mark.parametrize('dtype, tolerance', TYPES)
def test_centerness_and_focal_loss(training, dtype, tolerance):
    case = load(training, 'centerness_bce')
    values, (gradient,) = learn(lambda x, t: binary_cross_entropy(nd, x, t),
                                [case['logits']], case['target'], dtype=dtype)
    close(values, case['loss'], tolerance)
    close(gradient, case['grad'], tolerance)
    case = load(training, 'focal')
    targets = case['cls'][:, None] == np.arange(1, 9)
    values, (gradient,) = learn(lambda x, t: sigmoid_focal_loss(nd, x, t),
                                [case['logits']], targets, dtype=dtype)
    close(values, case['loss'], tolerance)
    close(gradient, case['grad_sum'], tolerance)


def test_losses_of_one_element_by_hand(hand):
    for case in hand['iou_loss']:
        for key, smooth in (('minus_ln_iou', 0), ('minus_ln_iou_plus1', 1)):
            found = box_loss(nd, put([case['pred_ltrb']]), put([case['target_ltrb']]), 'iou',
                             smooth)
            assert found.asscalar() == pytest.approx(case[key], rel=1e-5, abs=1e-7)
    for name, loss, key in (('bce', partial(binary_cross_entropy, nd), 'target'),
                            ('focal', partial(sigmoid_focal_loss, nd), 'positive')):
        for case in hand[name]:
            value, (gradient,) = learn(loss, [[case['logit']]], [case[key]])
            assert (value[0], gradient[0]) == pytest.approx((case['loss'], case['grad']), rel=1e-5)


def detection_case(training):
    """50 locations on an 8 x 6 and a 2 x 1 level, with boxes and centerness of other cases."""
    focal, boxes = load(training, 'focal'), load(training, 'iou_loss')
    labels = focal['cls'][None] - 1
    distances, predicted = np.zeros((1, 50, 4)), np.ones((1, 50, 4))
    where = np.flatnonzero(labels[0] >= 0)[:40]
    distances[0, where], predicted[0, where] = (boxes[k][:len(where)] for k in ('target', 'pred'))

    def levels(array):
        parts = array.T[:, :48].reshape(-1, 8, 6), array.T[:, 48:].reshape(-1, 2, 1)
        return [part[None] for part in parts]
    return focal, boxes, labels, distances, where, [
        *levels(focal['logits']), *levels(predicted[0]), *levels(np.zeros((50, 1)))]


@pytest.mark.parametrize('hybridize', [False, True])
def test_detection_losses_of_levels(training, hybridize):
    focal, boxes, labels, distances, where, maps = detection_case(training)
    assert (labels >= 0).sum() == len(where)
    for normalizer, smooth, name in (('locations', 0, 'per_location'),
                                     ('foreground', 1, 'per_positive')):
        loss = DetectionLoss(8, smooth, normalizer)
        loss.hybridize(hybridize)
        found = loss(put(labels), put(distances), nd.ones((1, 50)), put([[len(where), 1]]),
                     *map(put, maps))
        classes, sides, centers = (x.asscalar() for x in found)
        assert classes == pytest.approx(focal[name], rel=1e-5)
        expected = boxes['loss_ln' + '_plus1' * smooth][:len(where)]
        assert sides == pytest.approx(expected.mean(), rel=1e-5)
        assert centers == pytest.approx(np.log(2), rel=1e-5)


@pytest.mark.parametrize('smooth', [0, 1])
def test_boxes_without_area_and_backgrounds_give_finite_gradients(smooth):
    labels = np.array([[0, 0, -1, 0]])
    distances = np.zeros((1, 4, 4), np.float32)
    distances[0, 0] = [3, 0, 4, 0]   # one pixel high
    distances[0, 1] = 2
    maps = [np.zeros((1, 2, 2, 2)), np.full((1, 4, 2, 2), 4.0), np.zeros((1, 1, 2, 2))]
    loss = DetectionLoss(2, smooth)
    values, gradients = learn(
        lambda *x: sum(loss(put(labels), put(distances), nd.zeros((1, 4)), put([[3, 1]]), *x)),
        maps)
    assert np.isfinite(values).all() and all(np.isfinite(g).all() for g in gradients)
    assert gradients[1][0, :, 0, 1].all() and not gradients[1][0, :, 1].any()
    assert not gradients[1][0, :, 0, 0].any()
    empty = loss(put([[-1] * 4]), put(distances * 0), nd.zeros((1, 4)), nd.zeros((1, 2)),
                 *map(put, maps))
    assert empty[0].asscalar() > 0 and empty[1].asscalar() == empty[2].asscalar() == 0


@pytest.mark.parametrize('dtype, tolerance', TYPES)
def test_levelness_loss(training, dtype, tolerance):
    case = load(training, 'levelness_ce')
    value, (gradient,) = learn(LevelnessLoss(), [case['logits'][None]], case['target'][None],
                               dtype=dtype)
    close(value, case['mean'], tolerance)
    close(gradient[0], case['grad'], tolerance)


@pytest.mark.parametrize('dtype, tolerance', TYPES)
@pytest.mark.parametrize('suffix', ['', '_ignore'])
def test_semantic_loss(training, suffix, dtype, tolerance):
    case = load(training, 'semantic_bootstrap')
    target = np.where(case['target' + suffix] == 255, -1, case['target' + suffix])
    value, (gradient,) = learn(BootstrappedLoss(1), [case['logits'][None]], target[None],
                               dtype=dtype)
    close(value, case['mean' + suffix], tolerance)
    close(gradient[0], case['grad' + suffix], tolerance)
    assert (gradient[0].any(axis=0) == case['selected' + suffix]).all()
    everything = BootstrappedLoss(1, 1.0)(put(case['logits'][None]), put(case['target'][None]))
    assert everything.asscalar() == pytest.approx(case['full_mean'], rel=1e-5)


def test_semantic_loss_of_each_image_by_itself_and_of_none():
    logits = np.zeros((4, 2, 2, 5), np.float32)
    logits[0, 0] = np.arange(10).reshape(2, 5)   # of class 1, the larger the worse
    logits[1, 0, 0, 0] = 9
    classes = np.ones((4, 2, 5))
    classes[2] = -1
    classes[3], classes[3, 0, 0] = -1, 1
    expected = [np.log1p(np.exp([7, 8, 9])).mean(), (np.log1p(np.exp(9)) + 2 * np.log(2)) / 3, 0,
                np.log(2)]
    value, (gradient,) = learn(BootstrappedLoss(1), [logits], classes)
    assert value == pytest.approx(np.mean(expected), rel=1e-5)
    assert np.isfinite(gradient).all() and not gradient[2].any()
    assert (gradient[0, 0] > 0).sum() == 3 and (gradient[3] != 0).sum() == 2
    # Nine pixels equally bad share the place that two of them would have.
    np.testing.assert_allclose(gradient[1, 0].ravel()[1:], 0.5 / 4 * (2 / 9) / 3, rtol=1e-5)


def mask_loss_of(case, loss):
    """The masks of the case overlap, which a map of pixels cannot have: query by query."""
    def total(boxes, queries, objects, object_boxes):
        found = []
        for i, j in enumerate(case['target_of_query']):
            pixels = put(np.where(case['masks'][j], j, -1).ravel(), boxes.dtype)
            parts = (nd.slice_axis(x, axis=0, begin=i, end=i + 1)
                     for x in (queries, objects, object_boxes))
            losses, counted = loss(nd.transpose(boxes, (2, 0, 1)), *parts, pixels)
            assert counted.asscalar() == 1
            found.append(losses)
        return sum(found) / 4
    of = case['target_of_query']
    return total, [case['dense'], case['query']], [of, case['target_box'][of]]


@pytest.mark.parametrize('dtype, tolerance', TYPES)
@pytest.mark.parametrize('detach, name', [(True, 'fixed'), (False, 'free')])
def test_mask_loss(training, detach, name, dtype, tolerance):
    case = load(training, 'mask_loss')
    loss, variables, fixed = mask_loss_of(case, QueryMaskLoss(detach_beta=detach))
    value, (of_boxes, of_queries) = learn(loss, variables, *fixed, dtype=dtype)
    close(value, case['loss'], tolerance)
    close(of_queries, case[f'grad_query_beta_{name}'], max(tolerance, 1e-7))
    close(of_boxes, case['grad_dense'], max(tolerance, 1e-7))


def test_mask_loss_with_the_overlap_of_the_official_code(training):
    case = load(training, 'mask_loss')
    loss, variables, fixed = mask_loss_of(case, QueryMaskLoss('giou'))
    value, _ = learn(loss, variables, *fixed)
    close(value, case['loss_code_giou'], 1e-5)
    beta = paired_iou(nd, put(case['query']), put(case['target_box'][case['target_of_query']]))
    close(beta.asnumpy(), case['beta'], 1e-5)


@pytest.mark.parametrize('hybridize', [False, True])
def test_mask_loss_by_hand_and_queries_that_do_not_count(hand, hybridize):
    case = hand['mask_loss']
    boxes, pixels = put(case['dense']).transpose((2, 0, 1)), put([0, 0, -1, -1])
    loss = QueryMaskLoss()
    loss.hybridize(hybridize)
    queries, objects = (nd.tile(put(case[key]), (3, 1)) for key in ('query', 'target_box'))
    for which in ([0, -1, -1], [-1, 5, 0], [0, 0, 0], [-1, 5, -1]):   # 5 has no pixel on the grid
        losses, counted = (x.asnumpy() for x in loss(boxes, queries, put(which), objects, pixels))
        assert (counted == (np.array(which) == 0)).all()
        np.testing.assert_allclose(losses, case['loss'] * counted, rtol=1e-6)


def test_boxes_without_area_among_the_queries():
    boxes = np.zeros((4, 2, 2))
    value, gradients = learn(
        lambda b, q: QueryMaskLoss(detach_beta=False)(b, q, put([0]), put([[1, 1, 1, 1]]),
                                                      put([0, 0, -1, -1]))[0],
        [boxes, np.zeros((1, 4))])
    assert value == 0 and all(np.isfinite(g).all() for g in gradients)
