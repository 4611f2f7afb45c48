"""Boxes of pixels, and masks from boxes."""
from __future__ import annotations

import numpy as np
import pytest

from adaptis.errors import AdaptisError
from adaptis.runtime import mx
from panoptic_baselines.dense_detections.boxes import MaskBuilder, dense_boxes, location_probability

nd = mx.nd


@pytest.fixture(scope='module')
def ops(parity_root):
    return lambda name: dict(np.load(parity_root / 'realtime' / 'ops' / f'{name}.npz'))


class DenseBoxes(mx.gluon.HybridBlock):
    def hybrid_forward(self, F, levelness, *offsets):
        return dense_boxes(F, offsets, levelness)


@pytest.mark.parametrize('hybridize', [False, True])
def test_boxes_of_the_likeliest_level(ops, hybridize):
    d = ops('levelness')
    block = DenseBoxes()
    block.hybridize(hybridize)
    levelness = nd.array(d['levelness_logits'][None, 1:])
    np.testing.assert_array_equal(levelness.asnumpy()[0].argmax(axis=0), d['level'])
    offsets = [nd.array(d[f'offsets_P{i}'][None]) for i in range(3, 8)]
    found = block(nd.concat(levelness, levelness[:, ::-1], dim=0),
                  *(nd.concat(x, 2 * x, dim=0) for x in offsets)).asnumpy()
    np.testing.assert_allclose(found[0].reshape(4, -1).T, d['dense_boxes'], atol=2e-5)
    alone = block(levelness[:, ::-1], *(2 * x for x in offsets)).asnumpy()
    np.testing.assert_allclose(found[1], alone[0], atol=2e-5)


def test_gradient_reaches_the_chosen_level_alone():
    offsets = [nd.ones((1, 4, 2, 2)), nd.ones((1, 4, 1, 1))]
    levelness = nd.array([[[[1, 0], [0, 0]], [[0, 1], [1, 1]]]])
    for x in offsets:
        x.attach_grad()
    with mx.autograd.record():
        dense_boxes(nd, offsets, levelness)[0, 2].sum().backward()
    np.testing.assert_array_equal(offsets[0].grad[0, 2].asnumpy(), [[1, 0], [0, 0]])
    assert offsets[1].grad[0, :, 0, 0].asnumpy().tolist() == [0, 0, 3, 0]


@pytest.mark.parametrize('kind, key, tolerance', [
    ('giou', 'code_map', 1e-6), ('iou', 'paper_iou_f64', 1e-6)])
def test_location_probability(ops, kind, key, tolerance):
    d = ops('iou')
    found = location_probability(nd, nd.array(d['dense'].T), nd.array(d['queries']), kind)
    np.testing.assert_allclose(found.asnumpy(), d[key], atol=tolerance)


def test_location_probability_by_hand():
    dense = nd.array([[0, 0, 4, 4], [0, 0, 4, 2], [6, 0, 10, 4]]).T
    query = nd.array([[0, 0, 4, 4]])
    plain = location_probability(nd, dense, query, 'iou').asnumpy()
    np.testing.assert_allclose(plain, [[1, 0.5, 0]], atol=1e-6)
    smooth = location_probability(nd, dense, query).asnumpy()
    np.testing.assert_allclose(smooth, [[1, 9 / 17, 1 / 33 - 8 / 40]], atol=1e-6)


@pytest.mark.parametrize('kind', ['giou', 'iou'])
def test_boxes_without_area_give_numbers(kind):
    dense = nd.array([[5, 5, 5, 5], [5, 5, 5, 9], [0, 0, 9, 9]]).T
    queries = nd.array([[5, 5, 5, 5], [0, 0, 0, 7], [-3, 2, 20, 4]])
    found = location_probability(nd, dense, queries, kind).asnumpy()
    assert np.isfinite(found).all() and (found <= 1).all() and (found >= -1).all()


def test_all_queries_at_once(ops):
    d = ops('mask')
    size = d['thing_prob'].shape[1:]
    boxes, things = nd.array(d['dense_boxes'].T).reshape((4, *size)), nd.array(d['thing_prob'])
    builder = MaskBuilder()
    builder.hybridize()
    queries, classes = d['det_boxes'], d['det_labels'] - 1
    found = builder(boxes, things, nd.array(queries), nd.array(classes)).asnumpy()
    np.testing.assert_allclose(found, d['mask_prob'], atol=1e-6)
    for i in range(len(queries)):
        alone = builder(boxes, things, nd.array(queries[i:i + 1]), nd.array(classes[i:i + 1]))
        np.testing.assert_allclose(alone.asnumpy()[0], found[i], atol=1e-6)


def test_unknown_location_probability():
    with pytest.raises(AdaptisError, match="'diou'.*giou"):
        MaskBuilder('diou')
