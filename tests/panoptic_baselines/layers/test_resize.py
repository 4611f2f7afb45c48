from __future__ import annotations

import numpy as np
import PIL
import pytest

from panoptic_baselines.layers import resize
from panoptic_baselines.layers.resize import (
    resample,
    resize_image,
    resize_labels,
    subsample,
    target_size,
)


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


rows_first = pytest.mark.skipif(int(PIL.__version__.split('.')[0]) > 11,
                                reason='newer ones begin with what loses more')


@pytest.mark.parametrize('size, target', [
    ((37, 53), (80, 115)), ((90, 61), (31, 21)), ((40, 60), (40, 33)), ((3, 200), (1, 67)),
    ((25, 25), (25, 25)), ((1, 1), (7, 5)),
    pytest.param((64, 96), (43, 130), marks=rows_first),
    pytest.param((200, 40), (70, 14), marks=rows_first)])
def test_without_pillow_images_are_the_same_bit_for_bit(monkeypatch, size, target):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)
    image[:size[0] // 2, :size[1] // 2] = 255   # whose sums round up to more than there is
    expected = resize_image(image, target)
    np.testing.assert_array_equal(resample(image, target), expected)
    monkeypatch.setattr(resize, 'Image', None)
    np.testing.assert_array_equal(resize_image(image, target), expected)


def test_subsampling_takes_the_middle() -> None:
    labels = np.arange(64).reshape(1, 8, 8)
    assert subsample(labels, 4).tolist() == [[[18, 22], [50, 54]]]
