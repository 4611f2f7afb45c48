"""The RoIs that a step samples, against the official rules and by hand."""
from __future__ import annotations

import numpy as np
import pytest

from panoptic_baselines.layers.boxes import pairwise_iou
from panoptic_baselines.rcnn.matcher import match
from panoptic_baselines.rcnn.sampling import sample_balanced, sample_rois


def test_official_rois(parity_root):
    case = np.load(parity_root / 'panoptic_fpn' / 'training' / 'roi_sampling.npz')
    everything = np.concatenate([case['proposals'], case['gt_boxes']])
    index, labels = match(pairwise_iou(case['gt_boxes'], everything), 0.5)
    np.testing.assert_array_equal(index, case['matched_idx'])
    np.testing.assert_array_equal(labels, case['matched_label'])
    rois = sample_rois(case['proposals'], case['gt_boxes'], case['gt_classes'], 80,
                       np.random.default_rng(0))
    classes = np.where(labels == 1, case['gt_classes'][index], 80)
    np.testing.assert_array_equal(rois.classes, classes[rois.index])
    np.testing.assert_array_equal(rois.boxes, everything[rois.index])
    np.testing.assert_array_equal(rois.gt, index[rois.index])
    official = case['sampled_classes']
    assert len(rois.index) == len(official) == len(set(rois.index))
    assert (rois.classes < 80).sum() == (official < 80).sum()
    # The official sample follows the same rules.
    np.testing.assert_array_equal(official, classes[case['sampled_idx']])
    np.testing.assert_array_equal(case['sampled_gt_boxes'],
                                  case['gt_boxes'][index[case['sampled_idx']]])


@pytest.mark.parametrize('positives, negatives, expected', [
    (10, 100, (5, 15)), (2, 100, (2, 18)), (10, 3, (5, 3)), (0, 0, (0, 0))])
def test_balance(positives, negatives, expected):
    some, others = sample_balanced(np.arange(positives), np.arange(negatives) + 50, 20, 0.25,
                                   np.random.default_rng(1))
    assert (len(some), len(others)) == expected
    assert set(some) <= set(range(positives)) and (others >= 50).all()
    assert len(set(some)) == len(some) and len(set(others)) == len(others)


def boxes(*rows):
    return np.array(rows, np.float32).reshape(-1, 4)


def test_images_without_objects_are_background():
    anchors, none = boxes((0, 0, 10, 10), (5, 5, 9, 9)), boxes()
    rois = sample_rois(anchors, none, np.zeros(0, int), 3, np.random.default_rng(0))
    assert rois.classes.tolist() == [3, 3]
    rois = sample_rois(none, none, np.zeros(0, int), 3, np.random.default_rng(0))
    assert len(rois.boxes) == 0


def test_ground_truth_is_a_proposal_and_comes_first():
    rois = sample_rois(boxes((50, 50, 60, 60)), boxes((0, 0, 10, 10)), np.array([2]), 3,
                       np.random.default_rng(0))
    assert rois.index.tolist() == [1, 0] and rois.classes.tolist() == [2, 3]
    np.testing.assert_array_equal(rois.boxes[0], [0, 0, 10, 10])
