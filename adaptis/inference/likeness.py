"""Check whether an image resembles those that a network was trained on.

A network for drawn discs also finds objects in a photograph, but they are meaningless.  So
``adaptis train`` stores a few statistics of its images beside the network, and ``adaptis predict``
warns of images that are far from them:

* **Colours.**  The histogram of an image has 4 x 4 x 4 bins of RGB.  Its distance from the mean
  histogram of the training images is half of the sum of absolute differences, which is the fraction
  of its pixels that would need other colours.  An image is unlike the training images if this
  distance exceeds 0.55 and also exceeds 1.25 times that of the most unusual training image.  So a
  network that was trained on diverse photographs rarely warns.
* **Size.**  If images are not resized for the network (no ``short_side``, no ``max_side``), an
  image is unlike the training images if its longer side is more than 4 times their longest one, or
  less than a quarter of their shortest, because its objects have another size.

``docs/predict.md`` lists the distances that were measured.
"""
from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Optional

import cv2
import numpy as np

from adaptis.errors import AdaptisError
from adaptis.types import Taxonomy

KEY = 'images'
"""The key of the statistics in a sidecar."""

_SIDE = 256            # pixels; larger images are shrunk first, which keeps their colours
_LEVELS = 4            # of each colour
_MOST_IMAGES = 100     # of a data set, spread evenly
_LEAST_DISTANCE = 0.55
_BEYOND = 1.25
_SIZE_FACTOR = 4
_NAMED = 8             # classes
_KINDS = {'toy': 'drawn toy images', 'cityscapes': 'Cityscapes', 'vistas': 'Mapillary Vistas'}


class ImageStatistics(NamedTuple):
    """What training images look like.

    Attributes
    ----------
    count : number of images
    sizes : the minimum and the maximum of their longer sides, in pixels
    colors : float (64,), the mean histogram
    farthest : the largest distance of a training image from the mean
    """

    count: int
    sizes: tuple[int, int]
    colors: np.ndarray
    farthest: float

    @classmethod
    def of(cls, images: Iterable[np.ndarray]) -> Optional[ImageStatistics]:
        """Return the statistics of RGB ``uint8`` images (H, W, 3); None if there is no image."""
        seen = [(max(image.shape[:2]), color_histogram(image)) for image in images]
        if not seen:
            return None
        sides = [side for side, _ in seen]
        histograms = np.array([histogram for _, histogram in seen])
        mean = histograms.mean(axis=0).round(4)
        farthest = max(_distance(histogram, mean) for histogram in histograms)
        return cls(len(seen), (min(sides), max(sides)), mean, round(farthest, 4))

    @classmethod
    def from_sidecar(cls, info: Mapping[str, Any]) -> Optional[ImageStatistics]:
        """Return the statistics in a sidecar; None if they are missing or broken."""
        try:
            entry = info[KEY]
            low, high = (int(side) for side in entry['sizes'])
            colors = np.array(entry['colors'], float)
            found = cls(int(entry['count']), (low, high), colors, float(entry['farthest']))
        except (KeyError, TypeError, ValueError):
            return None
        return found if colors.shape == (_LEVELS ** 3,) and np.isfinite(colors).all() else None

    def to_sidecar(self) -> dict[str, Any]:
        """Return plain data for a sidecar."""
        return {KEY: {'count': self.count, 'sizes': list(self.sizes),
                      'colors': self.colors.tolist(), 'farthest': self.farthest}}

    def distance(self, image: np.ndarray) -> float:
        """Return how far the colours of an RGB ``uint8`` image are from their mean, in [0, 1]."""
        return _distance(color_histogram(image), self.colors)

    def find_difference(self, image: np.ndarray, at_own_size: bool) -> Optional[str]:
        """Return how an RGB image differs from all training images, as part of a sentence, or None.

        ``at_own_size`` says whether the network sees images at their own size.
        """
        low, high = self.sizes
        height, width = image.shape[:2]
        longer = max(height, width)
        if at_own_size and not low / _SIZE_FACTOR <= longer <= high * _SIZE_FACTOR:
            return (f'it is {width}x{height} pixels, but their longer sides have '
                    f'{_range(self.sizes)}')
        distance = self.distance(image)
        if distance > max(_LEAST_DISTANCE, _BEYOND * self.farthest):
            return (f'its colours match {100 * (1 - distance):.0f} % of their mean histogram, '
                    'whereas every training image matches at least '
                    f'{100 * (1 - self.farthest):.0f} %')
        return None


def color_histogram(image: np.ndarray) -> np.ndarray:
    """Return the colour histogram of an RGB ``uint8`` image (H, W, 3), float (64,), with sum 1."""
    height, width = image.shape[:2]
    scale = _SIDE / max(height, width)
    if scale < 1:
        smaller = max(1, round(width * scale)), max(1, round(height * scale))
        image = cv2.resize(image, smaller, interpolation=cv2.INTER_AREA)
    red, green, blue = np.moveaxis(image.astype(np.intp) * _LEVELS // 256, -1, 0)
    bins = (red * _LEVELS + green) * _LEVELS + blue
    return np.bincount(bins.ravel(), minlength=_LEVELS ** 3) / bins.size


def dataset_statistics(dataset: Any) -> dict[str, Any]:
    """Return the statistics of some images of a ``Reader``, for a sidecar.

    Unreadable images are skipped, because training reports them when it needs them.  The result is
    empty if none can be read.
    """
    found = ImageStatistics.of(_spread(dataset))
    return {} if found is None else found.to_sidecar()


def training_facts(info: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a sidecar that :func:`describe_training` and the statistics need."""
    data = (info.get('config') or {}).get('data')
    return {**({'config': {'data': data}} if data else {}),
            **{key: info[key] for key in (KEY, 'converted_from') if key in info}}


def describe_training(info: Mapping[str, Any], taxonomy: Taxonomy) -> str:
    """Return a sentence about what a network was trained on, according to its sidecar."""
    name = (info.get('model') or {}).get('name', '')
    statistics = ImageStatistics.from_sidecar(info)
    data = (info.get('config') or {}).get('data') or {}
    parts = ['The network', *([name] if name else []), 'was trained']
    if data.get('root'):
        kind = _KINDS.get(data.get('dataset'))
        parts.append(f'on {kind} ({data["root"]})' if kind else f'on {data["root"]}')
    elif info.get('converted_from'):
        parts.append(f'by others ({info["converted_from"]})')
    if statistics is not None:
        parts.append(f'with images of {_range(statistics.sizes)} pixels')
    return f'{" ".join(parts)} for {_classes([c.name for c in taxonomy.categories])}.'


def _classes(names: Sequence[str]) -> str:
    if len(names) > _NAMED:
        return f'{len(names)} classes: {", ".join(names[:_NAMED])} and others'
    if len(names) == 1:
        return f'the class {names[0]}'
    return f'{len(names)} classes: {", ".join(names)}'


def _range(sizes: tuple[int, int]) -> str:
    low, high = sizes
    return f'{low}' if low == high else f'{low} to {high}'


def _spread(dataset: Any) -> Iterable[np.ndarray]:
    for index in np.unique(np.linspace(0, len(dataset) - 1, min(len(dataset), _MOST_IMAGES),
                                       dtype=int)).tolist():
        try:
            yield dataset.image(index)
        except AdaptisError:
            continue


def _distance(histogram: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(histogram - other).sum() / 2)
