"""Import MXNet under current versions of Python and NumPy, and choose the devices.

All code imports MXNet and GluonCV only with ``from adaptis.runtime import mx`` (or ``gluoncv``).
That import also loads NumPy; ``import adaptis.runtime`` alone does not.
"""
from __future__ import annotations

import contextlib
import ctypes
import importlib
import importlib.util
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, Callable

from adaptis import machine
from adaptis.doctor import explain_import_error, torch_conflict_message
from adaptis.errors import AdaptisError

KERNELS = 'MXNET_MKLDNN_CACHE_NUM'

_MODULES = {'mx': 'mxnet', 'gluoncv': 'gluoncv'}
_set_here: dict[str, str] = {}   # MXNet environment variables set by this module, not by the user

# MXNet imports these if they are installed, for parts that this library does not use: its old
# training API, the tests of its samplers, and calibration by entropy.  With setuptools, a
# comparison of version numbers would load all of it; Python's own distutils does the same but was
# removed in 3.12.
_NEEDLESS = ('sklearn', 'scipy.stats') + (
    ('setuptools._distutils',) if sys.version_info < (3, 12) else ())

# The libraries that libmxnet.so of mxnet-cu112 is linked to, directly or not, dependencies first.
# libcudnn.so.8 finds the large parts of cuDNN in its own folder when a GPU first needs them.
_CUDA_LIBRARIES = (
    'libcudart.so.11.0', 'libnvrtc.so.11.2', 'libnvToolsExt.so.1', 'libcublasLt.so.11',
    'libcublas.so.11', 'libcufft.so.10', 'libcurand.so.10', 'libcusparse.so.11',
    'libcusolver.so.11', 'libcudnn.so.8', 'libnccl.so.2')


def __getattr__(name: str) -> Any:
    """Import ``mx`` or ``gluoncv`` on first access; AdaptisError if the import fails."""
    if name not in _MODULES:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    globals()[name] = module = _import(_MODULES[name])
    return module


def get_contexts(name: str = 'auto') -> list[Any]:
    """Return the devices to compute on, as MXNet contexts.

    Parameters
    ----------
    name : ``'cpu'``; ``'cpu:1'`` or ``'cpu:0,1'``, the same CPU under MXNet's other names;
        ``'gpu'`` for all GPUs that this MXNet supports; ``'gpu:0,1'`` for these two; ``'auto'``,
        which is ``'gpu'`` if there is one, and MXNet's current context (``'cpu'``) otherwise.

    Raises
    ------
    AdaptisError
        If the name is unknown, or a GPU that it names cannot be used.
    """
    kind, wanted = _parse_context(name)
    from adaptis.runtime import mx  # loads MXNet, so the name is checked first
    if kind == 'cpu':
        return [mx.cpu(i) for i in wanted or (0,)]
    has_cuda = mx.runtime.Features().is_enabled('CUDA')
    cuda = machine.query_cuda() if has_cuda else machine.Cuda()
    usable = [gpu.index for gpu in cuda.usable]
    if kind == 'auto' and not usable:
        return [mx.current_context()]
    if not usable or set(wanted) - set(usable):
        raise AdaptisError(f'The device "{name}" cannot be used: {_why_no_gpu(has_cuda, cuda)}; '
                           f'use cpu, {_other_way(has_cuda, cuda)}or see `adaptis doctor`.')
    return [mx.gpu(i) for i in wanted or usable]


def get_context(name: str = 'auto') -> Any:
    """Return a single device by name; for ``'gpu'`` and ``'auto'`` the first GPU.

    Raises AdaptisError if the name lists several, or as ``get_contexts`` does.
    """
    if ',' in name:
        raise AdaptisError(f'"{name}" names several devices, and only training uses more than one: '
                           f'name one of them, such as {name.split(",")[0]}.')
    return get_contexts(name)[0]


