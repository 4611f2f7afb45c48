"""Read the arrays of pickled checkpoints (``.pkl``, ``.pth``) without running code in them.

A pickle is a program.  Here it may name a dozen functions of NumPy and PyTorch.  A stand-in below
replaces each of them and only records its arguments; any other name is refused.  NumPy's and
PyTorch's own unpicklers never see the file, and PyTorch is not needed.
"""
from __future__ import annotations

import io
import pickle
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, Callable, Optional

import numpy as np

from adaptis.errors import AdaptisError
from adaptis.files import PathLike
from panoptic_baselines.convert.bfloat16 import widen

Arrays = dict[str, np.ndarray]

# Where trainers store the parameters: detectron2 and AdelaiDet, Caffe2, PyTorch Lightning, others.
# The first key found in a file counts, so averaged weights are used only if there are no others.
_CONTAINERS = ('model', 'blobs', 'state_dict', 'model_state_dict', 'network', 'net', 'params',
               'weights', 'module', 'ema_state', 'state_dict_ema', 'model_ema', 'ema')
_BROKEN = (pickle.UnpicklingError, zipfile.BadZipFile, EOFError, ValueError, TypeError, KeyError,
           IndexError, AttributeError, OverflowError, MemoryError, RecursionError,
           NotImplementedError)
_LEGACY_MAGIC = 0x1950a86a20f9469cfc6c
_LEGACY_PROTOCOL = 1001


def read_checkpoint(path: PathLike) -> Arrays:
    """Return the parameters in a ``.pkl`` of detectron2 or Caffe2, or in a ``.pth`` of PyTorch.

    Returns ``{name: array}`` in the order and with the dtypes of the file, except that bfloat16
    becomes float32.  Names in nested dictionaries are joined by dots.  Everything else in the file
    (optimizer, iteration, authors) is ignored.

    Raises AdaptisError for a file that is missing, cut short or not a checkpoint, and for one that
    asks for anything but arrays.
    """
    path = Path(path)
    if not path.is_file():
        raise AdaptisError(f'{path} is a folder, not a checkpoint.' if path.is_dir()
                           else f'{path} does not exist.')
    try:
        with open(path, 'rb') as stream:
            content = _read(stream)
            arrays = {name: _value(value) for name, value in _parameters(content).items()}
    except _Refused as error:
        raise AdaptisError(f'{path} is refused: it asks for {error}, which a checkpoint never '
                           'needs. Nothing in the file was run.') from error
    except OSError as error:
        raise AdaptisError(f'{path} cannot be read: {error.strerror or error}.') from error
    except _BROKEN as error:
        raise AdaptisError(f'{path} is not a readable checkpoint, or it is cut short '
                           f'({type(error).__name__}: {_first_line(error)}).') from error
    found = {name: array for name, array in arrays.items() if array is not None}
    if not found:
        raise AdaptisError(f'{path} contains no named arrays, so it is not a checkpoint.')
    return found


def _read(stream: BinaryIO) -> Any:
    if zipfile.is_zipfile(stream):
        return _read_zip(stream)
    stream.seek(0)
    content = _ArrayUnpickler(stream).load()
    if content == _LEGACY_MAGIC:
        return _read_legacy(stream)
    return content


def _parameters(content: Any) -> Mapping[str, Any]:
    if not isinstance(content, dict):
        raise ValueError(f'a {type(content).__name__} where a table of parameters belongs')
    inner = [key for key in _CONTAINERS if isinstance(content.get(key), dict) and content[key]]
    return _parameters(content[inner[0]]) if inner else dict(_flat(content))


def _flat(content: Mapping[Any, Any], before: str = '') -> Iterator[tuple[str, Any]]:
    for name, value in content.items():
        if isinstance(value, dict):
            yield from _flat(value, f'{before}{name}.')
        else:
            yield f'{before}{name}', value


def _value(value: Any) -> Optional[np.ndarray]:
    if isinstance(value, (_Array, _Tensor)):
        return value.numpy()
    return None


class _Refused(Exception):
    """The file names something that is not on the list."""


