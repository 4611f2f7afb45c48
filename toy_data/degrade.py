"""Blur and noise like those of ToyV1's test images.

They were measured on the authors' pair of images (one clear, one noisy): a Gaussian blur with a
standard deviation of 1.3 pixels, then noise with a standard deviation of 33.5 grey levels, then
clipping.  The noise is equal in the three channels and independent from pixel to pixel.
"""
from __future__ import annotations

import math
from functools import cache
from typing import Union

import cv2
import numpy as np

from .stream import Stream

BLUR = (16, 26)          # range of the blur's standard deviation, in sixteenths of a pixel
NOISE = (16 * 24, 16 * 43)  # range of the noise's standard deviation, in sixteenths of a level
REAL_BLUR = 21              # those of the authors' image
REAL_NOISE = 16 * 33 + 8


def degrade(image: np.ndarray, rng: Union[Stream, np.random.Generator]) -> np.ndarray:
    """Add blur and noise of random strength around those of the authors' noisy image.

    Parameters
    ----------
    image : uint8 (H, W, 3)
    rng
        A ``numpy.random.Generator`` (for augmentation), or a :class:`Stream` (for files that must
        be the same everywhere).

    Returns uint8 (H, W, 3), a new array.
    """
    if not isinstance(rng, Stream):
        rng = Stream([int(word) for word in rng.integers(0, 2 ** 32, size=4)])
    deviation, noise = rng.between(*BLUR), rng.between(*NOISE)
    return degrade_by(image, rng, deviation, noise)


def degrade_by(image: np.ndarray, stream: Stream, deviation: int, noise: int) -> np.ndarray:
    """Add blur and noise of a given strength; both standard deviations are in sixteenths.

    Only whole numbers are used, so the result is the same on every machine.
    """
    height, width = image.shape[:2]
    noise = stream.normal(height, width, noise).astype(np.float32)
    return cv2.add(blur(image, deviation), cv2.merge([noise] * 3), dtype=cv2.CV_8U)


def blur(image: np.ndarray, deviation: int) -> np.ndarray:
    """Blur (H, W, 3) with an integer Gaussian; ``deviation`` in sixteenths of a pixel.

    Returns float32 (H, W, 3), whole numbers.
    """
    return _blur_axis(_blur_axis(image.astype(np.float32), 0, deviation), 1, deviation)


@cache
def _kernel(deviation: int) -> tuple[int, ...]:
    """Return half a Gaussian kernel in units of 2**-12, centre first; the whole sums to 1."""
    sigma = deviation / 16
    radius = max(1, math.ceil(3 * sigma))
    weights = [math.exp(-0.5 * (i / sigma) ** 2) for i in range(radius + 1)]
    total = weights[0] + 2 * sum(weights[1:])
    half = [int(4096 * w / total + 0.5) for w in weights]
    half[0] = 4096 - 2 * sum(half[1:])
    return tuple(half)


def _blur_axis(image: np.ndarray, axis: int, deviation: int) -> np.ndarray:
    """Blur along an axis and round halves up.

    All sums are multiples of 2**-12 below 2**12, which float32 holds exactly.
    """
    half = np.array(_kernel(deviation), np.float32) / 4096
    kernel = np.concatenate([half[:0:-1], half]).reshape((-1, 1) if axis == 0 else (1, -1))
    total = cv2.filter2D(image, -1, kernel, delta=0.5, borderType=cv2.BORDER_REPLICATE)
    return np.floor(total, out=total)