def context_name(context: Any) -> str:
    """Return the name of an MXNet context, such as ``'gpu:1'``; ``'cpu'`` for the first CPU."""
    name = f'{context.device_type}:{context.device_id}'
    return 'cpu' if name == 'cpu:0' else name


def disable_fusion() -> None:
    """Turn off MXNet's fusion of pointwise operators on GPUs, unless the user has set it.

    A fused kernel keeps only the shapes of its last forward pass.  If a hybridized block is called
    with several shapes before one backward pass, as heads on pyramids and losses of single images
    are, the backward pass fails or returns wrong gradients.
    """
    if not os.environ.get(machine.FUSION):   # MXNet treats an empty value as unset
        os.environ[machine.FUSION] = '0'


def bound_kernel_cache() -> None:
    """Let oneDNN keep at most 1,024 prepared kernels of each type, unless the user has set a limit.

    By default, MXNet keeps one for each layer and image size forever: the toy network took 5 MiB
    more for each new size (``python -m tests.soak.memory predict 400 --sizes 400``).  No network of
    this library has so many layers, so images of a few sizes find all of their kernels.
    """
    os.environ.setdefault(KERNELS, '1024')


def search_cudnn_algorithms(search: bool) -> None:
    """Set whether MXNet benchmarks cuDNN's algorithms at every new size of a convolution.

    The search makes convolutions with recurring sizes faster.  But a ResNet-50 has about 150 of
    them (forwards and backwards), and the search is repeated for each whenever the size of the
    images or the number of points or objects is new.  MXNet reads the variable when a convolution
    first runs.  A value set by the user is not changed.
    """
    if os.environ.get(machine.AUTOTUNE, '') in ('', _set_here.get(machine.AUTOTUNE)):
        os.environ[machine.AUTOTUNE] = _set_here[machine.AUTOTUNE] = str(int(search))


def restore_numpy_names(numpy: Any) -> list[str]:
    """Restore the names in ``numpy`` that MXNet 1.9.1 and GluonCV use and that NumPy has removed.

    NumPy 1.24 removed ``bool``, ``int`` and ``float``, and NumPy 2 the others.  Names that exist
    are not changed.  Returns the restored names.
    """
    restored = []
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')   # accessing a deprecated name warns
        for name, value in _former_names(numpy).items():
            if not hasattr(numpy, name):
                setattr(numpy, name, value)
                restored.append(name)
    return restored


def preload_cuda(paths: dict[str, str], load: Callable[..., Any] = ctypes.CDLL) -> list[str]:
    """Load the CUDA libraries of the ``nvidia-*-cu11`` wheels, so that MXNet finds them.

    ``paths`` maps the name of a library to its file.  The system's loader finds the others.
    Returns the names that were loaded, in order.
    """
    loaded = [name for name in _CUDA_LIBRARIES if name in paths]
    for name in loaded:
        load(paths[name], mode=ctypes.RTLD_GLOBAL)
    return loaded


def _import(module: str) -> Any:
    if module == 'gluoncv':
        _refuse_torch()
    try:
        restore_numpy_names(importlib.import_module('numpy'))
        if machine.cuda_build():
            preload_cuda(machine.nvidia_libraries())
        disable_fusion()
        bound_kernel_cache()
        if machine.AUTOTUNE not in _set_here:   # unless a command has already decided
            search_cudnn_algorithms(False)
        with warnings.catch_warnings():   # these warnings concern code that users cannot change
            for category in (DeprecationWarning, SyntaxWarning):
                warnings.simplefilter('ignore', category)
            return _import_gluoncv() if module == 'gluoncv' else _import_mxnet()
    except Exception as error:   # a broken environment can raise anything
        raise AdaptisError(explain_import_error(module, error)) from error


def _import_mxnet() -> Any:
    """Import MXNet without unneeded modules, which would take a third of the time."""
    before = {name for name in sys.modules if name.split('.')[0] == 'distutils'}
    with _hidden(_NEEDLESS):
        mxnet = importlib.import_module('mxnet')
    for name in [name for name in sys.modules if name.split('.')[0] == 'distutils']:
        if name not in before:   # setuptools warns if distutils was imported first
            del sys.modules[name]
    return mxnet


