"""Augmentation keeps image and masks together, and one seed gives one result."""
from __future__ import annotations

import dataclasses
import itertools
import random

import numpy as np
import pytest

from adaptis.data.augment import MEAN_COLOR, Crop, build_augmentation, random_crop
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


def test_the_official_toy_augmentation_leaves_a_quarter_clean_and_noise_is_grey() -> None:
    rng = np.random.default_rng(0)
    flat = dataclasses.replace(sample((40, 40)), image=np.full((40, 40, 3), 128, np.uint8))
    made = [build_augmentation('toy_v1_official')(flat, seed).image.astype(int) - 128
            for seed in range(300)]
    noisy = [noise for noise in made if noise.any()]     # blur does not show on a flat image
    assert 120 < len(noisy) < 180
    assert all((noise == noise[..., :1]).all() for noise in noisy)
    deviations = [noise.std() for noise in noisy]
    assert 9 < min(deviations) < 13 and 37 < max(deviations) < 42
    image = rng.integers(0, 255, (40, 40, 3)).astype(np.uint8)
    varied = dataclasses.replace(flat, image=image)
    results = [build_augmentation('toy_v1_official')(varied, seed).image for seed in range(200)]
    mirrors = [image[::a, ::b] for a, b in itertools.product((1, -1), repeat=2)]
    clean = [r for r in results if any((r == mirror).all() for mirror in mirrors)]
    assert 30 < len(clean) < 70
    assert 10 < sum((r == image).all() for r in clean) < 40


def test_the_official_flips_are_none_in_half_of_the_images_and_each_in_a_sixth() -> None:
    original = sample()
    augment = build_augmentation('toy_v2_official')
    seen = [augment(original, seed).image for seed in range(600)]
    for (a, b), share in {(1, 1): 1 / 2, (1, -1): 1 / 6, (-1, 1): 1 / 6, (-1, -1): 1 / 6}.items():
        count = sum((result == original.image[::a, ::b]).all() for result in seen)
        assert abs(count - 600 * share) < 4 * (600 * share * (1 - share)) ** 0.5


@pytest.mark.parametrize('name', ['toy_v1', 'toy_v2', 'toy_v1_official'])
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
        result = random_crop(sample((7, 9)), (6, 6), rng)
        assert result.image.shape == (6, 6, 3)
        np.testing.assert_array_equal(result.image[..., 0], result.instances * 50)
        corners.add(int(result.image[0, 0, 1]))
    assert len(corners) == 8  # two rows by four columns


def test_a_crop_larger_than_the_image_is_the_image() -> None:
    assert random_crop(sample(), (50, 40), np.random.default_rng(0)).image.shape == (12, 12, 3)


def photo(size: tuple = (60, 90)) -> Sample:
    """Blocks of one colour per object: 1, 2, the crowd 3, and void without an object."""
    ids, semantic = np.zeros(size, np.int32), np.zeros(size, np.int32)
    half, third = size[0] // 2, size[1] // 3
    ids[:half, :third], ids[half:, :third], ids[:half, third:2 * third] = 1, 2, 3
    semantic[ids > 0] = 11
    semantic[half:, third:2 * third] = -1
    image = np.stack([ids * 60, (semantic + 1) * 20, np.full(size, 128)], -1).astype(np.uint8)
    return Sample(image=image, instances=ids, semantic=semantic, classes={1: 11, 2: 11, 3: 11},
                  ignored=frozenset({3}), name='p')


