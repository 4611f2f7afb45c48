"""Runners for the stages of a network: Gluon blocks, exported MXNet files, or ONNX Runtime.

Each runner loads its library when it is created, so the other library need not be installed.
"""
from __future__ import annotations

import os
import threading
import warnings
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Optional, Protocol

import numpy as np

from adaptis.deploy.stages import Interface, Stage, interfaces
from adaptis.errors import AdaptisError

BACKENDS = ('mxnet', 'onnxruntime')

_LOCKS: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()
_LOCKS_LOCK = threading.Lock()


class Runner(Protocol):
    """Runs stages by name.

    Attributes
    ----------
    stages : inputs and outputs of each stage
    device : an MXNet context, or 'cpu' or 'gpu:0'
    best_batch : the batch size of points with the highest throughput; None = large batches
    """

    stages: Mapping[str, Interface]
    device: Any
    best_batch: Optional[int]

    def run(self, stage: str, *arrays: Any) -> list[Any]:
        """Return the outputs of a stage, as arrays of the backend.

        ``arrays`` are its inputs in order: NumPy arrays, or outputs of another stage.
        """


def network_lock(net: Any) -> Any:
    """Return the lock of a network, which a thread holds while it computes with the network.

    An MXNet block stores the name scope of a call, so simultaneous calls interfere.  The thread
    that holds the lock may acquire it again.
    """
    with _LOCKS_LOCK:
        return _LOCKS.setdefault(net, threading.RLock())