class _ArrayUnpickler(pickle.Unpickler):
    """Accepts only the names in ``_STAND_INS`` and, in PyTorch files, storages."""

    def __init__(self, stream: BinaryIO, storages: Optional[_Storages] = None):
        super().__init__(stream, encoding='latin1')  # Python 2 stored raw bytes in strings
        self._storages = storages

    def find_class(self, module: str, name: str) -> Any:
        """Return a stand-in; anything else that the file asks for is refused and never imported."""
        if self._storages is not None and (module, name) in _STORAGES:
            return _StorageType(*_STORAGES[module, name])
        if (module, name) in _SETTINGS:
            return _Settings   # must be a class: a pickle creates objects only of classes
        if (module, name) not in _STAND_INS:
            raise _Refused(ascii(f'{module}.{name}'[:120]))
        return _Function(_STAND_INS[module, name])

    def persistent_load(self, pid: Any) -> Any:
        """Return a tensor's storage: ('storage', type, key, device, number of elements, ...)."""
        if self._storages is None:
            raise pickle.UnpicklingError('a reference to data outside the file')
        kind, storage, key, _device, length, *view = pid
        if kind != 'storage' or not isinstance(storage, _StorageType) or any(view):
            raise pickle.UnpicklingError(f'an unknown kind of storage, {kind!r}')
        return self._storages.request(str(key), storage, int(length))


class _Inert:
    """An object that a pickle can reach but whose attributes it cannot set.

    The pickle operation BUILD calls ``__setstate__``.
    """

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError(f'a state for {type(self).__name__}')


class _Function(_Inert):
    """A callable object instead of a function, so that a pickle cannot change its defaults."""

    __slots__ = ('_call',)

    def __init__(self, call: Callable[..., Any]):
        self._call = call

    def __call__(self, *args: Any) -> Any:
        return self._call(*args)


class _Dtype(_Inert):
    """``numpy.dtype(code, ...)``, then its state with the byte order; numeric types only."""

    __slots__ = ('dtype',)

    def __init__(self, code: Any, *_copy: Any):
        if isinstance(code, _Dtype):
            self.dtype = code.dtype
            return
        if not isinstance(code, str) or not re.fullmatch('[biuf][1248]|bool|[?]', code):
            raise _Refused(f'arrays of {str(code)[:40]!a}')
        self.dtype = np.dtype(code)

    def __setstate__(self, state: Any) -> None:
        order = _text(state[1])
        if order not in ('<', '>', '|', '=') or any(item is not None for item in state[2:5]):
            raise pickle.UnpicklingError('arrays of records')
        self.dtype = self.dtype.newbyteorder(order)


class _Array(_Inert):
    """``numpy.ndarray`` as it is pickled: created empty, then given its state."""

    __slots__ = ('_array',)

    def __init__(self, array: Optional[np.ndarray] = None):
        self._array = array

    def __setstate__(self, state: Any) -> None:
        *_version, shape, dtype, fortran, data = state
        if isinstance(data, list):
            raise _Refused('an array of objects')
        self._array = _array_of(data, dtype, shape, 'F' if fortran else 'C')

    def numpy(self) -> np.ndarray:
        if self._array is None:
            raise pickle.UnpicklingError('an array without content')
        return self._array


