"""Mask targets against the official ones, and by hand."""
from __future__ import annotations

import json

import numpy as np
import pytest

from panoptic_baselines.rcnn.mask_targets import bitmap_targets, polygon_targets


def bits(packed, height, width):
    return np.unpackbits(packed, axis=1)[:, :height * width].reshape(-1, height, width)


def stack(masks, boxes):
    """Targets of masks that overlap: an id map of its own for each."""
    return np.concatenate([bitmap_targets(mask, [1], box[None])
                           for mask, box in zip(masks, boxes)])


def test_official_targets(parity_root):
    folder = parity_root / 'panoptic_fpn' / 'ops'
    case = np.load(folder / 'mask_targets.npz')
    polygons = json.loads((folder / 'mask_targets.json').read_text())['polygons']
    wanted = bits(case['polygon_target_bits'], 28, 28)
    np.testing.assert_array_equal(polygon_targets(polygons, case['boxes']), wanted)
    masks = bits(case['bitmask_bits'], *case['bitmask_hw'])
    np.testing.assert_array_equal(stack(masks, case['boxes']),
                                  bits(case['bitmask_target_bits'], 28, 28))


def test_official_targets_of_the_mask_loss(parity_root):
    case = np.load(parity_root / 'panoptic_fpn' / 'training' / 'mask_loss.npz')
    masks = bits(case['bitmask_bits'], *case['bitmask_hw'])
    np.testing.assert_array_equal(stack(masks, case['boxes']), bits(case['target_bits'], 28, 28))


def test_a_box_around_its_object_is_full():
    instances = np.zeros((40, 50), np.int32)
    instances[10:20, 5:35] = 7
    instances[12, 6] = 3
    targets = bitmap_targets(instances, [7, 3, 9], np.array([[5, 10, 35, 20]] * 3, float), 10)
    assert targets.shape == (3, 10, 10)
    assert targets[0].sum() == 100 and targets[1].sum() == 0 and targets[2].sum() == 0


@pytest.mark.parametrize('box', [(-30, -30, -20, -20), (4, 4, 4, 4), (60, 2, 70, 9)])
def test_boxes_without_content_are_empty(box):
    instances = np.ones((12, 16), np.int32)
    assert bitmap_targets(instances, [1], np.array([box], float)).sum() == 0


def test_images_one_pixel_wide():
    instances = np.ones((9, 1), np.int32)
    targets = bitmap_targets(instances, [1], np.array([[0, 0, 1, 9]], float), 4)
    np.testing.assert_array_equal(targets, np.ones((1, 4, 4)))


def test_no_boxes():
    assert bitmap_targets(np.ones((4, 4), np.int32), [], np.zeros((0, 4))).shape == (0, 28, 28)
    assert polygon_targets([], np.zeros((0, 4))).shape == (0, 28, 28)
