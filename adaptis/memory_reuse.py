"""Keep freed memory in the process instead of returning it to the system after every image."""
from __future__ import annotations

import ctypes
import sys
from collections.abc import Mapping

# Options of mallopt in glibc's malloc.h, and their values.
_MIB = 1 << 20
_IMAGES = {'M_MMAP_THRESHOLD': (-3, 32 * _MIB),   # the largest value that glibc allows
           'M_TRIM_THRESHOLD': (-1, 256 * _MIB)}
_TRAINING = {'M_MMAP_MAX': (-4, 0), 'M_TRIM_THRESHOLD': (-1, 512 * _MIB),
             'M_TOP_PAD': (-2, 64 * _MIB), 'M_ARENA_MAX': (-8, 1)}


def keep_freed_memory() -> bool:
    """Let this process reuse the memory of arrays of up to 32 MiB, at most 256 MiB of it.

    The arrays of an image have some megabytes each.  By default glibc returns them to the system
    when they are freed, and every page of the next array causes a page fault, which takes longer
    than the computation on it.  The setting cannot be undone.  Returns whether the C library
    supports it; otherwise nothing changes.
    """
    return _set(_IMAGES)


def keep_training_memory() -> bool:
    """Do the same for arrays of any size, in one arena, as needed for training steps.

    By default glibc maps memory for every array above 32 MiB, and a training step on a CPU spends a
    third of its time on the page faults of these maps.  The setting costs some memory.
    """
    return _set(_TRAINING)


def _set(options: Mapping[str, tuple[int, int]]) -> bool:
    mallopt = getattr(ctypes.CDLL(None), 'mallopt', None) if sys.platform == 'linux' else None
    return mallopt is not None and all(mallopt(*option) == 1 for option in options.values())
