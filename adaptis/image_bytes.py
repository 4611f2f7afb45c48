"""Inspect an encoded image without decoding it: whether it is complete, its size, its orientation.

OpenCV decodes the pixels.  But it fills a truncated file with grey, decodes gigabytes from a file
of a few kilobytes, ignores the orientation of the camera, and lets libpng print warnings about
colour profiles that it does not use.  This module inspects files to avoid these problems.  Sources:
ITU-T T.81 annex B (JPEG), the PNG specification (third edition), the WebP container specification,
RFC 6386, section 9.1, and the specification of its lossless streams (WebP), TIFF 6.0, section 2,
and Exif 2.3, section 4.6 (tag 0x0112).
"""
from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple, Union

import numpy as np

Data = Union[bytes, memoryview]

PNG = b'\x89PNG\r\n\x1a\n'
_JPEG = b'\xff\xd8'
_ORIENTATION, _WIDTH, _LENGTH = 0x0112, 256, 257   # tags of TIFF
_SHORT, _LONG = 3, 4                               # types of their values
_BROKEN = struct.error, OverflowError   # raised by reading beyond the end
# A marker of a JPEG: not a stuffed byte of the compressed data, nor a restart inside of it. It
# starts with one fixed byte, which ``re`` finds many times faster than a repeated one.
_MARKER = re.compile(rb'\xff\xff*([^\x00\xff\xd0-\xd7])')
_END, _START, _SCAN, _TEM, _APP1 = 0xd9, 0xd8, 0xda, 0x01, 0xe1
_FRAMES = frozenset(range(0xc0, 0xd0)) - {0xc4, 0xc8, 0xcc}   # markers before the size of a JPEG


class Layout(NamedTuple):
    """Channels and bits of the decoded pixels."""

    channels: int
    bits: int


def is_cut_short(data: Data) -> bool:
    """Return whether a PNG or JPEG ends before its end mark; bytes after the mark are ignored."""
    if data[:4] == PNG[:4]:
        return not any(kind == b'IEND' for kind, _, _ in _chunks(data))
    if data[:2] == _JPEG:
        return not any(marker == _END for marker, _, _ in _segments(data))
    return False


def declared_pixels(data: Data) -> int:
    """Return the declared number of pixels of a PNG, JPEG, WebP, TIFF or BMP; 0 = unknown."""
    try:
        height, width = _declared_size(data)
    except _BROKEN:
        return 0
    return abs(height * width)


def is_png(data: Data) -> bool:
    """Return whether the data start like a PNG."""
    return data[:8] == PNG


def without_notes(data: bytes) -> bytes:
    """Return a PNG without chunks that do not affect the pixels: profiles, times, texts.

    libpng prints warnings about these on the screen.  Other data are returned unchanged.
    """
    if not is_png(data):
        return data
    chunks = list(_chunks(data))
    # The fifth bit of the first letter is 0 for the chunks that every decoder must understand.
    kept = [(start, end) for kind, start, end in chunks if not kind[0] & 32 or kind == b'tRNS']
    if len(kept) == len(chunks):
        return data
    return PNG + b''.join(data[start - 8:end + 4] for start, end in kept)


def png_layout(data: Data) -> Layout:
    """Return the decoded layout of a PNG: a palette becomes colours, 1 bit becomes 8."""
    if len(data) < 26 or data[12:16] != b'IHDR':
        return Layout(0, 0)
    bits, kind = data[24], data[25]
    palette = 3
    channels = {0: 1, 2: 3, palette: 3, 4: 2, 6: 4}.get(kind, 0)
    return Layout(channels, 8 if kind == palette else max(8, bits))


def is_ordinary_rgb(data: Data, most_pixels: int) -> bool:
    """Return whether the data are an intact 8-bit RGB or RGBA PNG of at most this size.

    It is not interlaced, has no transparent colour, and its check sums are right.
    """
    if not is_png(data) or data[12:16] != b'IHDR' or len(data) < 29:
        return False
    width, height, bits, kind, _, _, interlaced = struct.unpack_from('>IIBBBBB', data, 16)
    if bits != 8 or kind not in (2, 6) or interlaced or not 0 < width * height <= most_pixels:
        return False
    name = b''
    for name, start, end in _chunks(data):
        sum_, = struct.unpack_from('>I', data, end)
        if name == b'tRNS' or zlib.crc32(data[start - 4:end]) != sum_:
            return False
    return name == b'IEND'


def orientation(data: Data) -> int:
    """Return the Exif orientation of a JPEG, PNG or WebP, 1 to 8; 1 if there is none.

    TIFF is ignored, because OpenCV rotates it itself.
    """
    for block in _exif_blocks(data):
        return _read_orientation(bytes(block))
    return 1


def turned(image: np.ndarray, orientation: int) -> np.ndarray:
    """Return an image (H, W, ...) rotated according to its Exif orientation.

    The number says where the first stored row and column belong, 1 = at the top and left; from 5
    on, height and width are swapped.
    """
    if orientation >= 5:
        image = image.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    return np.ascontiguousarray(image)