class _Dict(dict):
    """``collections.OrderedDict``, whose attributes (versions of modules) do not matter."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        pass


class _Settings(_Inert):
    """Settings stored beside the parameters, such as ``argparse.Namespace``; they are ignored."""

    __slots__ = ()

    def __new__(cls, *_unused: Any) -> _Settings:
        return super().__new__(cls)

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


class _StorageType(_Inert):
    __slots__ = ('bfloat16', 'dtype')

    def __init__(self, dtype: str, bfloat16: bool = False):
        self.dtype, self.bfloat16 = np.dtype(dtype), bfloat16


class _Storages:
    """The blocks of numbers in a ``.pth`` that its tensors refer to, by key."""

    def __init__(self) -> None:
        self.wanted: dict[str, _Storage] = {}

    def request(self, key: str, kind: _StorageType, length: int) -> _Storage:
        storage = self.wanted.setdefault(key, _Storage(kind, length))
        if (storage.dtype, storage.bfloat16, storage.length) != (kind.dtype, kind.bfloat16, length):
            raise pickle.UnpicklingError(f'two kinds of storage {key}')
        return storage


class _Storage(_Inert):
    __slots__ = ('bfloat16', 'data', 'dtype', 'length')

    def __init__(self, kind: _StorageType, length: int):
        self.dtype, self.bfloat16, self.length = kind.dtype, kind.bfloat16, length
        self.data: Optional[np.ndarray] = None

    def fill(self, raw: bytes) -> None:
        if len(raw) != self.length * self.dtype.itemsize:
            raise pickle.UnpicklingError('a storage of the wrong size')
        numbers = np.frombuffer(raw, self.dtype)
        self.data = widen(numbers) if self.bfloat16 else numbers


class _Tensor(_Inert):
    """A view of a storage, taken once the storage has been read."""

    __slots__ = ('_offset', '_shape', '_storage', '_strides')

    def __init__(self, storage: Any, offset: Any, shape: Any, strides: Any, *_unused: Any):
        if not isinstance(storage, _Storage) or not (
                _are_sizes((offset, *shape, *strides)) and len(shape) == len(strides)):
            raise pickle.UnpicklingError('a tensor that is described wrongly')
        self._storage, self._offset = storage, offset
        self._shape, self._strides = tuple(shape), tuple(strides)

    def numpy(self) -> np.ndarray:
        data = self._storage.data
        last = self._offset + sum((n - 1) * s for n, s in zip(self._shape, self._strides))
        count = prod(self._shape)
        if data is None or count > len(data) or (count and last >= len(data)):
            raise pickle.UnpicklingError('a tensor beyond its storage')
        if not count:
            return np.zeros(self._shape, data.dtype)
        strides = [s * data.itemsize for s in self._strides]
        return np.lib.stride_tricks.as_strided(data[self._offset:], self._shape, strides).copy()


def _array_of(data: Any, dtype: Any, shape: Any, order: str) -> np.ndarray:
    raw = data.encode('latin1') if isinstance(data, str) else data
    if not isinstance(raw, (bytes, bytearray)) or not isinstance(dtype, _Dtype):
        raise pickle.UnpicklingError('an array without numbers')
    shape = tuple(shape) if isinstance(shape, (tuple, list)) else (shape,)
    if not _are_sizes(shape):
        raise pickle.UnpicklingError(f'an array of shape {shape}')
    return np.frombuffer(bytes(raw), dtype.dtype).reshape(shape, order=order)


def _from_buffer(data: Any, dtype: Any, shape: Any, order: Any, *_axes: Any) -> _Array:
    if order not in ('C', 'F'):
        raise pickle.UnpicklingError(f'an array in the order {order!r}')
    return _Array(_array_of(data, dtype, shape, order))


def _encode(text: Any, codec: Any) -> bytes:
    """``_codecs.encode``, with which Python 3 writes bytes for Python 2."""
    if not isinstance(text, str) or codec != 'latin1':
        raise pickle.UnpicklingError(f'text in {codec!r}')
    return text.encode('latin1')


def _are_sizes(values: Sequence[Any]) -> bool:
    return all(isinstance(v, int) and v >= 0 for v in values)


def _text(value: Any) -> str:
    return value.decode('latin1') if isinstance(value, bytes) else str(value)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or ['no reason given'])[0][:200].rstrip('.')


_STAND_INS: dict[tuple[str, str], Callable[..., Any]] = {
    ('numpy', 'ndarray'): lambda: _Array(),
    ('numpy', 'dtype'): _Dtype,
    ('collections', 'OrderedDict'): lambda *items: _Dict(*items),
    ('collections', 'Counter'): lambda *items: _Dict(*items),
    ('_codecs', 'encode'): _encode,
    ('__builtin__', 'bytes'): lambda: b'',
    ('builtins', 'bytes'): lambda: b'',
    ('torch._utils', '_rebuild_tensor_v2'): _Tensor,
    ('torch._utils', '_rebuild_parameter'): lambda data, *_unused: data,
    ('torch', 'Size'): lambda sizes=(): tuple(sizes),
}
for _core in ('numpy.core', 'numpy._core'):  # the latter since NumPy 2
    _STAND_INS[_core + '.multiarray', '_reconstruct'] = lambda *_unused: _Array()
    _STAND_INS[_core + '.multiarray', 'scalar'] = (
        lambda dtype, data=b'': _Array(_array_of(data, dtype, (), 'C')))
    _STAND_INS[_core + '.numeric', '_frombuffer'] = _from_buffer

_SETTINGS = {('argparse', 'Namespace'), ('types', 'SimpleNamespace'), ('yacs.config', 'CfgNode'),
             ('fvcore.common.config', 'CfgNode'), ('detectron2.config.config', 'CfgNode'),
             ('pathlib', 'PosixPath'), ('pathlib', 'PurePosixPath'), ('pathlib', 'WindowsPath'),
             ('pathlib._local', 'PosixPath'), ('torch', 'device')}

_STORAGES: dict[tuple[str, str], tuple[Any, ...]] = {
    ('torch', name + 'Storage'): (dtype,) for name, dtype in {
        'Double': '<f8', 'Float': '<f4', 'Half': '<f2', 'Long': '<i8', 'Int': '<i4', 'Short': '<i2',
        'Char': 'i1', 'Byte': 'u1', 'Bool': '?'}.items()}
_STORAGES['torch', 'BFloat16Storage'] = ('<u2', True)


def _read_zip(stream: BinaryIO) -> Any:
    """Read a file of ``torch.save`` since 1.6: NAME/data.pkl, and the storages as NAME/data/KEY."""
    with zipfile.ZipFile(stream) as archive:
        names = [n for n in archive.namelist() if re.fullmatch('([^/]+/)?data[.]pkl', n)]
        if len(names) != 1:
            raise pickle.UnpicklingError('an archive without data.pkl')
        root = names[0][:-len('data.pkl')]
        if _order(archive, root) != 'little':
            raise pickle.UnpicklingError('numbers in big-endian order')
        storages = _Storages()
        content = _ArrayUnpickler(io.BytesIO(_member(archive, names[0])), storages).load()
        for key, storage in storages.wanted.items():
            storage.fill(_member(archive, f'{root}data/{key}'))
    return content


def _order(archive: zipfile.ZipFile, root: str) -> str:
    name = root + 'byteorder'
    return _text(_member(archive, name)).strip() if name in archive.namelist() else 'little'


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    # torch.save does not compress.  Requiring that keeps a small file from becoming a huge one.
    if archive.getinfo(name).compress_type != zipfile.ZIP_STORED:
        raise pickle.UnpicklingError('compressed data')
    return archive.read(name)


def _read_legacy(stream: BinaryIO) -> Any:
    """Read a file of ``torch.save`` before 1.6: five consecutive pickles, then the storages."""
    if _ArrayUnpickler(stream).load() != _LEGACY_PROTOCOL:
        raise pickle.UnpicklingError('an unknown version of the format')
    system = _ArrayUnpickler(stream).load()
    if not isinstance(system, dict) or not system.get('little_endian', True):
        raise pickle.UnpicklingError('numbers in big-endian order')
    storages = _Storages()
    content = _ArrayUnpickler(stream, storages).load()
    keys: list[Any] = _ArrayUnpickler(stream).load()
    for key in keys:
        storage = storages.wanted[str(key)]
        length = int.from_bytes(_exactly(stream, 8), 'little')
        if length != storage.length:
            raise pickle.UnpicklingError('a storage of another size than announced')
        storage.fill(_exactly(stream, length * storage.dtype.itemsize))
    return content


def _exactly(stream: BinaryIO, count: int) -> bytes:
    raw = stream.read(count)
    if len(raw) != count:
        raise EOFError('the file ends within a storage')
    return raw
