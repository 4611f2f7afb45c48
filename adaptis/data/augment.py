"""Augmentation: albumentations where it has the transform, seeded sample by sample."""
from __future__ import annotations

import dataclasses
import random
from typing import Callable, List

import numpy as np

from adaptis.errors import AdaptisError
from adaptis.types import Sample

Augmentation = Callable[[Sample, int], Sample]
NAMES = ('none', 'toy_v1', 'toy_v2')


def build_augmentation(name: str) -> Augmentation:
    """The augmentation of a data set, as ``augment(sample, seed) -> sample``.

    'toy_v1': both flips, transposition (a toy scene has no up), and the blur and noise that the
    test images were stored with, of random strength, and now and then JPEG compression (the
    authors' pictures are JPEGs).  'toy_v2': the same without blur and noise.
    'none': nothing.

    Raises AdaptisError for another name.
    """
    check_augmentation(name)
    if name == 'none':
        return _unchanged
    return _Albumentations(_geometry() + (_degradation() if name == 'toy_v1' else []))


def check_augmentation(name: str) -> None:
    """Raise AdaptisError if there is no augmentation of this name."""
    if name not in NAMES:
        raise AdaptisError(f'There is no augmentation "{name}"; known: {", ".join(NAMES)}.')


def random_crop(sample: Sample, side: int, rng: np.random.Generator) -> Sample:
    """A random square of a sample that is larger than ``side`` pixels; else what there is of it."""
    top, left = (int(rng.integers(max(size - side, 0) + 1)) for size in sample.image.shape[:2])
    window = slice(top, top + side), slice(left, left + side)
    return dataclasses.replace(
        sample, **{key: np.ascontiguousarray(getattr(sample, key)[window])
                   for key in ('image', 'instances', 'semantic')})


def _unchanged(sample: Sample, seed: int) -> Sample:
    return sample


class _Albumentations:
    def __init__(self, transforms: List):
        import albumentations
        self._compose = albumentations.Compose(
            transforms, additional_targets={'instances': 'mask', 'semantic': 'mask'})

    def __call__(self, sample: Sample, seed: int) -> Sample:
        # Albumentations 1.3 draws everything from Python's global generator.
        state = random.getstate()
        random.seed(seed)
        try:
            result = self._compose(image=sample.image, instances=sample.instances,
                                   semantic=sample.semantic)
        finally:
            random.setstate(state)
        arrays = {key: np.ascontiguousarray(value) for key, value in result.items()}
        return dataclasses.replace(sample, **arrays)


def _geometry() -> List:
    import albumentations as A
    return [A.HorizontalFlip(p=0.5), A.VerticalFlip(p=0.5), A.Transpose(p=0.5)]


def _degradation() -> List:
    import albumentations as A

    from toy_data import degrade

    class Degrade(A.ImageOnlyTransform):
        """The blur and noise of the toy generator, of random strength."""

        def apply(self, img: np.ndarray, state: int = 0, **params) -> np.ndarray:
            return degrade(img, np.random.default_rng(state))

        def get_params(self) -> dict:
            return {'state': random.getrandbits(63)}

    return [Degrade(p=1.0), A.ImageCompression(quality_lower=80, quality_upper=98, p=0.25)]
