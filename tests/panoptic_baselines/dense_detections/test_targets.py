"""Targets of dense detections against golden data and cases worked by hand."""
from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from panoptic_baselines.dense_detections.targets import (
    assign_locations,
    levelness_targets,
    lookup_by_box,
    lookup_by_mask,
    to_inclusive,
)
from panoptic_baselines.fcos.targets import centerness

SETS = [(ranges, weak) for ranges in ('fcos', 'small') for weak in (False, True)]


@pytest.fixture(scope='module')
def golden(parity_root):
    return dict(np.load(parity_root / 'realtime' / 'training' / 'target_assignment.npz'))


def setting(golden, ranges, weak):
    boxes = golden['boxes'].astype(np.float32)
    lookup = lookup_by_box(boxes) if weak else lookup_by_mask(golden['ids'])
    return lookup, boxes, golden[f'ranges_{ranges}'][1:-1]


@pytest.mark.parametrize('ranges, weak', SETS)
def test_the_assignment_of_an_image(golden, ranges, weak):
    lookup, boxes, sizes = setting(golden, ranges, weak)
    name = ranges + '_weak' * weak
    levels = [f'{name}_P{level}' for level in range(3, 8)]
    shapes = [golden[f'inst_{level}'].shape for level in levels]
    found = assign_locations(lookup, boxes, shapes, golden['strides'].tolist(), sizes)

    def expected(what):
        parts = [golden[f'{what}_{level}'] for level in levels]
        return np.concatenate([p.reshape(-1, p.shape[-2] * p.shape[-1]) for p in parts], axis=1).T
    np.testing.assert_array_equal(found.objects + 1, expected('inst')[:, 0])
    np.testing.assert_array_equal(found.distances, expected('off'))
    np.testing.assert_allclose(centerness(found.distances), expected('ctr')[:, 0], rtol=1e-6)
    classes = np.where(found.objects >= 0, golden['classes'][found.objects], 0)
    np.testing.assert_array_equal(classes, expected('cls')[:, 0])


@pytest.mark.parametrize('ranges, weak', SETS)
def test_the_levelness_of_an_image(golden, ranges, weak):
    lookup, boxes, sizes = setting(golden, ranges, weak)
    expected = golden[f'levelness_{ranges}' + '_weak' * weak]
    found = levelness_targets(lookup, boxes, expected.shape, sizes)
    np.testing.assert_array_equal(found.levels.reshape(expected.shape), expected)
    assert ((found.objects >= 0) == (found.levels > 0)).all()


def test_one_target_by_hand(parity_root):
    text = (parity_root / 'realtime' / 'training' / 'hand.json').read_text()
    case = json.loads(text)['target']
    instances = np.zeros((64, 64), np.uint8)
    instances[20:41, 10:51] = 1
    boxes = np.float32([[10, 20, 50, 40]])
    found = assign_locations(lookup_by_mask(instances), boxes, [(8, 8)], strides=[8], sizes=[])
    cell = 3 * 8 + 3   # (28, 28)
    assert found.objects[cell] == 0 and found.distances[cell].tolist() == case['ltrb']
    assert centerness(found.distances)[cell] == pytest.approx(case['centerness'])
    assert found.objects[0] == -1 and not found.distances[0].any()


def test_distances_at_a_bound_belong_to_both_levels():
    lookup, boxes = lookup_by_mask(np.ones((33, 33), np.uint8)), np.float32([[0, 0, 32, 32]])
    shapes = [(4, 4), (2, 2)]   # in the middle of them the largest distances are 20 and 24
    for bound, fine, coarse in ((19, 0, 4), (20, 4, 4), (24, 4, 4), (25, 4, 0)):
        found = assign_locations(lookup, boxes, shapes, [8, 16], [bound]).objects
        assert ((found[:16] == 0).sum(), (found[16:] == 0).sum()) == (fine, coarse)
    for bound, level in ((25, 2), (26, 1)):   # 26 from (6, 6)
        assert levelness_targets(lookup, boxes, (8, 8), [bound]).levels.reshape(8, 8)[1, 1] == level


def test_padding_and_small_objects_are_background():
    instances = np.zeros((10, 12), np.int32)
    instances[0, 0] = 1   # between the locations
    boxes = np.float32([[0, 0, 0, 0]])
    found = assign_locations(lookup_by_mask(instances), boxes, [(4, 4), (2, 2)], [8, 16], [64])
    assert (found.objects == -1).all() and not found.distances.any()
    pixels = levelness_targets(lookup_by_mask(instances), boxes, (8, 8))
    assert not pixels.levels.any()


def test_no_object_at_all():
    none = np.zeros((0, 4), np.float32)
    for lookup in (lookup_by_mask(np.zeros((8, 8), np.int32)), lookup_by_box(none)):
        found = assign_locations(lookup, none, [(2, 2), (1, 1)], [8, 16], [64])
        assert found.objects.tolist() == [-1] * 5 and found.distances.shape == (5, 4)
        assert levelness_targets(lookup, none, (3, 3)).levels.tolist() == [0] * 9


def test_one_of_two_identical_boxes_and_the_smaller_of_two():
    points = np.float32([[5, 5], [15, 15], [30, 30]])
    same = lookup_by_box(np.float32([[0, 0, 20, 20], [0, 0, 20, 20]]))(points)
    assert same[0] == same[1] >= 0 and same[2] == -1
    nested = lookup_by_box(np.float32([[0, 0, 10, 10], [0, 0, 20, 20]]))(points)
    assert nested.tolist() == [0, 1, -1]


def test_one_huge_object_is_found_on_the_coarsest_level_it_can_be():
    instances = np.ones((1024, 2048), np.int32)
    boxes = to_inclusive(np.float32([[0, 0, 2048, 1024]]))
    assert boxes.tolist() == [[0, 0, 2047, 1023]]
    shapes = [(1024 // s, 2048 // s) for s in (8, 16, 32, 64, 128)]
    found = assign_locations(lookup_by_mask(instances), boxes, shapes)
    assert (found.objects[-128:] == 0).all() and (found.objects[:-128] == -1).all()
    assert (levelness_targets(lookup_by_mask(instances), boxes, (256, 512)).levels == 5).all()


def test_workers_do_not_import_mxnet():
    code = ('import sys, panoptic_baselines.dense_detections.targets\n'
            'assert not {"mxnet", "gluoncv"} & set(sys.modules)')
    subprocess.run([sys.executable, '-c', code], check=True)
