"""Stop a run so that it can be resumed."""
from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
from typing import Any

from adaptis.engine.distributed import StageKVStore


class Stopped(Exception):
    """The user stopped the run; a checkpoint was written.  ``status`` is the exit status."""

    def __init__(self, status: int):
        super().__init__(f'stopped with status {status}')
        self.status = status


class StopRequest:
    """Handles Ctrl-C, SIGTERM and SIGHUP: the first stops after this step, the second at once.

    SIGHUP is sent when the terminal is closed.  If it is ignored, as under ``nohup``, it stays
    ignored.
    """

    def __init__(self) -> None:
        self.status = 0
        self._handlers: dict[int, Any] = {}
        self._terminals: list[int] = []

    def __enter__(self) -> StopRequest:
        self._terminals = _terminals()   # ask now, because a closed terminal cannot be recognised
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN:
                continue
            with contextlib.suppress(ValueError):  # not in the main thread: leave signals alone
                self._handlers[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *unused: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def after_hang_up(self, error: Exception) -> int:
        """Return the exit status of a closed terminal if it caused an error, else 0.

        A process that writes to the terminal while it is closed gets an error before its SIGHUP.
        """
        if not isinstance(error, OSError) or error.errno != errno.EIO or all(
                map(os.isatty, self._terminals)):
            return 0
        self._leave_terminal()
        self.status = self.status or 128 + signal.SIGHUP
        return self.status

    def _leave_terminal(self) -> None:
        for terminal in self._terminals:
            _write_nowhere(terminal)

    def _ask(self, number: int, frame: Any) -> None:
        if number == signal.SIGHUP:
            self._leave_terminal()
        if self.status:
            raise KeyboardInterrupt
        self.status = 128 + number


def _terminals() -> list[int]:
    """Return the descriptors of stdout and stderr that are terminals."""
    found = []
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):   # closed, or not a file
            if stream.isatty():
                found.append(stream.fileno())
    return found


def _write_nowhere(descriptor: int) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)


def agree(store: Any, status: int, save: bool) -> tuple[int, bool]:
    """Return the exit status, nonzero if any process should stop, and whether any must save.

    All processes stop at the same step, and all take part in a checkpoint.
    """
    if not isinstance(store, StageKVStore):
        return status, save
    stop, save = store.any_process(status != 0, save)
    return status or (130 if stop else 0), save
