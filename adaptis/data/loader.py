"""Batches computed ahead in worker processes that cannot deadlock.

Why not ``gluon.data.DataLoader``: it forks (which hangs once MXNet runs threads), passes arrays
through /dev/shm (small in containers), shares queues whose locks a killed worker keeps, and knows
neither seeds nor positions.  Here every worker is spawned, imports no MXNet, and owns one pipe: it
is asked for a step by a few bytes and answers with the arrays.  At most ``PREFETCH`` requests are
open per worker, so no side ever blocks on writing to one that does not read; there is no lock, no
shared memory and no feeder thread.
"""
from __future__ import annotations

import contextlib
import multiprocessing
import signal
import time
import traceback
import warnings
from collections.abc import Iterator
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Optional

from adaptis.data.batches import Batch, BatchSource
from adaptis.errors import AdaptisError, DataWarning

PREFETCH = 2
PATIENCE = 300.0


class Loader:
    """Batches of a ``BatchSource`` in order; a context manager that ends its workers.

    Parameters
    ----------
    source : what computes a batch; pickled to the workers
    workers : number of processes; 0 computes batches in this one
    patience : seconds to wait for one batch before giving up
    """

    def __init__(self, source: BatchSource, workers: int, patience: float = PATIENCE):
        self.source = source
        self.waited = 0.0
        self._patience = patience
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
        """Yield (step, batch) for start <= step < stop; to be called once.

        ``waited`` sums up the seconds in which the caller waited for data.

        Raises AdaptisError if data are broken, or a worker died or does not answer.
        """
        workers = self._workers
        ahead = PREFETCH * len(workers)
        for step in range(start, min(start + ahead, stop)):
            workers[(step - start) % len(workers)].request(step)
        for step in range(start, stop):
            began = time.perf_counter()
            if workers:
                worker = workers[(step - start) % len(workers)]
                batch = worker.answer(self._patience)
                if step + ahead < stop:
                    worker.request(step + ahead)
            else:
                batch = self.source.batch(step)
            self.waited += time.perf_counter() - began
            yield step, batch


class _Worker:
    def __init__(self, source: BatchSource):
        context = multiprocessing.get_context('spawn')
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, source), daemon=True)
        with _without_interrupts():
            self._process.start()
        theirs.close()  # so that the death of the worker is the end of the pipe

    @property
    def pid(self) -> int:
        return self._process.pid

    def request(self, step: int) -> None:
        try:
            self._pipe.send(step)
        except OSError as error:
            raise self._died() from error

    def answer(self, patience: float) -> Batch:
        if not wait([self._pipe, self._process.sentinel], patience):
            raise AdaptisError(f'A data worker gave no batch for {patience:.0f} seconds: '
                               'is the disk gone? Try --workers 0.')
        try:
            # The pipe comes first: a worker may have answered before it ended.
            if not self._pipe.poll():
                raise EOFError
            batch, complaint, remarks = self._pipe.recv()
        except (EOFError, OSError) as error:
            raise self._died() from error
        for remark in remarks:
            warnings.warn(remark, DataWarning, stacklevel=2)
        if complaint:
            raise AdaptisError(complaint)
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
        return AdaptisError(f'A data worker died (exit status {self._process.exitcode}): is memory '
                            'short? Resume with --resume, perhaps with --workers 0.')


@contextlib.contextmanager
def _without_interrupts() -> Iterator[None]:
    """Processes started inside never get Ctrl-C, which a terminal sends to them too.

    Here it waits until the block ends: it is the parent's to handle.
    """
    resource_tracker.ensure_running()  # else it is started below, and lets the signal through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT,))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(pipe: Connection, source: BatchSource) -> None:
    """What a worker does until its pipe ends, be it because its parent was killed."""
    import cv2
    cv2.setNumThreads(0)
    while True:
        try:
            step = pipe.recv()
        except (EOFError, OSError):
            return
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter('always', DataWarning)
            answer = _answer(source, step)
        try:
            pipe.send((*answer, [str(w.message) for w in told
                                 if issubclass(w.category, DataWarning)]))
        except OSError:
            return


def _answer(source: BatchSource, step: int) -> tuple[Optional[Batch], Optional[str]]:
    """The batch, or what is wrong."""
    try:
        return source.batch(step), None
    except AdaptisError as error:
        return None, str(error)
    except Exception:  # whatever it is, the parent must hear of it rather than wait
        return None, f'A data worker failed: {traceback.format_exc()}'
