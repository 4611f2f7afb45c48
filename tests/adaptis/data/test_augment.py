"""Augmentation keeps image and masks together, and one seed gives one result."""
from __future__ import annotations

import random

import numpy as np
import pytest

from adaptis.data.augment import build_augmentation, random_crop
from adaptis.errors import AdaptisError
from adaptis.types import Sample


def sample(size: tuple = (12, 12)) -> Sample:
    """Every pixel tells its object and its own number."""
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 3, size).astype(np.int32)
    image = np.stack([ids * 50, np.arange(ids.size).reshape(size) % 251, ids * 0], -1)
    return Sample(image=image.astype(np.uint8), instances=ids, classes={1: 1, 2: 1},
                  semantic=(ids > 0).astype(np.int32), ignored=frozenset({2}), name='s')


def test_geometry_moves_image_and_masks_alike() -> None:
    augment = build_augmentation('toy_v2')
    seen = set()
    for seed in range(40):
        result = augment(sample(), seed)
        np.testing.assert_array_equal(result.image[..., 0], result.instances * 50)
        np.testing.assert_array_equal(result.semantic, result.instances > 0)
        assert result.ignored == {2} and result.image.flags.c_contiguous
        seen.add(result.image.tobytes())
    assert len(seen) == 8  # the symmetries of a square


def test_toy_v1_adds_blur_and_noise_to_the_image_alone() -> None:
    plain, noisy = (build_augmentation(name)(sample(), 5) for name in ('none', 'toy_v1'))
    assert np.abs(plain.image.astype(int).mean() - noisy.image.mean()) < 30
    assert noisy.image.dtype == np.uint8 and len(np.unique(noisy.image)) > 20
    assert sorted(noisy.instances.ravel()) == sorted(plain.instances.ravel())


@pytest.mark.parametrize('name', ['toy_v1', 'toy_v2'])
def test_the_seed_decides_and_nothing_else(name: str) -> None:
    augment = build_augmentation(name)
    first = augment(sample(), 11)
    random.seed(99)
    np.random.seed(99)
    before = random.getstate()
    second = augment(sample(), 11)
    np.testing.assert_array_equal(first.image, second.image)
    np.testing.assert_array_equal(first.instances, second.instances)
    assert random.getstate() == before
    others = [augment(sample(), seed).image.tobytes() for seed in range(12, 20)]
    assert any(o != first.image.tobytes() for o in others)


def test_none_changes_nothing() -> None:
    original = sample()
    assert build_augmentation('none')(original, 1) is original


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(AdaptisError, match='no augmentation "toy_v3"'):
        build_augmentation('toy_v3')


def test_crops_are_cut_from_all_maps_alike_and_reach_every_corner() -> None:
    rng, corners = np.random.default_rng(1), set()
    for _ in range(200):
        result = random_crop(sample((7, 9)), 6, rng)
        assert result.image.shape == (6, 6, 3)
        np.testing.assert_array_equal(result.image[..., 0], result.instances * 50)
        corners.add(int(result.image[0, 0, 1]))
    assert len(corners) == 8  # two rows by four columns


def test_a_crop_larger_than_the_image_is_the_image() -> None:
    assert random_crop(sample(), 50, np.random.default_rng(0)).image.shape == (12, 12, 3)
