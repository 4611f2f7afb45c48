"""One thread for each network.

Simultaneous calls of an MXNet network from two threads interfere, because its blocks store the
state of a call.  So all work with a network runs in its own thread, which also loads it.
"""
from __future__ import annotations

import asyncio
import threading
from collections import deque
from concurrent.futures import Future
from typing import Any, Callable

from adaptis.errors import AdaptisError

Work = Callable[[Any], Any]

_WAITING = 64    # quick jobs; a page asks for one mask at a time
_WAITING_LONG = 4


class BusyError(AdaptisError):
    """Too much work is already waiting."""


class NetworkWorker:
    """Runs jobs with a predictor, one at a time, in its own thread.

    Quick jobs (an image, a mask) run before long ones (a whole segmentation), and a long job lets
    them run whenever it calls :meth:`let_pass`.

    Parameters
    ----------
    load : returns the predictor; called in the thread, before the first job
    """

    def __init__(self, load: Callable[[], Any]):
        self._load = load
        self._predictor: Any = None
        self._quick: deque[tuple[Future, Work]] = deque()
        self._long: deque[tuple[Future, Work]] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name='network', daemon=True)
        self._thread.start()

    async def run(self, work: Work, long: bool = False) -> Any:
        """Return ``work(predictor)``.

        Raises what ``work`` raises, or BusyError if too many jobs are waiting.
        """
        return await asyncio.wrap_future(self.submit(work, long))

    def submit(self, work: Work, long: bool = False) -> Future:
        """Return the future of ``work(predictor)``; BusyError if too many jobs are waiting."""
        future: Future = Future()
        with self._changed:
            queue, most = (self._long, _WAITING_LONG) if long else (self._quick, _WAITING)
            if self._closed or len(queue) >= most:
                raise BusyError('The server is busy: try again in a moment.')
            queue.append((future, work))
            self._changed.notify()
        return future

    def let_pass(self) -> None:
        """Run the quick jobs that are waiting; call this from a long job."""
        while True:
            with self._changed:
                if not self._quick:
                    return
                job = self._quick.popleft()
            self._do(*job)

    def close(self) -> None:
        """End the thread after its current job, and drop the jobs that are waiting."""
        with self._changed:
            self._closed = True
            for queue in (self._quick, self._long):
                while queue:
                    queue.popleft()[0].cancel()
            self._changed.notify()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._quick or self._long or self._closed)
                if self._closed:
                    return
                job = (self._quick or self._long).popleft()
            self._do(*job)

    def _do(self, future: Future, work: Work) -> None:
        if not future.set_running_or_notify_cancel():
            return   # nobody waits for the result any more
        try:
            if self._predictor is None:
                self._predictor = self._load()
            future.set_result(work(self._predictor))
        except BaseException as error:
            future.set_exception(error)
