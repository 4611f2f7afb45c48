from __future__ import annotations

import numpy as np

from panoptic_baselines.layers.boxes import clip, nonempty, scale
from panoptic_baselines.rcnn.paste import paste_masks
from tests.panoptic_baselines.golden import unpack


def test_it_is_the_official_one(kit):
    d = np.load(kit / 'ops' / 'paste_masks.npz')
    size = tuple(d['image_hw'])
    for threshold in (0.1, 0.3, 0.45, 0.6, 0.8, 0.95):
        different = paste_masks(d['masks'], d['boxes'], size, threshold) != (d['soft'] >= threshold)
        assert (np.abs(d['soft'][different] - threshold) < 5e-5).all()
    np.testing.assert_array_equal(paste_masks(d['masks'], d['boxes'], size),
                                  unpack(d['pasted_bits'], size))


def test_boxes_and_masks_reach_the_output_size_as_official(kit):
    d = np.load(kit / 'ops' / 'detector_postprocess.npz')
    source, target = tuple(d['image_hw']), tuple(d['output_hw'])
    boxes = clip(scale(d['boxes'], source, target), target)
    left = nonempty(boxes)
    np.testing.assert_array_equal(np.flatnonzero(left), d['out_index'])
    np.testing.assert_allclose(boxes[left], d['out_boxes'], atol=1e-4)
    found = paste_masks(d['masks'][left, 0], boxes[left], target)
    np.testing.assert_array_equal(found, unpack(d['out_masks_bits'], target))


def test_a_full_mask_fills_its_box():
    masks = np.ones((1, 28, 28), np.float32)
    found = paste_masks(masks, np.array([[2, 1, 6, 4]], np.float32), (6, 8))[0]
    expected = np.zeros((6, 8), bool)
    expected[1:4, 2:6] = True
    np.testing.assert_array_equal(found, expected)


def test_values_between_the_centres_by_hand():
    mask = np.array([[[0, 1], [0, 1]]], np.float32)   # 2 x 2 cells in a box of 4 x 4 pixels
    # Cell centres are at x = 1 and 3, pixel centres at 0.5, 1.5, ...; the mask ends in zeros.
    for row, values in ((1, [0, 0.25, 0.75, 0.75]), (0, [0, 0.1875, 0.5625, 0.5625])):
        for value in (0.1, 0.1875, 0.25, 0.5625, 0.75, 0.8):
            found = paste_masks(mask, np.array([[0, 0, 4, 4]], np.float32), (4, 4), value)[0]
            assert found[row].tolist() == [v >= value for v in values]


def test_boxes_beyond_the_image_and_no_boxes():
    masks = np.ones((2, 28, 28), np.float32)
    boxes = np.array([[-5, -5, 3, 3], [20, 20, 30, 30]], np.float32)
    found = paste_masks(masks, boxes, (8, 8))
    assert found[0].sum() == 9 and not found[1].any()
    assert paste_masks(masks[:0], boxes[:0], (8, 8)).shape == (0, 8, 8)
    assert paste_masks(masks[:1], boxes[:1], (1, 8)).sum() == 3
