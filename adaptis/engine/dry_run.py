"""Plan a training step without computing it: MXNet plans it at full size, and no array is filled.

MXNet's engine computes in worker threads.  This module keeps the workers busy forever, so that
every operator waits in their queue.  The calling thread still computes shapes, the graph of the
backward pass and MXNet's memory plan.  This takes seconds and almost no memory, whatever the size
of the images.

The process cannot compute anything afterwards, so use a separate process that ends with
``os._exit``.  It must be started with the variables in ``memory_plan.ENVIRONMENT``.
"""
from __future__ import annotations

import contextlib
import ctypes
import os
import tempfile
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np

from adaptis.engine.memory_plan import MOST_ELEMENTS, TapeNode
from adaptis.runtime import mx

_RANDOM = 999983   # number of random values; a prime, so that rows and channels differ
_WORKERS = (0, 3)   # operator types with their own workers in MXNet: normal, prioritized
_CALLBACK = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)


class StandInGpu(mx.Context):
    """The CPU under the name of a GPU, for code that checks the device of an array."""

    device_type = 'gpu'

    def __init__(self) -> None:
        super().__init__('cpu', 0)

    def __str__(self) -> str:   # operators that create arrays read this
        return 'cpu(0)'


class Recorder:
    """Stops the engine of this process and records all operators from then on.

    Attributes
    ----------
    context : the device of all arrays
    tape : the operators since ``restart``
    """

    def __init__(self) -> None:
        self.context = StandInGpu()
        self.tape: list[TapeNode] = []
        self._values: dict[int, np.ndarray] = {}
        self._kept: list[Any] = []   # all arrays, so that each handle belongs to one array only
        self._random = 8 * np.random.default_rng(0).random(_RANDOM, np.float32) ** 8
        self._callback = _stop_engine(self._kept)
        self._watch()

    def restart(self) -> None:
        """Forget the operators so far."""
        self.tape = []

    def put(self, values: np.ndarray) -> Any:
        """Return an array with these values on the device, without allocating its memory."""
        array = mx.nd.empty(values.shape, self.context, 'float32')
        self._remember(array, values)
        return array

    def _watch(self) -> None:
        """Replace the methods that would wait for the engine, and record every operator."""
        array, register = mx.nd.NDArray, mx.nd.register
        invoke = register._imperative_invoke

        def watched(handle: int, inputs: Any, *rest: Any) -> Any:
            outputs = invoke(handle, inputs, *rest)
            self._note(inputs, outputs)
            return outputs

        register._imperative_invoke = watched
        array.asnumpy = lambda this: self._read(this)
        array._sync_copyfrom = lambda this, values: self._remember(this, values)
        array.wait_to_read = array.wait_to_write = lambda this: None
        array.context = array.ctx = property(lambda this: self.context)

    def _note(self, inputs: Any, outputs: Any) -> None:
        outputs = outputs if isinstance(outputs, (list, tuple)) else [outputs]
        self._kept.extend(outputs)
        self.tape.append(TapeNode(tuple(map(_handle, inputs)),
                                  {_handle(array): array_bytes(array) for array in outputs},
                                  mx.autograd.is_recording()))

    def _remember(self, array: Any, values: Any) -> None:
        self._values[_handle(array)] = np.broadcast_to(values, array.shape)
        self._kept.append(array)

    def _read(self, array: Any) -> np.ndarray:
        """Return the values of a batch array, else random ones.

        Most of these are near 0 and few are large, so that as class scores they yield detections
        like those of a trained network.
        """
        known = self._values.get(_handle(array))
        if known is None:
            known = np.resize(self._random, array.shape)   # repeats the values
        return known.astype(array.dtype)


@contextlib.contextmanager
def logged(lines: list[str]) -> Iterator[None]:
    """Append to ``lines`` what the process writes to stderr inside the block, MXNet included."""
    with tempfile.TemporaryFile() as file:
        before = os.dup(2)
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(before, 2)
            os.close(before)
            file.seek(0)
            lines += file.read().decode('utf-8', 'replace').splitlines()


def array_bytes(arrays: Any) -> int:
    """Return the bytes of an array, of nested sequences of arrays (optimizer states), or of None.

    An array with more than ``MOST_ELEMENTS`` counts as one with that many.
    """
    if arrays is None:
        return 0
    if isinstance(arrays, (list, tuple)):
        return sum(map(array_bytes, arrays))
    try:
        count = int(np.prod(arrays.shape, dtype=np.int64))
    except mx.MXNetError:   # MXNet cannot report the shape
        count = MOST_ELEMENTS
    return count * np.dtype(arrays.dtype).itemsize


def _stop_engine(kept: list[Any]) -> Any:
    """Give the only worker of each type a task that never ends; return what must stay alive."""
    class Device(ctypes.Structure):
        _fields_ = [('kind', ctypes.c_int), ('number', ctypes.c_int32)]

    callback, device = _CALLBACK(lambda *_: threading.Event().wait()), Device(1, 0)
    for kind in _WORKERS:
        array = mx.nd.empty((1,))
        kept.append(array)
        mx.base.check_call(mx.base._LIB.MXEnginePushSyncND(
            callback, None, None, ctypes.byref(device), None, 0,
            (ctypes.c_void_p * 1)(array.handle), 1, ctypes.byref(ctypes.c_int(kind)), 0, b'wait'))
    return callback


def _handle(array: Any) -> int:
    return array.handle.value