def run_stage(runner: Runner, stage: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the outputs of a stage by name; its inputs are taken from ``values`` by name.

    Raises AdaptisError if the stage or an input does not exist.
    """
    if stage not in runner.stages:
        raise AdaptisError(f'The exported network has no stage "{stage}": export it again.')
    interface = runner.stages[stage]
    outputs = runner.run(stage, *(named_input(stage, values, signature.name)
                                  for signature in interface.inputs))
    return _Outputs(zip(interface.outputs, outputs))


class _Outputs(dict[str, Any]):
    """The outputs of a stage by name; AdaptisError for an output that the export does not have."""

    def __missing__(self, name: str) -> Any:
        raise AdaptisError(f'The exported network does not compute "{name}": export it again.')


def named_input(stage: str, values: Mapping[str, Any], name: str) -> Any:
    """Return an input of a stage; AdaptisError if no stage computes it."""
    if name not in values:
        raise AdaptisError(f'The stage "{stage}" of the exported network needs "{name}", which no '
                           'stage computes: export it again.')
    return values[name]


class BlockRunner:
    """Runs the blocks of stages.

    Parameters
    ----------
    stages : the stages of a network
    ctx : the MXNet context of its parameters
    """

    def __init__(self, stages: Sequence[Stage], ctx: Any):
        self.stages, self.device, self.best_batch = interfaces(stages), ctx, None
        self._blocks = {stage.name: stage.block for stage in stages}

    def run(self, stage: str, *arrays: Any) -> list[Any]:
        """See ``Runner``; returns NDArrays."""
        return call_block(self._blocks[stage], arrays, self.device)


class MXNetRunner:
    """Runs stages that were exported for MXNet; each is loaded on first use.

    Parameters
    ----------
    stages : inputs and outputs by name
    files : the symbol of each stage, and its parameters if it has any
    ctx : an MXNet context; by default the CPU
    """

    def __init__(self, stages: Mapping[str, Interface],
                 files: Mapping[str, tuple[Path, Optional[Path]]], ctx: Any = None):
        from adaptis.runtime import mx  # loads MXNet
        self.stages, self.device = stages, mx.cpu() if ctx is None else ctx
        self.best_batch = None
        self._files = files
        self._blocks: dict[str, Any] = {}

    def run(self, stage: str, *arrays: Any) -> list[Any]:
        """See ``Runner``; returns NDArrays.  One thread runs at a time, others wait."""
        with network_lock(self):
            if stage not in self._blocks:
                self._blocks[stage] = self._read(stage)
            return call_block(self._blocks[stage], arrays, self.device)

    def _read(self, stage: str) -> Any:
        from adaptis.runtime import mx  # loads MXNet
        symbol, parameters = self._files[stage]
        names = [signature.name for signature in self.stages[stage].inputs]
        try:
            with warnings.catch_warnings():   # warnings about inputs whose type is not known yet
                warnings.simplefilter('ignore', UserWarning)
                block = mx.gluon.SymbolBlock.imports(
                    str(symbol), names, parameters and str(parameters), ctx=self.device)
        except (mx.MXNetError, AssertionError, ValueError) as error:
            raise AdaptisError(f'{symbol} or its parameters have changed since the export: copy '
                               'the folder again.') from error
        block.hybridize()
        return block


class DeviceArray:
    """An output of a stage that stays on the device of ONNX Runtime until it is read.

    Parameters
    ----------
    value : an ``onnxruntime.OrtValue`` of float32
    """

    dtype = np.dtype(np.float32)

    def __init__(self, value: Any):
        self.value = value
        self.shape = tuple(value.shape())

    def asnumpy(self) -> np.ndarray:
        """Return a copy in the memory of the CPU."""
        return np.asarray(self.value.numpy())

    def __getitem__(self, key: Any) -> Any:
        """Return a part as a NumPy array, or this array itself if the key selects all of it."""
        keys = key if isinstance(key, tuple) else (key,)
        if all(isinstance(k, slice) and k.indices(size) == (0, size, 1)
               for k, size in zip(keys, self.shape)):
            return self
        return self.asnumpy()[key]


class OnnxRunner:
    """Runs stages with ONNX Runtime; each is loaded on first use.

    On a CPU it uses OMP_NUM_THREADS threads, by default one per core.  On a GPU, outputs stay on
    the device and are passed to the next stage without a copy: the features of an image stay there,
    only points are copied to the GPU, and only masks are copied back.

    Parameters
    ----------
    stages : inputs and outputs by name
    files : the file of each stage
    device : 'cpu'; 'gpu' or 'gpu:1'; 'auto', which is the first GPU if there is one

    Attributes
    ----------
    keeps_arrays : whether outputs stay on the device, as ``DeviceArray``; by default only on a GPU

    Raises AdaptisError if ONNX Runtime is not installed, or does not support the GPU.
    """

    def __init__(self, stages: Mapping[str, Interface], files: Mapping[str, Path],
                 device: str = 'cpu'):
        self._runtime = _onnxruntime()
        self.stages, self.device = stages, self._checked_device(device)
        self.keeps_arrays = self.device != 'cpu'
        # A call has little overhead, and the maps of one point fit into the cache of a core.
        self.best_batch = 1 if self.device == 'cpu' else None
        self._files = files
        self._sessions: dict[str, Any] = {}

    def run(self, stage: str, *arrays: Any) -> list[Any]:
        """See ``Runner``; returns NumPy arrays, or ``DeviceArray`` where outputs stay.

        Threads run at the same time.
        """
        with network_lock(self):
            if stage not in self._sessions:
                self._sessions[stage] = self._read(stage)
        compute = self._compute_on_device if self.keeps_arrays else self._compute
        try:
            return compute(self._sessions[stage], self.stages[stage], arrays)
        except Exception as error:   # ONNX Runtime's exceptions have no common class
            if 'allocate memory' in str(error):
                raise AdaptisError('ONNX Runtime does not have enough memory for this image: '
                                   'segment it in tiles, or use a smaller one.') from error
            raise AdaptisError(f'ONNX Runtime {self._runtime.__version__} cannot compute '
                               f'{self._files[stage]} ({_first_line(error)}).') from error

    def _compute(self, session: Any, interface: Interface, arrays: Sequence[Any]) -> list[Any]:
        inputs, outputs = interface
        found: list[Any] = session.run(list(outputs), {
            s.name: np.ascontiguousarray(array, s.dtype) for s, array in zip(inputs, arrays)})
        return found

    def _compute_on_device(self, session: Any, interface: Interface,
                           arrays: Sequence[Any]) -> list[Any]:
        kind, number = self._memory()
        binding = session.io_binding()
        for signature, array in zip(interface.inputs, arrays):
            value = array.value if isinstance(array, DeviceArray) else (
                self._runtime.OrtValue.ortvalue_from_numpy(
                    np.ascontiguousarray(array, signature.dtype), kind, number))
            binding.bind_ortvalue_input(signature.name, value)
        for name in interface.outputs:
            binding.bind_output(name, kind, number)
        session.run_with_iobinding(binding)
        return [DeviceArray(value) for value in binding.get_outputs()]

    def _memory(self) -> tuple[str, int]:
        """Return ONNX Runtime's name and number of the device that holds the arrays."""
        return ('cpu', 0) if self.device == 'cpu' else ('cuda', int(self.device.partition(':')[2]))

    def _checked_device(self, device: str) -> str:
        """Return 'cpu', 'gpu:0' and so on."""
        device_type, _, number = device.partition(':')
        if device_type not in ('auto', 'cpu', 'gpu') or (number and not (device_type == 'gpu'
                                                                  and number.isdecimal())):
            raise AdaptisError(f'"{device}" is not a device of ONNX Runtime: use auto, cpu, gpu or '
                               'gpu:0.')
        has_cuda = 'CUDAExecutionProvider' in self._runtime.get_available_providers()
        if device_type == 'gpu' and not has_cuda:
            raise AdaptisError(f'The device "{device}" cannot be used, because the installed ONNX '
                               'Runtime supports only the CPU: run python -m pip uninstall '
                               'onnxruntime, then python -m pip install onnxruntime-gpu.')
        return f'gpu:{int(number or 0)}' if device_type != 'cpu' and has_cuda else 'cpu'

    def _read(self, stage: str) -> Any:
        options = self._runtime.SessionOptions()
        options.log_severity_level = 3   # users cannot fix the causes of its warnings
        # Otherwise the second array of a size gets a block for all results, beside the memory that
        # the first one has taken: the peak is twice as high, and nothing is faster.
        options.enable_mem_pattern = False
        threads = os.environ.get('OMP_NUM_THREADS', '')
        if threads.isdecimal():
            options.intra_op_num_threads = int(threads)
        path = self._files[stage]
        _refuse_external_data(path)
        try:
            session = self._runtime.InferenceSession(str(path), options,
                                                     providers=self._providers())
        except Exception as error:
            raise AdaptisError(f'{path} cannot be read by ONNX Runtime '
                               f'{self._runtime.__version__} ({_first_line(error)}).') from error
        if self.device != 'cpu' and 'CUDAExecutionProvider' not in session.get_providers():
            raise AdaptisError(f'ONNX Runtime cannot compute on {self.device}, because its CUDA '
                               'libraries do not load (see its own message above) or this GPU '
                               'does not exist: use cpu.')
        return session

    def _providers(self) -> list[Any]:
        if self.device == 'cpu':
            return ['CPUExecutionProvider']
        # By default ONNX Runtime times every cuDNN algorithm for every convolution at every new
        # size, and the sizes of images and numbers of points vary.
        options = {'device_id': self._memory()[1], 'cudnn_conv_algo_search': 'HEURISTIC'}
        return [('CUDAExecutionProvider', options), 'CPUExecutionProvider']


def _refuse_external_data(path: Path) -> None:
    """Raise AdaptisError if a model refers to weights in other files, which may be anywhere.

    ONNX stores the name of such a file under the key "location" of a tensor: a field of type 2 and
    length 8.  Exports have none.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise AdaptisError(f'{path} cannot be read: {error.strerror}.') from error
    if b'\x0a\x08location' in content:
        raise AdaptisError(f'{path} refers to weights in another file, which exports never do, so '
                           'it was not loaded: export the network again.')


def call_block(block: Any, arrays: Sequence[Any], ctx: Any) -> list[Any]:
    """Return the outputs of a block as a list; NumPy inputs are copied to ``ctx`` first."""
    from adaptis.runtime import mx  # loads MXNet
    inputs = [mx.nd.array(a, ctx=ctx, dtype=a.dtype) if isinstance(a, np.ndarray) else a
              for a in arrays]
    outputs = block(*inputs)
    return list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]


def _onnxruntime() -> Any:
    try:
        import onnxruntime  # optional
    except ImportError as error:
        raise AdaptisError('ONNX Runtime is not installed: run python -m pip install onnxruntime '
                           '(for an NVIDIA GPU, onnxruntime-gpu).') from error
    return onnxruntime


def _first_line(error: Exception) -> Optional[str]:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
