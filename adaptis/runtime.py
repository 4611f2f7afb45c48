"""Makes MXNet importable on today's Python, and picks the devices it computes on.

``from adaptis.runtime import mx`` (or ``gluoncv``) is the one way this project imports them.
Only that import touches NumPy: ``import adaptis`` or ``import adaptis.runtime`` alone does not.
"""
from __future__ import annotations

import ctypes
import importlib
import importlib.util
import warnings
from typing import Any, Callable

from adaptis import machine
from adaptis.errors import AdaptisError

_MODULES = {'mx': 'mxnet', 'gluoncv': 'gluoncv'}

# What libmxnet.so of mxnet-cu112 links to, or what those open in turn, dependencies first.
_CUDA_LIBRARIES = (
    'libcudart.so.11.0', 'libnvrtc.so.11.2', 'libnvToolsExt.so.1', 'libcublasLt.so.11',
    'libcublas.so.11', 'libcufft.so.10', 'libcurand.so.10', 'libcusparse.so.11',
    'libcusolver.so.11', 'libcudnn_ops_infer.so.8', 'libcudnn_ops_train.so.8',
    'libcudnn_cnn_infer.so.8', 'libcudnn_cnn_train.so.8', 'libcudnn_adv_infer.so.8',
    'libcudnn_adv_train.so.8', 'libcudnn.so.8', 'libnccl.so.2')


def __getattr__(name: str) -> Any:
    """``mx`` and ``gluoncv``, imported when first asked for; AdaptisError if they cannot be."""
    if name not in _MODULES:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    globals()[name] = module = _import(_MODULES[name])
    return module


def context(name: str = 'auto') -> list[Any]:
    """The devices to compute on, as MXNet contexts.

    Parameters
    ----------
    name : ``'cpu'``; ``'gpu'``, all GPUs this MXNet can run; ``'gpu:0,1'``, those;
        ``'auto'``, like ``'gpu'`` where there is one, else ``'cpu'``.

    Raises
    ------
    AdaptisError
        If the name means nothing or a GPU that it asks for cannot be used.
    """
    wanted = _parse_context(name)
    from adaptis.runtime import mx  # now, since the name alone may already be wrong
    if name == 'cpu':
        return [mx.cpu()]
    has_cuda = mx.runtime.Features().is_enabled('CUDA')
    cuda = machine.ask_cuda() if has_cuda else machine.Cuda()
    usable = [gpu.index for gpu in cuda.usable]
    if name == 'auto' and not usable:
        return [mx.cpu()]
    if not usable or set(wanted) - set(usable):
        raise AdaptisError(f'The device "{name}" was asked for, but {_why_no_gpu(has_cuda, cuda)}: '
                           f'use cpu, {_other_way(has_cuda, cuda)}or see `adaptis doctor`.')
    return [mx.gpu(i) for i in wanted or usable]


def restore_numpy_names(numpy: Any) -> list[str]:
    """Give ``numpy`` back the names that MXNet 1.9.1 and GluonCV use and that it no longer has.

    NumPy 1.24 removed ``bool``, ``int`` and ``float``, NumPy 2 the others.  Names that are there
    stay as they are.  Returns the restored names.
    """
    restored = []
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')   # asking for a deprecated name warns
        for name, value in _former_names(numpy).items():
            if not hasattr(numpy, name):
                setattr(numpy, name, value)
                restored.append(name)
    return restored


def preload_cuda(paths: dict[str, str], load: Callable[..., Any] = ctypes.CDLL) -> list[str]:
    """Load the CUDA libraries of the ``nvidia-*-cu11`` wheels, so that MXNet finds them loaded.

    ``paths`` maps a library's name to its file; what it lacks is left to the system's loader.
    Returns the names loaded, in order.
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
        with warnings.catch_warnings():   # of what MXNet's authors might change: not for users
            for category in (DeprecationWarning, SyntaxWarning):
                warnings.simplefilter('ignore', category)
            return importlib.import_module(module)
    except Exception as error:   # whatever a broken environment throws: the user reads one sentence
        from adaptis.doctor import explain
        raise AdaptisError(explain(module, error)) from error


def _refuse_torch() -> None:
    """GluonCV imports PyTorch where it is installed, and the two must not share a process."""
    if importlib.util.find_spec('torch') is not None:
        from adaptis.doctor import gluoncv_beside_torch
        raise AdaptisError(gluoncv_beside_torch('torch'))


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
    # These left NumPy 1.20 for another package; MXNet only passes them on.
    values.update({name: _gone(name) for name in ('mirr', 'npv', 'pmt', 'ppmt', 'pv', 'rate')})
    return values


def _gone(name: str) -> Callable[..., None]:
    def function(*_args: Any, **_kwargs: Any) -> None:
        raise NotImplementedError(f'numpy.{name} was removed from NumPy 1.20')
    return function


def _parse_context(name: str) -> list[int]:
    """GPU numbers that a context name asks for, [] if it names none."""
    if name in ('auto', 'cpu', 'gpu'):
        return []
    kind, _, numbers = name.partition(':')
    parts = numbers.split(',')
    if kind != 'gpu' or not all(part.isdecimal() for part in parts) or len(set(parts)) < len(parts):
        raise AdaptisError(f'"{name}" is no device: say auto, cpu, gpu, or gpu:0,1 for some GPUs.')
    return [int(part) for part in parts]


def _why_no_gpu(has_cuda: bool, cuda: machine.Cuda) -> str:
    if not has_cuda:
        return 'the installed MXNet computes on the CPU only'
    if not cuda.gpus:
        return 'no GPU was found'
    usable = [gpu.index for gpu in cuda.usable]
    found = ', '.join(f'{gpu.index} ({gpu.name}{"" if gpu.index in usable else ", not usable"})'
                      for gpu in cuda.gpus)
    newer = [gpu for gpu in cuda.gpus if gpu.capability > machine.NEWEST_GPU]
    capability = ' and '.join(sorted({f'{major}.{minor}' for major, minor in
                                      (gpu.capability for gpu in newer)}))
    return f'the GPUs here are {found}' + (
        f', and compute capability {capability} is newer than the CUDA 11.2 code of MXNet'
        if newer else '')


def _other_way(has_cuda: bool, cuda: machine.Cuda) -> str:
    """What computes on a GPU that this MXNet does not know."""
    if has_cuda and not any(gpu.capability > machine.NEWEST_GPU for gpu in cuda.gpus):
        return ''
    return ('let ONNX Runtime compute on the GPU (`adaptis export`, then --export DIR --backend '
            'onnxruntime, with onnxruntime-gpu installed), ')