@contextlib.contextmanager
def _hidden(names: Sequence[str]) -> Iterator[None]:
    """Make modules that are not loaded yet appear to be missing."""
    hidden = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))   # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


def _import_gluoncv() -> Any:
    """Import GluonCV without its change to Pillow, which would silently read truncated files."""
    from PIL import ImageFile  # only GluonCV needs it here
    before = ImageFile.LOAD_TRUNCATED_IMAGES
    try:
        return importlib.import_module('gluoncv')
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = before


def _refuse_torch() -> None:
    """Raise AdaptisError if PyTorch is installed.

    GluonCV would import it, and the two cannot share a process.
    """
    if importlib.util.find_spec('torch') is not None:
        raise AdaptisError(torch_conflict_message('torch'))


def _former_names(np: Any) -> dict[str, Any]:
    values = {
        'bool': bool, 'int': int, 'float': float,
        'PZERO': 0.0, 'NZERO': -0.0, 'Inf': np.inf, 'PINF': np.inf, 'NINF': -np.inf,
        'NaN': np.nan, 'NAN': np.nan,
        'alltrue': np.all, 'sometrue': np.any, 'product': np.prod, 'round_': np.round,
        'msort': lambda a: np.sort(a, axis=0),
        'in1d': lambda a, b, **kw: np.isin(np.ravel(a), b, **kw),
        'trapz': getattr(np, 'trapezoid', None),
    }
    # NumPy 1.20 moved these to another package; MXNet only re-exports them.
    values.update({name: _gone(name) for name in ('mirr', 'npv', 'pmt', 'ppmt', 'pv', 'rate')})
    return values


def _gone(name: str) -> Callable[..., None]:
    def function(*_args: Any, **_kwargs: Any) -> None:
        raise NotImplementedError(f'numpy.{name} was removed from NumPy 1.20')
    return function


def _parse_context(name: str) -> tuple[str, list[int]]:
    """Return 'auto', 'cpu' or 'gpu', and the numbers in the name of a context, [] if none."""
    kind, colon, numbers = name.partition(':')
    parts = numbers.split(',') if colon else []
    valid = all(part.isdecimal() for part in parts) and len(set(parts)) == len(parts)
    if kind not in ('auto', 'cpu', 'gpu') or not valid or (kind == 'auto' and colon):
        raise AdaptisError(f'"{name}" is not a device: use auto, cpu, gpu, or gpu:0,1 for some '
                           'GPUs.')
    return kind, [int(part) for part in parts]


def _why_no_gpu(has_cuda: bool, cuda: machine.Cuda) -> str:
    if not has_cuda:
        return 'the installed MXNet supports only the CPU'
    if not cuda.gpus:
        return 'no GPU was found'
    usable = [gpu.index for gpu in cuda.usable]
    found = ', '.join(f'{gpu.index} ({gpu.name}{"" if gpu.index in usable else ", not usable"})'
                      for gpu in cuda.gpus)
    newer = [gpu for gpu in cuda.gpus if gpu.capability > machine.NEWEST_GPU]
    capability = ' and '.join(sorted({f'{major}.{minor}' for major, minor in
                                      (gpu.capability for gpu in newer)}))
    return f'the GPUs here are {found}' + (
        f", and MXNet's CUDA 11.2 code does not support compute capability {capability}"
        if newer else '')


def _other_way(has_cuda: bool, cuda: machine.Cuda) -> str:
    """Return advice on computing on a GPU that this MXNet does not support."""
    if has_cuda and not any(gpu.capability > machine.NEWEST_GPU for gpu in cuda.gpus):
        return ''
    return ('use ONNX Runtime on the GPU (`adaptis export`, then --export DIR --backend '
            'onnxruntime, with onnxruntime-gpu installed), ')
