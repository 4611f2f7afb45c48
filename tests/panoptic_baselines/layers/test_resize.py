from __future__ import annotations

import numpy as np
import pytest

from panoptic_baselines.layers.resize import resize_image, resize_labels, target_size


def test_sizes_are_the_official_ones(kit):
    for height, width, short, longest, *expected in np.load(kit / 'ops/resize.npz')['shape_table']:
        assert target_size((height, width), short, longest) == tuple(expected)


@pytest.mark.parametrize('case', ['up', 'down', 'max'])
def test_images_are_the_official_ones(kit, case):
    d = np.load(kit / 'ops' / 'resize.npz')
    size = target_size(d['image'].shape[:2], *d[f'args_{case}'])
    np.testing.assert_array_equal(resize_image(d['image'], size), d[f'resized_{case}'])


@pytest.mark.parametrize('case', ['up', 'down'])
@pytest.mark.parametrize('dtype', [np.uint8, np.int32, np.int64])
def test_label_maps_are_the_official_ones(kit, case, dtype):
    d = np.load(kit / 'ops' / 'resize.npz')
    expected = d[f'seg_{case}']
    found = resize_labels(d['seg'].astype(dtype), expected.shape)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize('size, short, longest, expected', [
    ((100, 50), None, None, (100, 50)), ((100, 50), None, 60, (60, 30)),
    ((1, 500), 800, 1333, (3, 1333)), ((500, 1), 100, 60, (60, 1)), ((7, 7), 14, None, (14, 14))])
def test_sizes_by_hand(size, short, longest, expected):
    assert target_size(size, short, longest) == expected


def test_labels_keep_numbers_that_bytes_do_not_hold():
    labels = np.array([[-1, 70000]], np.int32)
    np.testing.assert_array_equal(resize_labels(labels, (2, 2)), [[-1, 70000]] * 2)
