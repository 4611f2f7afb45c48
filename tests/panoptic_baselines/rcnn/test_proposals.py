from __future__ import annotations

import numpy as np
import pytest

from panoptic_baselines.layers.topk import topk
from panoptic_baselines.rcnn.proposals import (
    detect,
    propose,
    select_detections,
    select_proposals,
    softmax,
)


@pytest.mark.parametrize('case', 'ab')
def test_proposals_are_chosen_as_official(kit, case):
    d = np.load(kit / 'ops' / 'rpn_select.npz')   # some rows are not finite
    per_level, limit = d[f'topk_{case}']
    order = [topk(d[f'raw_logits_l{level}'], per_level) for level in '01']
    boxes, logits = ([d[f'raw_{what}_l{level}'][best] for level, best in zip('01', order)]
                     for what in ('boxes', 'logits'))
    found = select_proposals(boxes, logits, tuple(d['image_hw']), limit, 0.7)
    np.testing.assert_allclose(found.boxes, d[f'out_boxes_{case}'], atol=1e-3)
    np.testing.assert_array_equal(found.logits, d[f'out_logits_{case}'])


@pytest.mark.parametrize('case', 'abc')
def test_detections_are_chosen_as_official(kit, case):
    d = np.load(kit / 'ops' / 'box_inference.npz')
    score, iou, limit = d[f'args_{case}']
    found = select_detections(d['boxes'], d['probs'], tuple(d['image_hw']), score_threshold=score,
                              nms_threshold=iou, limit=int(limit))
    for ours, theirs in zip(found, ('boxes', 'scores', 'classes', 'roi')):
        np.testing.assert_array_equal(ours, d[f'out_{theirs}_{case}'])


def test_layout_of_the_rpn_outputs():
    """Channels are anchors, deltas dx, dy, dw, dh inside of each; anchors are by place first."""
    anchors = np.array([[0, 0, 4, 4], [0, 0, 8, 8], [8, 0, 12, 4], [8, 0, 16, 8]], np.float32)
    logits = np.array([[[-1, -2]], [[3, 5]]], np.float32)   # A = 2, h = 1, w = 2
    deltas = np.zeros((8, 1, 2), np.float32)
    deltas[4, 0, 1] = -0.25   # dx of the second anchor in the second place
    found = propose([logits], [deltas], [anchors], (20, 20), per_level=3)
    np.testing.assert_array_equal(found.logits, [5, 3, -1])
    np.testing.assert_array_equal(found.boxes, [[6, 0, 14, 8], [0, 0, 8, 8], [0, 0, 4, 4]])


def test_an_image_in_which_no_box_is_left():
    anchors = np.array([[10, 10, 14, 14]], np.float32)
    found = propose([np.zeros((1, 1, 1), np.float32)], [np.zeros((4, 1, 1), np.float32)],
                    [anchors], (8, 8))
    assert [part.shape for part in found] == [(0, 4), (0,), (0,)]


def test_detections_by_hand():
    proposals = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [30, 30, 60, 60]], np.float32)
    logits = np.log(np.array([[0.6, 0.3, 0.1], [0.5, 0.01, 0.49], [0.02, 0.9, 0.08]], np.float32))
    deltas = np.zeros((3, 8), np.float32)
    deltas[0, 4:] = [10, 0, 0, 0]   # class 1 of the first box lies one width further right
    found = detect(logits, deltas, proposals, (50, 50))
    # The second box is suppressed by the first in class 0; the third is cut at the image.
    assert found.rows.tolist() == [2, 0, 0] and found.classes.tolist() == [1, 0, 1]
    np.testing.assert_allclose(found.scores, [0.9, 0.6, 0.3], rtol=1e-6)
    np.testing.assert_allclose(found.boxes, [[30, 30, 50, 50], [0, 0, 10, 10], [10, 0, 20, 10]])
    assert len(detect(logits, deltas, proposals, (50, 50), limit=2).rows) == 2
    assert len(detect(logits, deltas, proposals, (50, 50), score_threshold=0.95).rows) == 0


def test_softmax_of_large_logits():
    np.testing.assert_allclose(softmax(np.array([[1000.0, 1000.0], [-1000.0, 0.0]])),
                               [[0.5, 0.5], [0, 1]])
