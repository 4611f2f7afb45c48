"""Run one function on many images in several processes, in order."""
from __future__ import annotations

import collections
import contextlib
import os
import signal
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Callable, TypeVar

from adaptis.errors import AdaptisError
from adaptis.memory_reuse import keep_freed_memory
from adaptis.toy_data import spawn_context

Item = TypeVar('Item')
Result = TypeVar('Result')

# Small convolutions gain little from threads.  Several processes with one thread each are faster,
# and their results equal those of a single process.
ONE_THREAD = {'OMP_NUM_THREADS': '1', 'MXNET_CPU_WORKER_NTHREADS': '1'}


def parallel_map(function: Callable[[Item], Result], items: Iterable[Item],
                 processes: int) -> Iterator[Result]:
    """Yield ``map(function, items)`` from ``processes`` single-threaded processes, in order.

    Only a few items are processed at a time, so results do not pile up.  With one process,
    everything runs in this process.

    Parameters
    ----------
    function : importable by name (it is pickled); loads what it needs on its first call

    Raises
    ------
    AdaptisError
        If a process is killed (for example because memory ran out).  Exceptions of ``function``
        are raised here.
    """
    if processes <= 1:
        yield from map(function, items)
        return
    context = spawn_context()  # MXNet does not survive a fork
    with _environment(ONE_THREAD), ProcessPoolExecutor(processes, context, _begin) as pool:
        pending = collections.deque()
        try:
            for item in items:
                pending.append(pool.submit(function, item))
                if len(pending) > 3 * processes:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        except BrokenProcessPool as error:
            raise AdaptisError('A worker process was killed, perhaps because there is too little '
                               f'memory for {processes} of them: use fewer --processes.') from error
        finally:
            for future in pending:
                future.cancel()


def _begin() -> None:
    """Leave Ctrl-C to the parent, because otherwise each process would print a traceback."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    keep_freed_memory()


@contextlib.contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Set environment variables that new processes inherit; restore them afterwards."""
    before = {key: os.environ.get(key) for key in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                os.environ.pop(key, None)
            else:
                os.environ[key] = value
