"""Sizes and resampling of the images that detectors see."""
from __future__ import annotations

from typing import Optional, Tuple

import numpy as np
from PIL import Image

Size = Tuple[int, int]


def target_size(size: Size, short_side: Optional[int], max_side: Optional[int] = None) -> Size:
    """The size (H, W) to which an image of ``size`` is resized.

    Its shorter side becomes ``short_side`` (None: stays), or less if the other one would exceed
    ``max_side``.
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
    """uint8 (H, W, 3) -> uint8 of ``size``: bilinear, averaging where the image shrinks."""
    return _resize(image, size, Image.BILINEAR)


def resize_labels(labels: np.ndarray, size: Size) -> np.ndarray:
    """Integer (H, W) -> the same type at ``size``: nearest neighbour."""
    if labels.dtype == np.uint8:
        return _resize(labels, size, Image.NEAREST)
    return _resize(labels.astype(np.int32), size, Image.NEAREST).astype(labels.dtype)


def _resize(array: np.ndarray, size: Size, how: int) -> np.ndarray:
    if array.shape[:2] == tuple(size):
        return array
    return np.asarray(Image.fromarray(array).resize((size[1], size[0]), how))
