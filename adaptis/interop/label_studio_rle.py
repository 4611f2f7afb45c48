"""The run-length encoding of Label Studio's brush: the format of ``@thi.ng/rle-pack``.

It is a stream of bits: the number of values (32 bits), the bits per value minus 1 (5), four sizes
of run lengths minus 1 (4 each), and then chunks.  A chunk has 1 bit for its type (1 = one value
repeated, 0 = different values), the index of a size (2), the number of values minus 1 (in that
size), and the value or values.  Label Studio packs the four equal channels of every pixel, 255
inside and 0 outside.
"""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from adaptis.errors import AdaptisError

_SIZES = (3, 5, 9, 16)   # bits of run lengths
_CHANNELS, _VALUE_BITS = 4, 8


def encode_brush(mask: np.ndarray) -> list[int]:
    """Return a mask, bool (H, W), as Label Studio stores it: a list of bytes."""
    values = mask.ravel().astype(np.uint8)
    starts = np.flatnonzero(np.r_[True, values[1:] != values[:-1]])
    lengths = np.diff(np.r_[starts, values.size]) * _CHANNELS
    bits = [f'{values.size * _CHANNELS:032b}', f'{_VALUE_BITS - 1:05b}',
            *(f'{size - 1:04b}' for size in _SIZES)]
    for value, length in zip(values[starts].tolist(), lengths.tolist()):
        while length:
            part = min(length, 1 << _SIZES[-1])
            kind = next(k for k, size in enumerate(_SIZES) if part <= 1 << size)
            bits.append(f'1{kind:02b}{part - 1:0{_SIZES[kind]}b}{255 * value:08b}')
            length -= part
    text = ''.join(bits)
    packed = np.packbits(np.frombuffer(text.encode('ascii'), np.uint8) - ord('0'))
    return packed.tolist()


def decode_brush(code: Sequence[int], size: tuple[int, int]) -> np.ndarray:
    """Return the mask of such a list, bool (H, W): where the last channel is not 0.

    Raises AdaptisError if the list is cut short, or belongs to an image of another size.
    """
    try:
        bits = ''.join(f'{byte:08b}' for byte in bytes(code))
    except (TypeError, ValueError) as error:
        raise AdaptisError('The rle of a brush is not a list of bytes.') from error
    at = 0

    def read(count: int) -> int:
        nonlocal at
        if at + count > len(bits):
            raise AdaptisError('The rle of a brush is cut short.')
        at += count
        return int(bits[at - count:at], 2)

    total = read(32)
    if total != size[0] * size[1] * _CHANNELS:
        raise AdaptisError(f'The rle of a brush has {total} values, but an image of '
                           f'{size[0]}x{size[1]} needs {size[0] * size[1] * _CHANNELS}.')
    value_bits = read(5) + 1
    sizes = [read(4) + 1 for _ in range(4)]
    values = np.zeros(total, np.int64)
    done = 0
    while done < total:
        repeated = read(1)
        count = min(read(sizes[read(2)]) + 1, total - done)
        values[done:done + count] = (read(value_bits) if repeated
                                     else [read(value_bits) for _ in range(count)])
        done += count
    return values.reshape(*size, _CHANNELS)[..., -1] > 0
