"""Augmentation, mostly with albumentations, with a seed for each sample."""
from __future__ import annotations

import dataclasses
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Callable, Optional, Union

import cv2
import numpy as np

from adaptis.data.resize import Size, Span, resize_ids, resize_sample, resize_window
from adaptis.data.transforms import ShiftRotate, Transform, parse_transforms
from adaptis.errors import AdaptisError
from adaptis.toy_data import degrade
from adaptis.types import AnnotatedObjects, Sample

Augmentation = Callable[[Sample, int], Sample]
TOYS = ('none', 'toy_v1', 'toy_v2', 'toy_v1_official', 'toy_v2_official')
_FLIP = {'horizontal_flip': {'prob': 0.5}}
PHOTOS: dict[str, dict[str, Any]] = {
    'flip': _FLIP,
    # AdaptIS, section 7: brightness, contrast and colour; the strengths are the official code's.
    'cityscapes': {**_FLIP, 'brightness': {'range': [-0.25, 0.25], 'of': 'mean', 'prob': 0.75},
                   'contrast': {'range': [-0.15, 0.4], 'prob': 0.75},
                   'channel_shift': {'range': [-10, 10], 'prob': 0.75}},
    'vistas': _FLIP,             # AdaptIS, section 7: nothing else
    'coco': _FLIP,               # AdaptIS, section 7: it mentions nothing else
}
NAMES = (*TOYS, *PHOTOS)

UNKNOWN = -1                     # in both maps: pixels that padding added
MEAN_COLOR = (124, 116, 104)     # of ImageNet, so that the network's input is about 0


@dataclass(frozen=True)
class Crop:
    """A random crop of an image.

    Attributes
    ----------
    size : height and width of the result
    scale : range of a random factor by which the image is rescaled before the crop
    short_side, max_side : before that, the shorter side is resized to ``short_side``, or to less so
        that the longer side stays within ``max_side``; without ``short_side``, images are only
        shrunk
    long_side : instead of these, the range of a random longer side to which every image is resized
    """

    size: tuple[int, int]
    scale: tuple[float, float] = (1.0, 1.0)
    short_side: Optional[int] = None
    max_side: Optional[int] = None
    long_side: Optional[tuple[float, float]] = None

    def draw_factor(self, height: int, width: int) -> float:
        """Return the factor by which an image is rescaled; uses the module ``random``."""
        if self.long_side:
            return random.uniform(*self.long_side) / max(height, width)
        return self.base_factor(height, width) * random.uniform(*self.scale)

    def base_factor(self, height: int, width: int) -> float:
        """Return the factor by which an image is rescaled before the random ``scale``."""
        factor = self.short_side / min(height, width) if self.short_side else 1.0
        return min(factor, self.max_side / max(height, width)) if self.max_side else factor


