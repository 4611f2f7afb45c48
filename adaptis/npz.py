"""Read untrusted ``.npz`` files: only arrays, and at most as much as fits into memory."""
from __future__ import annotations

import tokenize
import zipfile
import zlib

import numpy as np

from adaptis.files import PathLike

MOST_BYTES = 4 * 2 ** 30
"""Limit of the total size of all arrays; a small file can expand to a thousand times its size."""

NPZ_ERRORS = (ValueError, KeyError, TypeError, AttributeError, IndexError, EOFError, OSError,
              NotImplementedError, MemoryError, zipfile.BadZipFile, zlib.error,
              # NumPy parses the header of an array as a Python literal.
              SyntaxError, RecursionError, tokenize.TokenError)
"""The errors that ``read_npz`` raises for files that are missing, damaged, or larger than
``MOST_BYTES``."""


def read_npz(path: PathLike) -> dict[str, np.ndarray]:
    """Return the arrays of a file by name; one of ``NPZ_ERRORS`` if that fails.

    Nothing is unpickled.
    """
    with open(path, 'rb') as stream:
        with zipfile.ZipFile(stream) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > MOST_BYTES:
                raise ValueError(f'{path} contains more than {MOST_BYTES >> 30} GiB of arrays')
        stream.seek(0)
        with np.load(stream, allow_pickle=False) as data:
            arrays = {name: data[name] for name in data.files}
    if not all(isinstance(array, np.ndarray) for array in arrays.values()):
        raise ValueError(f'{path} contains something other than arrays')   # NumPy returns its bytes
    return arrays
