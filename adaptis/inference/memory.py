"""A sentence for what does not fit into memory, before the system kills the process."""
from __future__ import annotations

import functools
import os

from adaptis.errors import AdaptisError

SHARE = 0.5
"""Of the memory, what the soft masks of one image may take."""


def check_memory(count: int, size: tuple[int, int]) -> None:
    """AdaptisError if ``count`` float32 masks of (H, W) take too much of the memory."""
    needed = 4 * count * size[0] * size[1]
    if needed > SHARE * physical_memory():
        raise AdaptisError(f'The masks of {count:,} objects on {size[0]}x{size[1]} pixels take '
                           f'{needed / 2 ** 30:.1f} GiB, more than half of the memory: segment '
                           'smaller parts of the image.')


@functools.cache
def physical_memory() -> float:
    """Bytes of memory, infinite where the system does not say."""
    try:
        return float(os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES'))
    except (AttributeError, OSError, ValueError):
        return float('inf')
