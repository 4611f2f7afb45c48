"""Convert images to RGB arrays: from arrays, Pillow images, or paths of files."""
from __future__ import annotations

import os
import sys
from typing import Any

import cv2
import numpy as np

from adaptis.errors import AdaptisError
from adaptis.files import MAX_PIXELS, read_image


def as_rgb(image: Any) -> np.ndarray:
    """Return an image as an RGB ``uint8`` array (H, W, 3).

    ``image`` is a ``uint8`` or ``uint16`` array (H, W, 3) RGB, (H, W, 4) RGBA or (H, W) grey; a
    Pillow image, which is turned as its EXIF tag says; or the path of a file.  Grey is repeated to
    three channels, alpha is dropped, and 16 bits are scaled to 8.
    Raises AdaptisError if it is not an image, empty, or too large.
    """
    if isinstance(image, (str, os.PathLike)):
        return read_image(image)
    pillow = sys.modules.get('PIL.Image')   # loaded if anyone has created a Pillow image
    if pillow is not None and isinstance(image, pillow.Image):
        image = _pillow_pixels(image)
    if not isinstance(image, np.ndarray) or image.dtype not in (np.uint8, np.uint16):
        kind = image.dtype if isinstance(image, np.ndarray) else type(image).__name__
        raise AdaptisError(f'An image must be a NumPy array of 8- or 16-bit pixels (uint8, '
                           f'uint16), a Pillow image or a path, not {kind}.')
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (1, 3, 4)):
        raise AdaptisError('An image must have the shape (H, W), (H, W, 3) or (H, W, 4), not '
                           f'{"x".join(map(str, image.shape))}.')
    _check_pixels(*image.shape[:2])
    if image.dtype == np.uint16:
        image = (image / 257.0 + 0.5).astype(np.uint8)
    if image.ndim == 2 or image.shape[2] == 1:
        return cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_GRAY2RGB)
    return np.array(image[..., :3])


def _check_pixels(height: int, width: int) -> None:
    if not 0 < height * width <= MAX_PIXELS:
        raise AdaptisError(f'The image is {height}x{width}, but it must have between 1 and '
                           f'{MAX_PIXELS:,} pixels.')


def _pillow_pixels(image: Any) -> np.ndarray:
    """Decode a Pillow image, upright."""
    from PIL import ImageOps  # a caller with a Pillow image has Pillow; exports do not need it
    _check_pixels(image.height, image.width)
    if image.mode in ('I', 'F'):
        raise AdaptisError(f'The Pillow image has the mode {image.mode}, whose value range is '
                           'unknown: convert it to 8 or 16 bits.')
    try:
        image = ImageOps.exif_transpose(image)
        if image.mode.startswith('I;16'):
            return np.asarray(image).astype(np.uint16)
        return np.asarray(image.convert('RGB'))
    except (OSError, SyntaxError, ValueError) as error:   # decoding starts only now
        raise AdaptisError(f'The Pillow image cannot be decoded: {error}.') from error