@dataclass(frozen=True)
class Rescale:
    """Resize whole images to a shorter side that is drawn from ``short_sides``.

    The side is shorter if the longer one would exceed ``max_side``.  Without ``short_sides``,
    images are only shrunk.
    """

    short_sides: tuple[int, ...] = ()
    max_side: Optional[int] = None

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Return the sample at the drawn size."""
        return resize_sample(sample, self.draw_size(sample.image.shape[:2], rng))

    def draw_size(self, size: Size, rng: np.random.Generator) -> Size:
        """Return the new height and width of an image of ``size``."""
        side = int(rng.choice(self.short_sides)) if self.short_sides else min(size)
        factor = side / min(size)
        if self.max_side:
            factor = min(factor, self.max_side / max(size))
        return tuple(max(1, int(s * factor + 0.5)) for s in size)


def build_augmentation(augmentation: Union[str, Mapping[str, Any]],
                       crop: Optional[Crop] = None) -> Augmentation:
    """Return the augmentation of a data set, as ``augment(sample, seed) -> sample``.

    ``augmentation`` is a mapping of transforms to their strengths, see ``adaptis.data.transforms``,
    or a name:
    'flip': only the horizontal flip.  'cityscapes', 'vistas', 'coco': see ``PHOTOS``.
    'toy_v1': both flips, transposition (toy scenes have no upright direction), blur and noise of
    random strength as in the stored test images, and sometimes JPEG compression (the authors'
    images are JPEGs).  'toy_v2': the same without blur and noise. 'toy_v1_official': the steps of
    the official script for ToyV1, each with probability 0.5 and independent of the others: a box
    blur of side 2 or 4, Gaussian noise that is equal in all channels, with a standard deviation of
    10 to 40 grey levels, and a flip (vertical, horizontal or both).  So a quarter of the images
    have neither blur nor noise.  'toy_v2_official': only that flip. 'none': no change.

    Photographs (all but the toy names and 'none') get a random ``crop`` of the rescaled image.  If
    a photograph is smaller than its crop, it is padded with ``MEAN_COLOR`` and, in both maps, with
    ``UNKNOWN``.  Other images are not cropped here, see ``random_crop``.

    Raises AdaptisError for another name or transform, or if a toy augmentation should rescale.
    """
    check_augmentation(augmentation, crop)
    if augmentation == 'none':
        return _unchanged
    if augmentation not in TOYS:
        return _Albumentations(_photo(_transforms(augmentation), crop))
    if augmentation.endswith('_official'):
        return _Albumentations(_official(blur_and_noise=augmentation == 'toy_v1_official'))
    return _Albumentations(_geometry() + (_degradation() if augmentation == 'toy_v1' else []))


def check_augmentation(augmentation: Union[str, Mapping[str, Any]],
                       crop: Optional[Crop] = None) -> None:
    """Raise AdaptisError if the augmentation is unknown or cannot rescale images."""
    if not isinstance(augmentation, str):
        parse_transforms(augmentation)
    elif augmentation not in NAMES:
        raise AdaptisError(f'There is no augmentation "{augmentation}": choose from '
                           f'{", ".join(NAMES)}.')
    elif augmentation in TOYS and crop is not None and crop != Crop(crop.size):
        raise AdaptisError(f'The augmentation "{augmentation}" does not rescale images: leave out '
                           'scale, short_side, max_side and long_side, or use one of '
                           f'{", ".join(PHOTOS)}.')


def random_crop(sample: Sample, size: tuple[int, int], rng: np.random.Generator) -> Sample:
    """Return a random crop of a sample; a side shorter than ``size`` is kept whole."""
    top, left = (int(rng.integers(max(have - want, 0) + 1))
                 for have, want in zip(sample.image.shape, size))
    window = slice(top, top + size[0]), slice(left, left + size[1])
    objects = _moved(sample.objects, lambda layers: layers[(..., *window)])
    return dataclasses.replace(
        sample, objects=objects, **{key: np.ascontiguousarray(getattr(sample, key)[window])
                                    for key in ('image', 'instances', 'semantic')})


@dataclass(frozen=True)
class RandomScale:
    """Rescale a sample by a random factor between ``low`` and ``high``."""

    low: float
    high: float

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Return the sample at its new size."""
        return resize_sample(sample, self.draw_size(sample.image.shape[:2], rng))

    def draw_size(self, size: Size, rng: np.random.Generator) -> Size:
        """Return the new height and width of an image of ``size``."""
        factor = rng.uniform(self.low, self.high)
        return tuple(max(1, round(s * factor)) for s in size)


def _moved(objects: Optional[AnnotatedObjects],
           move: Callable[[np.ndarray], np.ndarray]) -> Optional[AnnotatedObjects]:
    return None if objects is None else objects.moved(move(objects.layers))


def _unchanged(sample: Sample, seed: int) -> Sample:
    return sample


class _Albumentations:
    def __init__(self, transforms: list):
        import albumentations  # slow to load
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
            objects = sample.objects.moved(np.maximum(moved, 0))   # no objects are in the padding
        arrays = {key: np.ascontiguousarray(value) for key, value in result.items()}
        return dataclasses.replace(sample, objects=objects, **arrays)


def _geometry() -> list:
    import albumentations as A  # slow to load
    return [A.HorizontalFlip(p=0.5), A.VerticalFlip(p=0.5), A.Transpose(p=0.5)]


