"""Worker processes that compute batches in advance and cannot deadlock.

``gluon.data.DataLoader`` is not used because it forks (which hangs once MXNet runs threads), passes
arrays through /dev/shm (which is small in containers), shares queues whose locks a killed worker
keeps, and has no notion of seeds and positions.  Here every worker is spawned, does not import
MXNet, and owns one pipe, on which it receives the number of a step and answers with the arrays.
Each worker has at most ``PREFETCH`` open requests, so neither side ever blocks on writing while the
other does not read.  Arrays are written to the pipe and read from it without a copy.  There are no
locks, no shared memory and no feeder threads.
"""
from __future__ import annotations

import contextlib
import os
import pickle
import signal
import time
import traceback
import warnings
from collections.abc import Iterator
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Any, Optional

import cv2
import numpy as np

from adaptis.data.batches import Batch, BatchSource
from adaptis.errors import AdaptisError, DataWarning
from adaptis.memory_reuse import keep_freed_memory
from adaptis.toy_data import spawn_context

PREFETCH = 2
TIMEOUT = 300.0


class Loader:
    """Yields the batches of a ``BatchSource`` in order; a context manager that ends its workers.

    Parameters
    ----------
    source : computes batches; it is pickled for the workers
    workers : number of processes; 0 computes the batches in this process
    timeout : seconds to wait for one batch before giving up
    """

    def __init__(self, source: BatchSource, workers: int, timeout: float = TIMEOUT):
        self.source = source
        self.wait_seconds = 0.0
        self._timeout = timeout
        self._workers: list[_Worker] = []
        try:
            for _ in range(workers):
                self._workers.append(_Worker(source))
        except OSError as error:
            self.close()
            raise AdaptisError(f'Data workers cannot be started: {error.strerror}; '
                               'try --workers 0.') from error

    def __enter__(self) -> Loader:
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()

    def close(self) -> None:
        """End the workers."""
        for worker in self._workers:
            worker.close()
        self._workers = []

    def steps(self, start: int, stop: int) -> Iterator[tuple[int, Batch]]:
        """Yield (step, batch) for start <= step < stop; call it once.

        ``wait_seconds`` is the total time in which the caller waited for data.

        Raises AdaptisError if data are broken, or a worker dies or does not answer.
        """
        workers = self._workers
        ahead = PREFETCH * len(workers)
        for step in range(start, min(start + ahead, stop)):
            workers[(step - start) % len(workers)].request(step)
        for step in range(start, stop):
            began = time.perf_counter()
            if workers:
                worker = workers[(step - start) % len(workers)]
                batch = worker.answer(self._timeout)
                if step + ahead < stop:
                    worker.request(step + ahead)
            else:
                batch = self.source.batch(step)
            self.wait_seconds += time.perf_counter() - began
            yield step, batch


class _Worker:
    def __init__(self, source: BatchSource):
        context = spawn_context()
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, source), daemon=True)
        with _without_interrupts():
            self._process.start()
        theirs.close()  # so that the pipe ends when the worker dies

    @property
    def pid(self) -> int:
        return self._process.pid

    def request(self, step: int) -> None:
        try:
            self._pipe.send(step)
        except OSError as error:
            raise self._died() from error

    def answer(self, timeout: float) -> Batch:
        if not wait([self._pipe, self._process.sentinel], timeout):
            raise AdaptisError(f'A data worker returned no batch for {timeout:.0f} seconds, '
                               'perhaps because the disk does not respond: check it, or try '
                               '--workers 0.')
        try:
            # Check the pipe first, because a worker may have answered before it ended.
            if not self._pipe.poll():
                raise EOFError
            batch, message, remarks = _receive(self._pipe)
        except (EOFError, OSError) as error:
            raise self._died() from error
        for remark in remarks:
            warnings.warn(remark, DataWarning, stacklevel=2)
        if message:
            raise AdaptisError(message)
        return batch

    def close(self) -> None:
        self._pipe.close()
        self._process.terminate()
        self._process.join(timeout=5)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def _died(self) -> AdaptisError:
        self._process.join(timeout=5)
        status = self._process.exitcode
        why = ('was killed, perhaps because memory ran out.' if status == -signal.SIGKILL else
               f'ended with exit status {status}; it may have printed the reason.')
        return AdaptisError(f'A data worker {why} Continue with --resume, perhaps with --workers '
                            '0.')


@contextlib.contextmanager
def _without_interrupts() -> Iterator[None]:
    """Start processes inside the block that never receive Ctrl-C or SIGHUP.

    A terminal sends both to all processes, but only the parent handles them.  The signals are
    delayed until the block ends.
    """
    resource_tracker.ensure_running()  # starting it inside the block would unblock the signal
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGHUP))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(pipe: Connection, source: BatchSource) -> None:
    """Answer requests until the pipe ends, which also happens if the parent is killed."""
    cv2.setNumThreads(0)
    keep_freed_memory()
    while True:
        try:
            step = pipe.recv()
        except (EOFError, OSError):
            return
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter('always', DataWarning)
            answer = _answer(source, step)
        try:
            _send(pipe, (*answer, [str(w.message) for w in told
                                   if issubclass(w.category, DataWarning)]))
        except OSError:
            return


def _send(pipe: Connection, message: Any) -> None:
    """Send a message and the bytes of its arrays, which ``Connection.send`` would copy twice."""
    buffers: list[pickle.PickleBuffer] = []
    head = pickle.dumps(message, protocol=5, buffer_callback=buffers.append)
    views = [buffer.raw() for buffer in buffers]
    pipe.send((head, [len(view) for view in views]))
    for view in views:
        while len(view):
            view = view[os.write(pipe.fileno(), view):]


def _receive(pipe: Connection) -> Any:
    """Return what ``_send`` sent, with the arrays in their own memory.

    Raises EOFError or OSError if the other side ends.
    """
    head, lengths = pipe.recv()
    arrays = [np.empty(length, np.uint8) for length in lengths]
    for array in arrays:
        view = memoryview(array)
        while len(view):
            count = os.readv(pipe.fileno(), [view])
            if not count:
                raise EOFError
            view = view[count:]
    return pickle.loads(head, buffers=arrays)


def _answer(source: BatchSource, step: int) -> tuple[Optional[Batch], Optional[str]]:
    """Return the batch of a step, or the problem with it."""
    try:
        return source.batch(step), None
    except AdaptisError as error:
        return None, str(error)
    except Exception:  # the parent must learn of any error instead of waiting
        return None, f'A data worker failed: {traceback.format_exc()}'
