from __future__ import annotations

import numpy as np
import pytest

from adaptis.runtime import mx
from panoptic_baselines.layers.boxes import pairwise_iou
from panoptic_baselines.layers.nms import nms


def brute_force(boxes, scores, threshold, classes):
    """One box after the other, each against all that remain so far."""
    iou, keep = pairwise_iou(boxes, boxes), []
    for i in np.argsort(-scores, kind='stable'):
        if all(iou[i, j] <= threshold or classes[i] != classes[j] for j in keep):
            keep.append(int(i))
    return keep


def random_boxes(count, seed):
    rng = np.random.default_rng(seed)
    corner, side = rng.uniform(0, 60, (count, 2)), rng.uniform(1, 40, (count, 2))
    boxes = np.concatenate([corner, corner + side], axis=1).astype(np.float32)
    return boxes, rng.integers(0, 20, count).astype(np.float32), rng.integers(0, 3, count)


@pytest.mark.parametrize('name, threshold, expected', [
    ('plain', 0.3, 'plain_keep_3'), ('plain', 0.5, 'plain_keep_5'), ('plain', 0.7, 'plain_keep_7'),
    ('ties', 0.5, 'ties_keep_5'), ('ties', 0.7, 'ties_keep_7'),
    ('batched', 0.5, 'batched_keep_5'), ('large', 0.7, 'large_keep_7')])
def test_it_is_the_official_one(kit, name, threshold, expected):
    d = np.load(kit / 'ops' / 'nms.npz')
    classes = d[f'{name}_class'] if f'{name}_class' in d.files else None
    found = nms(d[f'{name}_boxes'], d[f'{name}_scores'], threshold, classes)
    np.testing.assert_array_equal(found, d[expected])


@pytest.mark.parametrize('threshold', [0.0, 0.4, 1.0])
@pytest.mark.parametrize('seed', range(3))
def test_brute_force_agrees(threshold, seed):
    boxes, scores, classes = random_boxes(80, seed)   # with many equal scores
    expected = brute_force(boxes, scores, threshold, classes)
    assert nms(boxes, scores, threshold, classes).tolist() == expected
    one_class = brute_force(boxes, scores, threshold, np.zeros(80))
    assert nms(boxes, scores, threshold).tolist() == one_class


@pytest.mark.parametrize('limit', [1, 5, 30, 1000])
def test_a_limit_gives_the_first_of_all(limit):
    boxes, scores, classes = random_boxes(200, 7)
    everything = nms(boxes, scores, 0.2, classes)
    assert limit > 30 or len(everything) > limit
    np.testing.assert_array_equal(nms(boxes, scores, 0.2, classes, limit), everything[:limit])


def test_the_threshold_itself_does_not_suppress():
    boxes = np.array([[0, 0, 4, 4], [0, 0, 4, 2]], np.float32)   # IoU exactly 0.5
    assert nms(boxes, np.array([1, 2], np.float32), 0.5).tolist() == [1, 0]
    assert nms(boxes, np.array([1, 2], np.float32), 0.4999).tolist() == [1]


def test_empty_boxes_stay_and_none_give_none():
    empty = np.array([[1, 1, 1, 1], [1, 1, 1, 1]], np.float32)   # their IoU is 0 / 0
    assert nms(empty, np.array([-1, -2], np.float32), 0.5).tolist() == [0, 1]
    assert nms(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), 0.5).tolist() == []
    assert nms(empty[:0], np.zeros(0, np.float32), 0.5, limit=3).tolist() == []


@pytest.mark.parametrize('count, kinds', [(300, 1), (900, 40), (1500, 8)])
def test_it_is_that_of_mxnet_bit_for_bit(count, kinds):
    boxes, scores, _ = random_boxes(count, count)
    classes = np.random.default_rng(0).integers(0, kinds, count)
    order = np.argsort(-scores, kind='stable')
    data = np.concatenate([order[:, None], -np.arange(count)[:, None], boxes[order],
                           classes[order, None]], axis=1).astype(np.float32)
    for threshold in (0.3, 0.6):
        found = mx.nd.contrib.box_nms(mx.nd.array(data), overlap_thresh=threshold,
                                      valid_thresh=-3e38, coord_start=2, score_index=1, id_index=6)
        expected = found[:, 0].asnumpy()
        np.testing.assert_array_equal(nms(boxes, scores, threshold, classes),
                                      expected[expected >= 0])