def _exif_blocks(data: Data) -> Iterator[Data]:
    if data[:2] == _JPEG:
        for marker, start, end in _segments(data):
            if marker == _SCAN:
                return
            if marker == _APP1 and data[start:start + 6] == b'Exif\0\0':
                yield data[start + 6:end]
    elif is_png(data):
        yield from (data[start:end] for kind, start, end in _chunks(data) if kind == b'eXIf')
    elif data[:4] == b'RIFF' and data[8:12] == b'WEBP':
        for kind, start, end in _riff_chunks(data):
            if kind == b'EXIF':
                prefixed = data[start:start + 6] == b'Exif\0\0'
                yield data[start + 6 * prefixed:end]


def _read_orientation(exif: bytes) -> int:
    try:
        for tag, kind, value in _tags(exif):
            if tag == _ORIENTATION:
                return value if kind == _SHORT and 1 <= value <= 8 else 1
    except _BROKEN:   # viewers then show the stored orientation
        pass
    return 1


def _tags(data: Data) -> Iterator[tuple[int, int, int]]:
    """Yield tag, type and first value of the entries of a TIFF; raises one of _BROKEN."""
    order = {b'II': '<', b'MM': '>'}.get(bytes(data[:2]))
    if order is None:
        return
    version, = struct.unpack_from(f'{order}H', data, 2)
    big = version == 43
    first, = struct.unpack_from(f'{order}{"Q" if big else "I"}', data, 8 if big else 4)
    count, = struct.unpack_from(f'{order}{"Q" if big else "H"}', data, first)
    size, value_at = (20, 12) if big else (12, 8)
    entries = first + (8 if big else 2)
    for position in range(entries, entries + size * count, size):
        tag, kind = struct.unpack_from(f'{order}HH', data, position)
        value, = struct.unpack_from(f'{order}{"H" if kind == _SHORT else "I"}', data,
                                    position + value_at)
        yield tag, kind, value


def _declared_size(data: Data) -> tuple[int, int]:
    """Return height and width, (0, 0) = unknown; raises one of _BROKEN if the data are broken."""
    if is_png(data):
        return struct.unpack_from('>II', data, 16)[::-1]
    if data[:2] == _JPEG:
        for marker, start, _ in _segments(data):
            if marker in _FRAMES:
                return struct.unpack_from('>HH', data, start + 1)
    elif data[:4] == b'RIFF' and data[8:12] == b'WEBP':
        return _webp_size(data)
    elif data[:2] in (b'II', b'MM'):
        sides = {tag: value for tag, kind, value in _tags(data)
                 if tag in (_WIDTH, _LENGTH) and kind in (_SHORT, _LONG)}
        return sides.get(_LENGTH, 0), sides.get(_WIDTH, 0)
    elif data[:2] == b'BM':
        old, = struct.unpack_from('<I', data, 14)
        return struct.unpack_from('<HH' if old == 12 else '<ii', data, 18)[::-1]
    return 0, 0


def _webp_size(data: Data) -> tuple[int, int]:
    for kind, start, _ in _riff_chunks(data):
        if kind == b'VP8 ':
            width, height = struct.unpack_from('<HH', data, start + 6)
            return height & 0x3fff, width & 0x3fff
        if kind == b'VP8L':
            bits, = struct.unpack_from('<I', data, start + 1)
            return (bits >> 14 & 0x3fff) + 1, (bits & 0x3fff) + 1
    return 0, 0


def _chunks(data: Data) -> Iterator[tuple[bytes, int, int]]:
    """Yield type, start and end of the data of each complete chunk of a PNG, up to its end mark."""
    position = len(PNG)
    while position + 12 <= len(data):
        length, = struct.unpack_from('>I', data, position)
        kind, start = bytes(data[position + 4:position + 8]), position + 8
        if start + length + 4 > len(data):
            return
        yield kind, start, start + length
        if kind == b'IEND':
            return
        position = start + length + 4


def _segments(data: Data) -> Iterator[tuple[int, int, int]]:
    """Yield marker, start and end of the data of each segment of a JPEG, up to its end mark."""
    position = len(_JPEG)
    while True:
        found = _MARKER.search(data, position)
        if found is None:
            return
        marker, position = found.group(1)[0], found.end()
        if marker == _END:
            yield marker, position, position
            return
        if marker in (_START, _TEM):
            continue
        if position + 2 > len(data):
            return
        length, = struct.unpack_from('>H', data, position)
        yield marker, position + 2, position + length
        position += max(length, 2)


def _riff_chunks(data: Data) -> Iterator[tuple[bytes, int, int]]:
    position = 12
    while position + 8 <= len(data):
        length, = struct.unpack_from('<I', data, position + 4)
        yield bytes(data[position:position + 4]), position + 8, position + 8 + length
        position += 8 + length + length % 2
