"""Stop a run so that it can be resumed."""
from __future__ import annotations

import contextlib
import signal
from typing import Any

from adaptis.engine.distributed import StageKVStore


class Stopped(Exception):
    """The user stopped the run; a checkpoint was written.  ``status`` is the exit status."""

    def __init__(self, status: int):
        super().__init__(f'stopped with status {status}')
        self.status = status


class StopRequest:
    """Handles Ctrl-C and SIGTERM: once, stop after the current step; twice, stop at once."""

    def __init__(self) -> None:
        self.status = 0
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        for number in (signal.SIGINT, signal.SIGTERM):
            with contextlib.suppress(ValueError):  # not in the main thread: leave signals alone
                self._handlers[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *unused: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: Any) -> None:
        if self.status:
            raise KeyboardInterrupt
        self.status = 128 + number


def agree_on_stop(store: Any, status: int) -> int:
    """Return the exit status, nonzero if any process should stop; all stop at the same step."""
    if not isinstance(store, StageKVStore):
        return status
    votes = store.sum_over_processes(status)
    return status or (130 if votes else 0)
