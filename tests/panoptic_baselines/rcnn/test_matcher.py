"""Matching against the official cases, and by hand."""
from __future__ import annotations

import numpy as np

from panoptic_baselines.rcnn.matcher import match


def test_official_matches(parity_root):
    case = np.load(parity_root / 'panoptic_fpn' / 'training' / 'matcher.npz')
    index, labels = match(case['iou'], 0.7, 0.3, keep_best=True)
    np.testing.assert_array_equal(index, case['match_rpn'])
    np.testing.assert_array_equal(labels, case['label_rpn'])
    index, labels = match(case['iou'], 0.5)
    np.testing.assert_array_equal(index, case['match_roi'])
    np.testing.assert_array_equal(labels, case['label_roi'])


def test_thresholds_by_hand():
    iou = np.array([[0.7, 0.3, 0.29, 0.5], [0.1, 0.4, 0.2, 0.6]])
    index, labels = match(iou, 0.7, 0.3)
    assert index.tolist() == [0, 1, 0, 1]
    assert labels.tolist() == [1, -1, 0, -1]


def test_the_best_box_of_each_object_counts_with_ties():
    iou = np.array([[0.2, 0.2, 0.1], [0.9, 0.0, 0.0]])
    index, labels = match(iou, 0.95, 0.3, keep_best=True)
    assert labels.tolist() == [1, 1, 0]
    assert index.tolist() == [1, 0, 0]   # the first is the best of object 0, but belongs to 1


def test_nothing_to_match():
    index, labels = match(np.zeros((0, 3)), 0.5, keep_best=True)
    assert index.tolist() == labels.tolist() == [0, 0, 0]
    index, labels = match(np.zeros((2, 0)), 0.5, keep_best=True)
    assert len(index) == len(labels) == 0


def test_an_object_that_no_box_overlaps_claims_none():
    assert match(np.zeros((1, 3)), 0.7, 0.3, keep_best=True)[1].tolist() == [0, 0, 0]
