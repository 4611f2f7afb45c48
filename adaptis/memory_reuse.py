"""Keep freed memory in the process instead of giving it back to the system after every image."""
from __future__ import annotations

import contextlib
import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3   # names of options in glibc's malloc.h
_KEPT = 1 << 28   # bytes of free memory that a process keeps
_SMALL = 1 << 25  # arrays of fewer bytes come from there; the largest value that glibc allows


def keep_freed_memory() -> None:
    """Let this process reuse the memory of arrays of up to 32 MiB, at most 256 MiB of it.

    The arrays of an image are some megabytes each.  By default glibc returns them to the system
    when they are freed, and every page of the next one causes a fault, which takes longer than what
    is computed on it.  Other C libraries are left as they are.
    """
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        library.mallopt(_MMAP_THRESHOLD, _SMALL)
        library.mallopt(_TRIM_THRESHOLD, _KEPT)
