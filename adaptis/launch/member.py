"""One process of a training run, from the launcher's point of view."""
from __future__ import annotations

import contextlib
import json
import os
import queue
import re
import shlex
import subprocess
import sys
import threading
from collections import OrderedDict, deque
from collections.abc import Sequence
from typing import Any, BinaryIO, NamedTuple, Optional

from adaptis import __version__
from adaptis.errors import AdaptisError
from adaptis.launch.agent import MARK
from adaptis.launch.hosts import Place, is_here

TIMEOUT = 40.0   # seconds to wait for an answer from a machine
REMEMBERED = 1000   # lines
_LINE = re.compile(rb'(?<=\n)|(?<=\r)(?!\n)')   # progress bars end lines with a carriage return


class Shell(NamedTuple):
    """How to start a command on another machine: ``ssh`` and its options, and its Python."""

    ssh: Sequence[str]
    python: str


class Output:
    """Passes lines on, except those that another process has already written.

    Otherwise every worker would report the same mistake in a config.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._writers: OrderedDict[bytes, object] = OrderedDict()

    def write(self, writer: object, line: bytes, stream: Any) -> None:
        """Write a line of a process to a text stream."""
        with self._lock, contextlib.suppress(OSError, ValueError):   # the reader may be gone
            if line.strip() and self._writers.setdefault(line.strip(), writer) is not writer:
                return
            if len(self._writers) > REMEMBERED:
                self._writers.popitem(last=False)
            stream.write(line.decode('utf-8', 'backslashreplace'))
            stream.flush()


class Member:
    """A process on some machine, started through ``adaptis.launch.agent``.

    When it ends, ``ended`` receives it, and ``status`` is its exit status.
    """

    def __init__(self, role: str, index: int, place: Place, shell: Shell, output: Output,
                 ended: queue.Queue):
        self.role, self.index, self.place = role, index, place
        self.status: Optional[int] = None
        self.is_here = is_here(place.host)
        self._output, self._answers, self._ended = output, queue.Queue(), ended
        self._errors: Optional[deque] = deque(maxlen=5)   # lines from before the start
        self._shell = shell
        try:
            self._process = subprocess.Popen(
                self._command(), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=subprocess.PIPE, start_new_session=True)
        except OSError as error:
            raise AdaptisError(f'{self._command()[0]} cannot be started: '
                               f'{error.strerror}.') from error
        streams = ((self._process.stdout, sys.stdout), (self._process.stderr, sys.stderr))
        self._readers = [threading.Thread(target=self._pass_on, args=pair, daemon=True)
                         for pair in streams]
        for thread in (*self._readers, threading.Thread(target=self._wait, daemon=True)):
            thread.start()

    @property
    def name(self) -> str:
        """The name of the process for users."""
        label = self.role if self.role == 'scheduler' else f'{self.role} {self.index}'
        return f'{label} on {self.place.host}'

    def greet(self) -> Optional[str]:
        """Return the ``SSH_CONNECTION`` of its machine; AdaptisError if it is unusable."""
        found = self._answer()
        if found['version'] != __version__:
            raise AdaptisError(f'{self.place.host} has adaptis {found["version"]}, but this '
                               f'machine has {__version__}: install the same version on all '
                               'machines.')
        return found['connection']

    def prepare(self, order: dict[str, Any]) -> None:
        """Send the command to run, see ``adaptis.launch.agent``."""
        self._tell(json.dumps(order))

    def check(self) -> None:
        """Raise AdaptisError if its machine cannot run the command."""
        complaint = self._answer().get('complaint')
        if complaint:
            raise AdaptisError(f'{self.place.host} {complaint}.')

    def start(self) -> None:
        """Start the prepared command."""
        self._errors = None
        self._tell('start')

    def send_signal(self, number: int) -> None:
        """Send a signal to the process."""
        self._tell(str(number))

    def keep_alive(self) -> None:
        """Tell the machine that the launcher is still running."""
        self._tell('alive')

    def kill(self) -> None:
        """Kill the process."""
        with contextlib.suppress(OSError):
            self._process.stdin.close()   # the agent then kills its process

    def close(self, seconds: float = 5) -> None:
        """Kill the process, and wait until it has ended and its output was passed on."""
        self.kill()
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:   # the machine is gone
            self._process.kill()
            self._process.wait()
        for thread in self._readers:
            thread.join(1)

    def _command(self) -> list[str]:
        python = sys.executable if self.is_here else self._shell.python
        agent = [python, '-m', 'adaptis.launch.agent']
        if self.is_here:
            return agent
        path = os.environ.get('PYTHONPATH')
        words = [*(['env', f'PYTHONPATH={path}'] if path else []), *agent]
        return [*self._shell.ssh, self.place.host, *map(shlex.quote, words)]

    def _tell(self, line: str) -> None:
        with contextlib.suppress(OSError, ValueError):   # it has ended, as ``ended`` reports
            self._process.stdin.write(line.encode() + b'\n')
            self._process.stdin.flush()

    def _answer(self) -> dict[str, Any]:
        try:
            line = self._answers.get(timeout=TIMEOUT)
        except queue.Empty:
            raise AdaptisError(f'{self.place.host} did not answer within {TIMEOUT:.0f} '
                               'seconds.') from None
        if line is None:
            raise AdaptisError(self._why_no_agent())
        return json.loads(line)

    def _why_no_agent(self) -> str:
        status = self._process.wait()
        self._readers[1].join(1)
        last = b' '.join(self._errors or []).decode('utf-8', 'backslashreplace').rstrip('.')
        host, python = self.place.host, self._shell.python
        if 'No module named' in last:
            return (f'The Python {python} on {host} does not have adaptis: install the same '
                    'version there, or give another --python.')
        if status in (126, 127):
            return f'{host} has no Python at {python}: give its path there with --python.'
        if status == 255:
            return f'{host} cannot be reached by ssh: {last or "no reason given"}.'
        return f'No Python could be started on {host} (status {status}): {last}.'

    def _pass_on(self, stream: BinaryIO, to: Any) -> None:
        rest = b''
        while chunk := stream.read1(65536):
            *lines, rest = _LINE.split(rest + chunk)
            for line in lines:
                self._take(line, to)
        self._take(rest, to)
        if to is sys.stdout:
            self._answers.put(None)

    def _take(self, line: bytes, to: Any) -> None:
        if line.startswith(MARK.encode()):
            self._answers.put(line[len(MARK):])
        elif self._errors is not None:   # from ssh, or the machine's login message
            if to is sys.stderr and line.strip():
                self._errors.append(line.strip())
        elif line:
            self._output.write(self, line, to)

    def _wait(self) -> None:
        self.status = self._process.wait()
        self._ended.put(self)