@pytest.fixture
def plain_colors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Colours stay as they are, so that they still tell what a pixel shows."""
    import albumentations as A
    for transform in (A.RandomBrightnessContrast, A.RGBShift):
        monkeypatch.setattr(transform, 'apply', lambda self, img, **params: img)


@pytest.mark.parametrize('crop', [
    Crop((40, 50)), Crop((40, 50), (0.7, 1.9)), Crop((40, 50), short_side=45, max_side=60),
    Crop((80, 96)), Crop((80, 96), (0.5, 2.5)), Crop((33, 200), (0.9, 1.4), short_side=31),
    Crop((40, 50), long_side=(45, 200))])
@pytest.mark.usefixtures('plain_colors')
def test_photos_and_their_maps_stay_together(crop: Crop) -> None:
    augment = build_augmentation('cityscapes', crop)
    wrong, seen = [], set()
    for seed in range(20):
        result = augment(photo(), seed)
        assert result.image.shape == (*crop.size, 3) and result.image.dtype == np.uint8
        assert result.instances.shape == result.semantic.shape == crop.size
        unknown = result.instances == -1
        np.testing.assert_array_equal(result.image[unknown], np.broadcast_to(
            MEAN_COLOR, (unknown.sum(), 3)))
        assert (result.semantic[unknown] == -1).all()
        known = np.stack([result.instances * 60, (result.semantic + 1) * 20], -1)
        differs = np.abs(known - result.image[..., :2].astype(int)).max(axis=-1) > 0
        wrong.append(differs[~unknown].mean())
        assert set(np.unique(result.instances)) <= {-1, 0, 1, 2, 3}
        seen.add(result.image.tobytes())
    # Only where two blocks meet: an interpolated colour has no label that it belongs to.
    assert np.mean(wrong) < 0.06 and len(seen) > 3
    rescaled = crop != Crop(crop.size)
    assert rescaled or not np.any(wrong)


def test_what_is_rescaled_is_what_the_config_asks_for() -> None:
    assert Crop((9, 9), short_side=600).base_factor(400, 500) == 1.5
    assert Crop((9, 9), short_side=600, max_side=625).base_factor(400, 500) == 1.25
    assert Crop((9, 9), max_side=2048).base_factor(3000, 4096) == 0.5
    assert Crop((9, 9), max_side=2048).base_factor(600, 800) == 1.0
    assert Crop((9, 9), short_side=512).base_factor(1024, 2048) == 0.5   # half-size Cityscapes


def test_a_random_longer_side_shrinks_large_images_and_enlarges_small_ones() -> None:
    crop = Crop((400, 800), long_side=(500, 2200))
    for size in ((768, 1024), (4000, 6000), (300, 200)):
        sides = [max(size) * crop.draw_factor(*size) for _ in range(300)]
        assert 500 <= min(sides) < 540 and 2160 < max(sides) <= 2200


@pytest.mark.parametrize('factor', [0.5, 0.8, 2.0])
@pytest.mark.usefixtures('plain_colors')
def test_pixels_and_labels_are_rescaled_alike_and_by_the_factor(factor: float) -> None:
    columns = np.tile(np.arange(120, dtype=np.int32), (80, 1))
    image = np.repeat((columns * 2).astype(np.uint8)[..., None], 3, axis=2)
    sample = Sample(image, columns, {}, columns)
    augment = build_augmentation('coco', Crop((20, 30), (factor, factor)))
    for seed in range(8):
        result = augment(sample, seed)
        gap = result.image[..., 0] / 2 - result.instances  # how far a label is from its pixel
        assert np.abs(gap).max() <= max(0.5, 0.5 / factor) and abs(gap.mean()) <= 0.5
        steps = np.abs(np.diff(result.instances, axis=1))
        assert steps.mean() == pytest.approx(1 / factor, rel=0.06)


@pytest.mark.parametrize('name', ['flip', 'vistas', 'coco'])
def test_a_crop_can_do_with_flips_alone(name: str) -> None:
    seen = {build_augmentation(name, Crop((60, 90)))(photo(), seed).image.tobytes()
            for seed in range(20)}
    assert seen == {photo().image.tobytes(), photo().image[:, ::-1].tobytes()}


def test_colours_change_and_maps_do_not() -> None:
    augment = build_augmentation('cityscapes')
    results = [augment(photo(), seed) for seed in range(12)]
    means = [r.image.mean(axis=(0, 1)) for r in results]
    assert np.ptp(means, axis=0).min() > 10
    for r in results:
        flipped = r.instances[0, 0] != 1
        np.testing.assert_array_equal(r.instances[:, ::-1] if flipped else r.instances,
                                      photo().instances)
    again = [augment(photo(), seed) for seed in range(12)]
    assert [r.image.tobytes() for r in results] == [r.image.tobytes() for r in again]


def test_chance_has_every_part_of_a_photo_and_every_place_beside_it() -> None:
    columns = np.tile(np.arange(12, dtype=np.int32), (6, 1))
    sample = Sample(np.zeros((6, 12, 3), np.uint8), columns, {}, np.zeros((6, 12), np.int32))
    augment = build_augmentation('vistas', Crop((9, 8)))
    results = [augment(sample, seed).instances for seed in range(120)]
    assert {int(r.max()) for r in results} == {7, 8, 9, 10, 11}
    assert {int((r[:, 0] < 0).argmin()) for r in results} == {0, 1, 2, 3}


@pytest.mark.parametrize('crop', [Crop((8, 8), (0.5, 1)), Crop((8, 8), short_side=9),
                                  Crop((8, 8), max_side=9)])
def test_toys_are_not_rescaled(crop: Crop) -> None:
    with pytest.raises(AdaptisError, match='"toy_v1" does not rescale images: leave out scale'):
        build_augmentation('toy_v1', crop)
