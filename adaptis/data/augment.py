"""Augmentation: albumentations where it has the transform, seeded sample by sample."""
from __future__ import annotations

import dataclasses
import random
from dataclasses import dataclass
from typing import Callable, Optional

import cv2
import numpy as np

from adaptis.errors import AdaptisError
from adaptis.types import AnnotatedObjects, Sample

Augmentation = Callable[[Sample, int], Sample]
Span = tuple[int, int, int]      # along an axis: from, to (exclusive), and how many they become
TOYS = ('none', 'flip', 'toy_v1', 'toy_v2')
PHOTOS = ('cityscapes', 'vistas', 'coco')
NAMES = TOYS + PHOTOS

UNKNOWN = -1                     # in both maps: pixels that padding added
MEAN_COLOR = (124, 116, 104)     # of ImageNet, so that a network sees about 0


@dataclass(frozen=True)
class Crop:
    """What part of an image to learn from.

    Attributes
    ----------
    size : height and width of the result
    scale : the image is rescaled by a random factor of this range before
    short_side, max_side : and, before that, to this shorter side, or as far as the longer side
        stays within ``max_side``; without ``short_side`` images are only ever made smaller
    """

    size: tuple[int, int]
    scale: tuple[float, float] = (1.0, 1.0)
    short_side: Optional[int] = None
    max_side: Optional[int] = None

    def base_factor(self, height: int, width: int) -> float:
        """By how much an image is rescaled before chance has its say."""
        factor = self.short_side / min(height, width) if self.short_side else 1.0
        return min(factor, self.max_side / max(height, width)) if self.max_side else factor


@dataclass(frozen=True)
class Rescale:
    """To which size whole images are brought: a shorter side of ``short_sides``, by chance one of
    them, or less where the longer one would exceed ``max_side``; without any, only smaller."""

    short_sides: tuple[int, ...] = ()
    max_side: Optional[int] = None

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """A sample at that size."""
        size = sample.image.shape[:2]
        side = int(rng.choice(self.short_sides)) if self.short_sides else min(size)
        factor = side / min(size)
        if self.max_side:
            factor = min(factor, self.max_side / max(size))
        return resize_sample(sample, tuple(max(1, int(s * factor + 0.5)) for s in size))


def build_augmentation(name: str, crop: Optional[Crop] = None) -> Augmentation:
    """The augmentation of a data set, as ``augment(sample, seed) -> sample``.

    'toy_v1': both flips, transposition (a toy scene has no up), and the blur and noise that the
    test images were stored with, of random strength, and now and then JPEG compression (the
    authors' pictures are JPEGs).  'toy_v2': the same without blur and noise.
    'cityscapes', 'vistas', 'coco': a random ``crop`` of the rescaled image, horizontal flip,
    brightness, contrast and a shift of the channels; they differ in what ``crop`` asks for alone.
    'flip': horizontal flip alone.  'none': nothing.

    Where a photo is smaller than its crop, ``MEAN_COLOR`` and, in both maps, ``UNKNOWN`` surround
    it.  Only photos are cropped here, for the others see ``random_crop``.

    Raises AdaptisError for another name, or if images that are no photos were to be rescaled.
    """
    check_augmentation(name, crop)
    if name == 'none':
        return _unchanged
    if name in PHOTOS:
        return _Albumentations(_photo(crop))
    if name == 'flip':
        return _Albumentations(_geometry()[:1])
    return _Albumentations(_geometry() + (_degradation() if name == 'toy_v1' else []))


def check_augmentation(name: str, crop: Optional[Crop] = None) -> None:
    """Raise AdaptisError if there is no augmentation of this name, or it does not rescale."""
    if name not in NAMES:
        raise AdaptisError(f'There is no augmentation "{name}"; known: {", ".join(NAMES)}.')
    if name in TOYS and crop is not None and crop != Crop(crop.size):
        raise AdaptisError(f'The augmentation "{name}" does not rescale images: leave out scale, '
                           f'short_side and max_side, or take one of {", ".join(PHOTOS)}.')


def random_crop(sample: Sample, size: tuple[int, int], rng: np.random.Generator) -> Sample:
    """A random part of a sample that is larger than ``size``; else what there is of it."""
    top, left = (int(rng.integers(max(have - want, 0) + 1))
                 for have, want in zip(sample.image.shape, size))
    window = slice(top, top + size[0]), slice(left, left + size[1])
    objects = _moved(sample.objects, lambda layers: layers[(..., *window)])
    return dataclasses.replace(
        sample, objects=objects, **{key: np.ascontiguousarray(getattr(sample, key)[window])
                                    for key in ('image', 'instances', 'semantic')})


def resize_sample(sample: Sample, size: tuple[int, int]) -> Sample:
    """A sample at another height and width."""
    height, width = sample.image.shape[:2]
    if (height, width) == size:
        return sample
    rows, cols = (0, height, size[0]), (0, width, size[1])
    objects = _moved(sample.objects, lambda layers: np.stack([_resize_ids(layer, rows, cols)
                                                              for layer in layers]))
    return dataclasses.replace(sample, image=_resize(sample.image, rows, cols), objects=objects,
                               instances=_resize_ids(sample.instances, rows, cols),
                               semantic=_resize_ids(sample.semantic, rows, cols))


