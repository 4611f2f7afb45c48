"""Transforms of a config: their names, their strengths, and errors in them."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from adaptis.data.augment import Crop, build_augmentation
from adaptis.data.transforms import TRANSFORMS, parse_transforms
from adaptis.errors import AdaptisError
from adaptis.types import Sample


def picture(size: tuple = (40, 60)) -> Sample:
    """Colours of all kinds, none too dark or too bright; every pixel has a number of its own."""
    rng = np.random.default_rng(0)
    image = rng.integers(60, 160, (*size, 3)).astype(np.uint8)
    numbers = np.arange(1, size[0] * size[1] + 1, dtype=np.int32).reshape(size)
    return Sample(image, numbers, {}, numbers.copy())


def change(transforms: dict[str, Any], seed: int) -> np.ndarray:
    """The image after them."""
    return build_augmentation(transforms)(picture(), seed).image.astype(float)


def made(transforms: dict[str, Any], count: int = 60) -> list[np.ndarray]:
    return [change(transforms, seed) for seed in range(count)]


IMAGE = picture().image.astype(float)
MEAN = IMAGE.mean()


@pytest.mark.parametrize('of, whole', [('mean', MEAN), ('white', 255)])
def test_brightness_adds_a_share_of_mean_or_white(of: str, whole: float) -> None:
    added = [result - IMAGE for result in made(
        {'brightness': {'range': [-0.1, 0.2], 'of': of, 'prob': 1}})]
    shares = [change.mean() / whole for change in added]
    assert max(np.ptp(change) for change in added) <= 1          # the same for every pixel
    assert -0.105 < min(shares) < -0.08 and 0.17 < max(shares) < 0.201


def test_contrast_multiplies() -> None:
    factors = [result.mean() / MEAN for result in made(
        {'contrast': {'range': [-0.15, 0.4], 'prob': 1}})]
    assert 0.84 < min(factors) < 0.88 and 1.36 < max(factors) < 1.4


def test_channels_are_shifted_each_by_itself() -> None:
    shifts = np.array([(result - IMAGE).mean(axis=(0, 1)) for result in made(
        {'channel_shift': {'range': [-10, 10], 'prob': 1}})])
    assert (shifts.min(axis=0) > -10.1).all() and (shifts.min(axis=0) < -8).all()
    assert (shifts.max(axis=0) < 10.1).all() and (shifts.max(axis=0) > 8).all()
    assert np.abs(np.corrcoef(shifts.T)[np.triu_indices(3, 1)]).max() < 0.4


def spread(image: np.ndarray) -> float:
    """How far colours are from grey."""
    return float(np.ptp(image, axis=-1).mean())


def test_saturation_moves_colours_from_grey_and_hue_leaves_them_as_far() -> None:
    factors = [spread(result) / spread(IMAGE) for result in made(
        {'saturation': {'range': [-0.5, 0.2], 'prob': 1}})]
    assert 0.48 < min(factors) < 0.6 and 1.1 < max(factors) < 1.21
    turned = made({'hue': {'degrees': 90, 'prob': 1}})
    assert max(np.abs(result - IMAGE).mean() for result in turned) > 15
    assert max(abs(spread(result) / spread(IMAGE) - 1) for result in turned) < 0.05


def test_each_has_its_chance() -> None:
    for name, options in (('brightness', {}), ('contrast', {}), ('channel_shift', {}),
                          ('horizontal_flip', {}), ('shift_rotate', {'degrees': 10})):
        changed = [np.any(result != IMAGE) for result in
                   made({name: {**options, 'prob': 0.25}}, count=200)]
        assert 0.15 < np.mean(changed) < 0.35, name     # 3 deviations of 0.03 about 0.25


def test_images_and_maps_are_shifted_and_rotated_alike_and_the_outside_is_unknown() -> None:
    augment = build_augmentation({'shift_rotate': {'shift': 0.1, 'degrees': 20, 'prob': 1}})
    rows, cols = np.mgrid[:40, :60]
    sample = Sample(np.stack([rows * 4, cols * 4, rows * 0 + 200], -1).astype(np.uint8),
                    (rows * 60 + cols).astype(np.int32), {}, np.zeros((40, 60), np.int32))
    lost = []
    for seed in range(20):
        result = augment(sample, seed)
        unknown = result.instances < 0
        np.testing.assert_array_equal(unknown, result.semantic < 0)
        inside = (result.image[..., 2] == 200) & ~unknown     # its border is mixed with black
        seen = np.stack(np.divmod(result.instances, 60), -1)[inside] * 4
        assert np.abs(seen - result.image[inside][:, :2].astype(int)).max() <= 4  # half a pixel
        assert (result.image[unknown] < 200).any(axis=1).all()
        lost.append(unknown.mean())
    assert 0.02 < np.mean(lost) < 0.3


def test_transforms_apply_before_and_after_a_crop_in_one_order_whatever_the_file_says() -> None:
    one = {'channel_shift': {'prob': 1}, 'horizontal_flip': {'prob': 1},
           'shift_rotate': {'degrees': 5, 'prob': 1}}
    for crop in (None, Crop((20, 30), (0.5, 1.5))):
        first, second = (build_augmentation(dict(items), crop)(picture(), 3)
                         for items in (one.items(), reversed(one.items())))
        np.testing.assert_array_equal(first.image, second.image)
    assert [type(t) for t in parse_transforms(one)] == [TRANSFORMS[n] for n in (
        'shift_rotate', 'horizontal_flip', 'channel_shift')]
    assert parse_transforms({'hue': None}) == []


@pytest.mark.parametrize('content, words', [
    ({'horisontal_flip': {}}, r'transform "horisontal_flip" \(did you mean horizontal_flip\?\)'),
    ({3: {}}, 'no augmentation transform "3"'),
    ({'hue': 0.5}, 'transform hue is 0.5: it must be a mapping of strengths'),
    ({'hue': {'angle': 3}}, r'hue has no strength "angle" \(known: degrees, prob\)'),
    ({'hue': {'degrees': 270}}, 'hue has degrees 270: it must be a number between 0 and 180'),
    ({'contrast': {'range': [0.4, -0.15]}}, r'has range .*: it must be \[minimum, maximum\]'),
    ({'contrast': {'range': [-2, 1]}}, 'both at least -1'),
    ({'contrast': {'range': 0.2}}, r'contrast has range 0.2: it must be \[minimum, maximum\]'),
    ({'brightness': {'of': 'black'}}, "brightness has of 'black': it must be mean or white"),
    ({'brightness': {'prob': float('nan')}}, 'has prob nan: it must be a number between'),
    ({'brightness': {'prob': True}}, 'brightness has prob True')])
def test_mistakes_are_named(content: dict, words: str) -> None:
    with pytest.raises(AdaptisError, match=words):
        build_augmentation(content)
