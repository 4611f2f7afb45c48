"""Decoding and selection against the official outputs, from the official heads' tensors."""
from __future__ import annotations

import numpy as np
import pytest

from panoptic_baselines.fcos.decode import find_candidates, locations, select_detections
from panoptic_baselines.layers.nms import nms
from tests.panoptic_baselines.condinst.golden import LEVELS, STRIDES, close, same_candidates


def test_locations(ops):
    data = ops('compute_locations')
    for name, expected in data.items():
        shape, stride = name[len('loc_'):].split('_s')
        found = locations([int(side) for side in shape.split('x')], int(stride))
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize('name', 'ab')
def test_candidates_and_detections(cases, name):
    case = cases[name]
    found = find_candidates(*case.dense(), STRIDES)
    expected = case.candidates('cand_')
    for part in ('levels', 'locations', 'classes'):   # in the official order
        np.testing.assert_array_equal(getattr(found, part), getattr(expected, part))
    close(found.boxes, expected.boxes, 5e-3)
    close(found.scores, expected.scores, 1e-5)
    best = select_detections(found)
    rows = same_candidates(best, case.candidates('det_'))
    np.testing.assert_array_equal(rows, range(len(rows)))
    params = np.stack([case[f'top_p{level + 3}'][0].reshape(169, -1)[:, cell]
                       for level, cell in zip(best.levels, best.cells)])
    close(params, case['det_params'], 1e-6)


@pytest.mark.parametrize('image', [0, 1])
@pytest.mark.parametrize('kind', ['twc', 'plain'])
def test_both_limits_bite(ops, kind, image):
    data = ops('proposals')
    levels = range(len(LEVELS))
    logits, regression, centerness = ([data[f'{what}{i}'][image] for i in levels]
                                      for what in ('logits', 'reg', 'ctr'))
    distances = [x * stride for x, stride in zip(regression, STRIDES)]
    found = find_candidates(logits, distances, centerness, STRIDES, thresh_with_ctr=kind == 'twc')
    counts = [np.count_nonzero(found.levels == i) for i in levels]
    expected = data[f'{kind}_im{image}_candidates_per_level']
    np.testing.assert_array_equal(counts, expected)
    assert expected.max() == 1000
    same_candidates(select_detections(found), data.candidates(f'{kind}_im{image}_'))


def test_suppression(ops):
    data = ops('nms')
    boxes, scores, threshold = data['boxes'], data['scores'], float(data['iou_threshold'])
    np.testing.assert_array_equal(nms(boxes, scores, threshold, data['classes']), data['keep'])
    np.testing.assert_array_equal(nms(boxes, scores, threshold), data['keep_class_agnostic'])


def test_equals_of_the_last_one_stay():
    logits = np.zeros((1, 2, 2), np.float32)
    distances = np.ones((4, 2, 2), np.float32)
    found = find_candidates([logits], [distances], [logits], [8])
    assert len(select_detections(found, limit=2).scores) == 4
    assert len(select_detections(found, limit=None).scores) == 4
    assert len(find_candidates([logits], [distances], [logits], [8], per_level=3).scores) == 3
    np.testing.assert_allclose(found.scores, 0.5)
    np.testing.assert_array_equal(found.boxes[1], [11, 3, 13, 5])


def test_nothing_found():
    logits = np.full((3, 2, 2), -9, np.float32)
    found = find_candidates([logits], [np.ones((4, 2, 2), np.float32)], [logits[:1]], [8])
    assert found.boxes.shape == found.locations[:, [0, 0, 1, 1]].shape == (0, 4)
    assert len(select_detections(found).scores) == 0
