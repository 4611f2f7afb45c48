"""Compute the input size of a detector, and resample images to it."""
from __future__ import annotations

import math
from typing import Optional

import numpy as np

try:
    from PIL import Image
except ImportError:   # exported networks need no more than NumPy and OpenCV
    Image = None   # type: ignore[assignment]

Size = tuple[int, int]

_BITS = 22   # fractional bits of the weights


def target_size(size: Size, short_side: Optional[int], max_side: Optional[int] = None) -> Size:
    """Return the size (H, W) to which an image of ``size`` is resized.

    The shorter side becomes ``short_side`` (None: keep the size), or less if the longer side would
    exceed ``max_side``.
    """
    height, width = size
    if short_side is None:
        new = float(height), float(width)
    elif height < width:
        new = short_side, short_side / height * width
    else:
        new = short_side / width * height, short_side
    if max_side is not None and max(new) > max_side:
        shrink = max_side / max(new)
        new = new[0] * shrink, new[1] * shrink
    return max(1, int(new[0] + 0.5)), max(1, int(new[1] + 0.5))


def resize_image(image: np.ndarray, size: Size) -> np.ndarray:
    """Resize uint8 (H, W, 3) to ``size``, bilinearly, with antialiasing when the image shrinks.

    This uses Pillow if it is installed; otherwise ``resample`` does the same, but more slowly.
    """
    if Image is None:
        return resample(image, size)
    return _resize(image, size, Image.BILINEAR)


def resize_labels(labels: np.ndarray, size: Size) -> np.ndarray:
    """Resize an integer array (H, W) to ``size`` with nearest neighbour; needs Pillow."""
    if labels.dtype == np.uint8:
        return _resize(labels, size, Image.NEAREST)
    return _resize(labels.astype(np.int32), size, Image.NEAREST).astype(labels.dtype)


def subsample(array: np.ndarray, stride: int) -> np.ndarray:
    """Return the entry at the centre of each cell: (..., H, W) -> (..., H / stride, W / stride).

    With an even stride, that is the entry to the right of and below the centre.
    """
    return array[..., stride // 2::stride, stride // 2::stride]


def resample(image: np.ndarray, size: Size) -> np.ndarray:
    """Resize uint8 (H, W, C) with the bilinear filter of Pillow 11, bit for bit.

    It resizes the rows first.  Newer versions of Pillow resize the columns first where these shrink
    more, so the last bit may differ.
    """
    for axis in (1, 0):
        if image.shape[axis] != size[axis]:
            image = _resample_axis(image, size[axis], axis)
    return image


def _resample_axis(image: np.ndarray, target: int, axis: int) -> np.ndarray:
    source = image.shape[axis]
    first, weights = _taps(source, target)
    shape = [1, 1, 1]
    shape[axis] = target
    total = np.full((*image.shape[:axis], target, *image.shape[axis + 1:]), 1 << (_BITS - 1),
                    np.int32)
    for i, weight in enumerate(weights):
        tap = image.take(np.minimum(first + i, source - 1), axis).astype(np.int32)
        tap *= weight.reshape(shape)
        total += tap
    return np.clip(total >> _BITS, 0, 255).astype(np.uint8)


def _taps(source: int, target: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the first source pixel (target,) of each new pixel, and weights int32 (taps, target).

    The weights of this source pixel and the next ones form a triangle around the new pixel.
    """
    scale = source / target
    reach = max(scale, 1.0)
    center = (np.arange(target) + 0.5) * scale
    first = np.maximum((center - reach + 0.5).astype(np.int64), 0)
    end = np.minimum((center + reach + 0.5).astype(np.int64), source)
    taps = first + np.arange(math.ceil(reach) * 2 + 1)[:, None]
    weights = np.maximum(1 - np.abs((taps - center + 0.5) * (1 / reach)), 0) * (taps < end)
    weights /= np.add.accumulate(weights)[-1]   # in this order, or the last bit differs
    return first, (0.5 + weights * (1 << _BITS)).astype(np.int32)


def _resize(array: np.ndarray, size: Size, how: int) -> np.ndarray:
    if array.shape[:2] == tuple(size):
        return array
    return np.asarray(Image.fromarray(array).resize((size[1], size[0]), how))