def _degradation() -> list:
    import albumentations as A  # slow to load

    class Degrade(A.ImageOnlyTransform):
        """The blur and noise of the toy generator, with random strength."""

        def apply(self, img: np.ndarray, state: int = 0, **params) -> np.ndarray:
            return degrade(img, np.random.default_rng(state))

        def get_params(self) -> dict:
            return {'state': random.getrandbits(63)}

    return [Degrade(p=1.0), A.ImageCompression(quality_lower=80, quality_upper=98, p=0.25)]


def _official(blur_and_noise: bool) -> list:
    """Return the transforms of the official toy scripts.

    Albumentations no longer has box blurs of even side, and has no noise given by its standard
    deviation.
    """
    import albumentations as A  # slow to load

    class BoxBlur(A.ImageOnlyTransform):
        """The mean of a box of side 2 or 4."""

        def apply(self, img: np.ndarray, side: int = 2, **params) -> np.ndarray:
            return cv2.blur(img, (side, side))

        def get_params(self) -> dict:
            return {'side': random.choice((2, 4))}

    class Noise(A.ImageOnlyTransform):
        """Gaussian noise, equal in all channels."""

        def apply(self, img: np.ndarray, deviation: float = 0.0, state: int = 0, **params
                  ) -> np.ndarray:
            noise = np.random.default_rng(state).normal(0, deviation, img.shape[:2])
            return np.clip(np.rint(img + noise[:, :, None]), 0, 255).astype(np.uint8)

        def get_params(self) -> dict:
            return {'deviation': random.uniform(10, 40), 'state': random.getrandbits(63)}

    return [*([BoxBlur(p=0.5), Noise(p=0.5)] if blur_and_noise else []), A.Flip(p=0.5)]


def _transforms(augmentation: Union[str, Mapping[str, Any]]) -> list[Transform]:
    return parse_transforms(PHOTOS[augmentation] if isinstance(augmentation, str) else augmentation)


def _photo(transforms: Sequence[Transform], crop: Optional[Crop]) -> list:
    import albumentations as A  # slow to load

    def build(transform: Transform) -> A.BasicTransform:
        name, arguments = transform.albumentation()
        if isinstance(transform, ShiftRotate):
            arguments['mask_value'] = UNKNOWN
        return getattr(A, name)(**arguments, p=transform.prob)

    before = [build(t) for t in transforms if isinstance(t, ShiftRotate)]
    after = [build(t) for t in transforms if not isinstance(t, ShiftRotate)]
    if crop is None:
        return before + after
    padding = A.PadIfNeeded(*crop.size, position='random', border_mode=cv2.BORDER_CONSTANT,
                            value=MEAN_COLOR, mask_value=UNKNOWN)
    return [*before, _scaled_crop(crop), *after, padding]


def _scaled_crop(crop: Crop) -> object:
    """Return a ``RandomScale`` and ``RandomCrop`` that do not compute the pixels outside the crop.

    Albumentations' own ``RandomSizedCrop`` would suffice if all images had the same size.
    """
    import albumentations as A  # slow to load

    class ScaledCrop(A.DualTransform):
        """A random window, rescaled to ``crop.size``, or to less where the image ends."""

        @property
        def targets_as_params(self) -> list[str]:
            return ['image']

        def get_params_dependent_on_targets(self, params: dict) -> dict:
            height, width = params['image'].shape[:2]
            factor = crop.draw_factor(height, width)
            rows, cols = (_window(*sides, factor) for sides in zip((height, width), crop.size))
            return {'rows_': rows, 'cols_': cols}

        def apply(self, img: np.ndarray, rows_: Span = (), cols_: Span = (), **params
                  ) -> np.ndarray:
            return resize_window(img, rows_, cols_)

        def apply_to_mask(self, img: np.ndarray, rows_: Span = (), cols_: Span = (), **params
                          ) -> np.ndarray:
            return resize_ids(img, rows_, cols_)

    return ScaledCrop(p=1.0)


def _window(have: int, want: int, factor: float) -> Span:
    """Return a random window of an axis of ``have`` pixels, about ``want`` when rescaled."""
    size = max(round(want / factor), 1)
    if size >= have:
        return 0, have, min(max(round(have * factor), 1), want)
    first = random.randint(0, have - size)
    return first, first + size, want