def _moved(objects: Optional[AnnotatedObjects],
           move: Callable[[np.ndarray], np.ndarray]) -> Optional[AnnotatedObjects]:
    return None if objects is None else objects.moved(move(objects.layers))


def _unchanged(sample: Sample, seed: int) -> Sample:
    return sample


class _Albumentations:
    def __init__(self, transforms: list):
        import albumentations
        self._compose = albumentations.Compose(
            transforms, additional_targets={'instances': 'mask', 'semantic': 'mask'})

    def __call__(self, sample: Sample, seed: int) -> Sample:
        # Albumentations 1.3 draws everything from Python's global generator.
        state = random.getstate()
        random.seed(seed)
        layers = {} if sample.objects is None else {'masks': list(sample.objects.layers)}
        try:
            result = self._compose(image=sample.image, instances=sample.instances,
                                   semantic=sample.semantic, **layers)
        finally:
            random.setstate(state)
        objects = None
        if layers:
            moved = np.stack(result.pop('masks'))
            objects = sample.objects.moved(np.maximum(moved, 0))   # nothing lies in the padding
        arrays = {key: np.ascontiguousarray(value) for key, value in result.items()}
        return dataclasses.replace(sample, objects=objects, **arrays)


def _geometry() -> list:
    import albumentations as A
    return [A.HorizontalFlip(p=0.5), A.VerticalFlip(p=0.5), A.Transpose(p=0.5)]


def _degradation() -> list:
    import albumentations as A

    from toy_data import degrade

    class Degrade(A.ImageOnlyTransform):
        """The blur and noise of the toy generator, of random strength."""

        def apply(self, img: np.ndarray, state: int = 0, **params) -> np.ndarray:
            return degrade(img, np.random.default_rng(state))

        def get_params(self) -> dict:
            return {'state': random.getrandbits(63)}

    return [Degrade(p=1.0), A.ImageCompression(quality_lower=80, quality_upper=98, p=0.25)]


def _photo(crop: Optional[Crop]) -> list:
    """The strengths of flip and colours: from memory of the official scripts, not certain."""
    import albumentations as A
    colors = [A.HorizontalFlip(p=0.5),
              A.RandomBrightnessContrast(brightness_limit=0.25, contrast_limit=(-0.15, 0.4),
                                         p=0.75),
              A.RGBShift(r_shift_limit=10, g_shift_limit=10, b_shift_limit=10, p=0.75)]
    if crop is None:
        return colors
    padding = A.PadIfNeeded(*crop.size, position='random', border_mode=cv2.BORDER_CONSTANT,
                            value=MEAN_COLOR, mask_value=UNKNOWN)
    return [_scaled_crop(crop), *colors, padding]


def _scaled_crop(crop: Crop) -> object:
    """What ``RandomScale`` and ``RandomCrop`` do, but for pixels that the crop leaves out.

    Albumentations' own ``RandomSizedCrop`` would do if all images had one size.
    """
    import albumentations as A

    class ScaledCrop(A.DualTransform):
        """A random window, rescaled to ``crop.size``, or less where the image ends before."""

        @property
        def targets_as_params(self) -> list[str]:
            return ['image']

        def get_params_dependent_on_targets(self, params: dict) -> dict:
            height, width = params['image'].shape[:2]
            factor = crop.base_factor(height, width) * random.uniform(*crop.scale)
            rows, cols = (_window(*sides, factor) for sides in zip((height, width), crop.size))
            return {'rows_': rows, 'cols_': cols}

        def apply(self, img: np.ndarray, rows_: Span = (), cols_: Span = (), **params
                  ) -> np.ndarray:
            return _resize(img, rows_, cols_)

        def apply_to_mask(self, img: np.ndarray, rows_: Span = (), cols_: Span = (), **params
                          ) -> np.ndarray:
            return _resize_ids(img, rows_, cols_)

    return ScaledCrop(p=1.0)


def _window(have: int, want: int, factor: float) -> Span:
    """A random window of an axis of ``have`` pixels, of about ``want`` when it is rescaled."""
    size = max(round(want / factor), 1)
    if size >= have:
        return 0, have, min(max(round(have * factor), 1), want)
    first = random.randint(0, have - size)
    return first, first + size, want


def _resize(image: np.ndarray, rows: Span, cols: Span) -> np.ndarray:
    part = image[rows[0]:rows[1], cols[0]:cols[1]]
    shrinks = rows[2] * cols[2] < part.shape[0] * part.shape[1]
    return cv2.resize(part, (cols[2], rows[2]),
                      interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def _resize_ids(ids: np.ndarray, rows: Span, cols: Span) -> np.ndarray:
    # By index: OpenCV's INTER_NEAREST is up to half a pixel off its other methods.
    return ids[_nearest(*rows)[:, None], _nearest(*cols)]


def _nearest(first: int, last: int, count: int) -> np.ndarray:
    """The pixels in which the centres of ``count`` new ones lie."""
    centers = (np.arange(count) + 0.5) * ((last - first) / count)
    return first + np.minimum(centers.astype(np.intp), last - first - 1)
