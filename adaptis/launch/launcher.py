"""Start all processes of distributed training, and end them all if one of them dies.

MXNet has its own launcher (``mxnet/tools/launch.py``), but it fails on Python 3.9 and later, and if
one process dies, the others wait forever.
"""
from __future__ import annotations

import contextlib
import math
import os
import queue
import shutil
import signal
import socket
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Optional

from adaptis.errors import AdaptisError
from adaptis.launch.hosts import Place, share_servers
from adaptis.launch.member import Member, Output, Shell
from adaptis.progress import LIVE

GRACE = 10.0      # seconds for the others to end by themselves after the first error
FAREWELL = 60.0   # seconds for servers to end after the workers
ALIVE = 10.0      # seconds between signs of life
STOPPED = (129, 130, 143)   # exit statuses of training after SIGHUP, SIGINT and SIGTERM
_PASSED_ON = ('DMLC_INTERFACE', 'MXNET_', 'OMP_', 'PS_')   # prefixes of variables for all machines


@dataclass
class Cluster:
    """What to start, and where.

    Attributes
    ----------
    command : arguments of Python for each worker
    workers : the place of each worker
    servers : number of servers, which sum the gradients; None = one per machine
    shell : how to reach other machines
    address : address under which others reach this machine; None = detect it
    port : port of the scheduler on this machine; None = any free one
    node : arguments of Python for the scheduler and the servers
    """

    command: Sequence[str]
    workers: Sequence[Place]
    shell: Shell
    servers: Optional[int] = None
    address: Optional[str] = None
    port: Optional[int] = None
    node: Sequence[str] = ('-m', 'adaptis.launch.node')
    _members: list[Member] = field(default_factory=list)
    _ended: queue.Queue = field(default_factory=queue.Queue)
    _sign_of_life: float = 0.0

    def run(self) -> int:
        """Start all processes and wait until they end; return the exit status.

        Ctrl-C, SIGTERM and SIGHUP are sent to the workers, which then agree on a checkpoint; a
        second one kills all processes.

        Raises AdaptisError if a machine cannot be used, or if a process dies.
        """
        try:
            self._start()
            with _requests() as asked:
                return self._watch(asked)
        finally:
            for member in self._members:
                member.kill()
            for member in self._members:
                member.close()

    def _start(self) -> None:
        count = len(set(self.workers)) if self.servers is None else self.servers
        output = Output()
        places = {'server': share_servers(self.workers, count), 'worker': self.workers,
                  'scheduler': [Place('localhost', 1)]}
        for role, hosts in places.items():
            for index, place in enumerate(hosts):
                self._members.append(Member(role, index, place, self.shell, output, self._ended))
        connections = [member.greet() for member in self._members]
        address = self.address or self._find_address(connections)
        with _listen(address, self.port) as listener:
            port = listener.getsockname()[1]
            root = {'DMLC_PS_ROOT_URI': address, 'DMLC_PS_ROOT_PORT': str(port),
                    'DMLC_NUM_WORKER': str(len(self.workers)), 'DMLC_NUM_SERVER': str(count)}
            for member in self._members:
                member.prepare(self._order(member, root, (address, port)))
            for member in self._members:
                member.check()
        for member in reversed(self._members):   # the scheduler first
            member.start()

    def _find_address(self, connections: Sequence[Optional[str]]) -> str:
        """Return this machine's address as the first other one reaches it."""
        remote = [member.place.host for member in self._members if not member.is_here]
        if not remote:
            return '127.0.0.1'
        own = os.environ.get('SSH_CONNECTION')   # set if the user's ssh, or srun, passes it on
        seen = [found.split()[0] for found in connections if found and found != own]
        if seen and ':' not in seen[0]:   # MXNet supports only IPv4
            return seen[0]
        try:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
                probe.connect((remote[0].rpartition('@')[2], 9))   # sends nothing
                return probe.getsockname()[0]
        except OSError as error:
            raise AdaptisError(f'The address of this machine for {remote[0]} is unknown: give it '
                               'with --address.') from error

    def _order(self, member: Member, root: dict[str, str], target: tuple[str, int]) -> dict:
        command = self.command if member.role == 'worker' else self.node
        environment = {**root, 'DMLC_ROLE': member.role, 'PYTHONUNBUFFERED': '1',
                       'COLUMNS': str(shutil.get_terminal_size().columns),
                       **({LIVE: '1'} if sys.stderr.isatty() else {})}
        python = sys.executable if member.is_here else self.shell.python
        if not member.is_here:
            environment = {**{name: value for name, value in os.environ.items()
                              if name.startswith(_PASSED_ON)}, **environment}
        return {'folder': os.getcwd(), 'command': [python, *command], 'environment': environment,
                'root': target, 'connect': not member.is_here, 'workers': (
                    member.place.workers if member.role == 'worker' else 1)}

    def _watch(self, asked: list[int]) -> int:
        """Return the exit status when all workers have succeeded or were asked to end."""
        workers = [member for member in self._members if member.role == 'worker']
        working, deadline, forwarded = list(workers), math.inf, 0
        while working:
            forwarded = self._forward(asked, forwarded, working)
            self._keep_alive()
            member = self._next_end()
            if member in working and member.status in (0, *STOPPED):
                working.remove(member)
                if member.status:   # the others stop at the same step
                    deadline = time.monotonic() + FAREWELL
            elif member and member.status:
                return self._end_others(working, member)
            elif time.monotonic() > deadline:
                raise AdaptisError(f'{working[0].name} was killed, because it did not stop within '
                                   f'{FAREWELL:.0f} seconds after another process: continue with '
                                   '--resume.')
        self._part()
        return max(member.status for member in workers)

    @staticmethod
    def _forward(asked: Sequence[int], forwarded: int, working: Iterable[Member]) -> int:
        """Send a new stop request to the workers; KeyboardInterrupt if it is not the first."""
        if len(asked) > forwarded:
            if forwarded:
                raise KeyboardInterrupt
            for member in working:
                member.send_signal(asked[0])
        return len(asked)

    def _keep_alive(self) -> None:
        if time.monotonic() - self._sign_of_life > ALIVE:
            self._sign_of_life = time.monotonic()
            for member in self._members:
                member.keep_alive()

    def _next_end(self) -> Optional[Member]:
        with contextlib.suppress(queue.Empty):
            return self._ended.get(timeout=0.2)
        return None

    def _end_others(self, working: Iterable[Member], dead: Member) -> int:
        """Give the others a moment to fail in the same way; AdaptisError if they do not.

        If all workers failed by themselves, they have said why, and this returns their status.
        """
        deadline = time.monotonic() + GRACE
        others = [member for member in working if member is not dead]
        while time.monotonic() < deadline and any(m.status is None for m in others):
            time.sleep(0.1)
        killed = sum(member.status is None for member in others)
        if not killed and dead.role == 'worker' and dead.status < 128:
            return dead.status
        for member in others:
            member.kill()
        for member in (dead, *others):
            member.close()
        end = (f', and the other {killed} {"was" if killed == 1 else "were"} ended: continue with '
               '--resume' if killed else '')
        raise AdaptisError(f'{dead.name} {_describe(dead)}{end}.')

    def _part(self) -> None:
        """Wait for the servers and the scheduler, which end after the last worker."""
        deadline = time.monotonic() + FAREWELL
        while time.monotonic() < deadline and any(m.status is None for m in self._members):
            time.sleep(0.1)


def _describe(member: Member) -> str:
    if member.status == 255 and not member.is_here:
        return 'was lost (its machine or the connection to it failed)'
    if member.status - 128 in set(signal.Signals):
        name = signal.Signals(member.status - 128).name
        return f'was killed by {name}' + (' (perhaps because memory ran '
                                          'out)' if name == 'SIGKILL' else '')
    return f'ended with status {member.status} (its message is above)'


@contextlib.contextmanager
def _requests() -> Iterator[list[int]]:
    """Yield a list to which signals that request the end are added."""
    asked: list[int] = []
    before = {}
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:
            before[number] = signal.signal(number, lambda number, frame: asked.append(number))
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _listen(address: str, port: Optional[int]) -> Iterator[socket.socket]:
    """Hold the scheduler's port while the machines check whether they can reach it.

    Raises AdaptisError if the port is taken, or the address is not one of this machine.
    """
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((address, port or 0))   # 0 = any free one
            listener.listen(128)
        except (OSError, OverflowError) as error:
            reason = getattr(error, 'strerror', None) or 'it is above 65535'
            what = address if port is None else f'Port {port} of {address}'
            raise AdaptisError(f'{what} cannot be used: {reason}; give another --port or '
                               '--address, or leave both out.') from error
        yield listener
