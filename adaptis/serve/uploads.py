"""Read an uploaded image in memory, within limits."""
from __future__ import annotations

import asyncio
import io
import warnings
from collections.abc import AsyncIterator
from typing import NamedTuple, Optional

import numpy as np

from adaptis.errors import AdaptisError
from adaptis.files import decode_image
from adaptis.inference.rescale import resize

FORMATS = ('PNG', 'JPEG', 'WEBP', 'BMP')
"""The accepted formats, which every browser can show, by Pillow's names."""

_NAME = 'The image'


class UploadTooLarge(AdaptisError):
    """The upload has more bytes or pixels than allowed."""


class UploadLimits(NamedTuple):
    """Limits of one upload.

    Attributes
    ----------
    nbytes : size of the file
    pixels : number of pixels, checked before decoding
    seconds : duration of the transfer
    """

    nbytes: int = 20 * 2 ** 20
    pixels: int = 50_000_000
    seconds: float = 60.0


async def read_body(parts: AsyncIterator[bytes], declared: Optional[str],
                    limits: UploadLimits) -> bytes:
    """Return the body of a request.

    ``declared`` is its ``Content-Length``.  Raises UploadTooLarge as soon as it is clear that the
    body is too large, and AdaptisError if it takes too long.
    """
    if declared is not None and (not declared.isdigit() or int(declared) > limits.nbytes):
        raise _too_large(limits)
    try:
        return await asyncio.wait_for(_collect(parts, limits), limits.seconds)
    except asyncio.TimeoutError as error:
        raise AdaptisError('The upload took too long: try again.') from error


def decode_upload(data: bytes, limits: UploadLimits) -> np.ndarray:
    """Return an uploaded file as RGB ``uint8`` (H, W, 3), as ``read_image`` does with a file.

    Raises AdaptisError for anything but a complete image in one of ``FORMATS``, and UploadTooLarge
    for an image with too many pixels.
    """
    width, height = _header_size(data)
    if width * height > limits.pixels:
        raise UploadTooLarge(f'The image has {width}x{height} pixels, more than {limits.pixels:,}: '
                             'make it smaller.')
    return decode_image(data, _NAME)


def shrink(image: np.ndarray, max_side: int) -> np.ndarray:
    """Return an image whose longer side has at most ``max_side`` pixels."""
    scale = min(1.0, max_side / max(image.shape[:2]))
    return resize(image, tuple(max(1, round(side * scale)) for side in image.shape[:2]))


async def _collect(parts: AsyncIterator[bytes], limits: UploadLimits) -> bytes:
    body = bytearray()
    async for part in parts:
        body += part
        if len(body) > limits.nbytes:
            raise _too_large(limits)
    return bytes(body)


def _header_size(data: bytes) -> tuple[int, int]:
    """Return width and height without decoding the pixels."""
    from PIL import Image  # loads Pillow, which only an upload needs
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', Image.DecompressionBombWarning)  # we have our own limit
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                return image.size
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise AdaptisError(f'{_NAME} cannot be read: it must be a whole PNG, JPEG, WebP or BMP '
                           'file.') from error


def _too_large(limits: UploadLimits) -> UploadTooLarge:
    return UploadTooLarge(f'The file is larger than {limits.nbytes / 2 ** 20:g} MiB: make it '
                          'smaller.')
