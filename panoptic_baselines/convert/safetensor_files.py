"""Read ``.safetensors`` files: a JSON header, then numbers.  They contain no code."""
from __future__ import annotations

from pathlib import Path

import numpy as np
from safetensors import SafetensorError, deserialize

from adaptis.errors import AdaptisError
from adaptis.files import PathLike
from panoptic_baselines.convert.bfloat16 import widen

_DTYPES = {'F64': '<f8', 'F32': '<f4', 'F16': '<f2', 'I64': '<i8', 'I32': '<i4', 'I16': '<i2',
           'I8': 'i1', 'U64': '<u8', 'U32': '<u4', 'U16': '<u2', 'U8': 'u1', 'BOOL': '?'}


def read_safetensors(path: PathLike) -> dict[str, np.ndarray]:
    """Return ``{name: array}`` in the file's order; bfloat16 becomes float32.

    Raises AdaptisError for a file that is missing or cut short, or has unsupported number types.
    """
    path = Path(path)
    try:
        tensors = deserialize(path.read_bytes())
    except OSError as error:
        raise AdaptisError(f'{path} cannot be read: {error.strerror or error}.') from error
    except SafetensorError as error:
        raise AdaptisError(f'{path} is not a safetensors file, or it is cut short ({error}).'
                           ) from error
    return {name: _array(path, name, info) for name, info in tensors}


def _array(path: Path, name: str, info: dict) -> np.ndarray:
    kind = info['dtype']
    if kind == 'BF16':
        return widen(np.frombuffer(info['data'], '<u2')).reshape(info['shape'])
    if kind not in _DTYPES:
        raise AdaptisError(f'{path} stores {name[:80]!a} as {kind}, which is not supported.')
    return np.frombuffer(info['data'], _DTYPES[kind]).reshape(info['shape'])
