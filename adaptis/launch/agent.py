"""Start one process of a training run on its machine, and end it on request.

The launcher starts this module by ssh, or directly on its own machine, and keeps the connection:

    agent -> launcher   a line of JSON: the version, and sshd's description of the connection
    launcher -> agent   a line of JSON: the folder, the command, its environment agent -> launcher
    a line of JSON: {} or a problem with these launcher -> agent   lines: "start", "alive", or the
    number of a signal for the process

After "start", the output of the process follows.  If the launcher ends, or sends nothing for
``SILENCE`` seconds, the process is killed.  This module needs only Python.
"""
from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any, Optional

from adaptis import __version__
from adaptis.machine import usable_cores

MARK = 'adaptis agent '
SILENCE = 60
TIMEOUT = 10   # seconds for a connection to the scheduler's machine


def main() -> int:
    """Obey the launcher; return the exit status of the process, 128 + n if signal n ended it."""
    _say({'version': __version__, 'connection': os.environ.get('SSH_CONNECTION')})
    lines = _lines()
    order = next(lines, None)
    if order is None:
        return 1
    order = json.loads(order)
    complaint = _complaint(order)
    _say({'complaint': complaint} if complaint else {})
    if complaint or next(lines, None) != 'start':
        return 1
    process = subprocess.Popen(order['command'], cwd=order['folder'], env=_environment(order),
                               stdin=subprocess.DEVNULL, start_new_session=True)
    threading.Thread(target=_obey, args=(lines, process), daemon=True).start()
    status = process.wait()
    return status if status >= 0 else 128 - status


def _say(message: dict[str, Any]) -> None:
    print(MARK + json.dumps(message), flush=True)


def _lines() -> Iterator[str]:
    """Yield the launcher's lines until it ends, or is silent for too long."""
    text = b''
    while True:
        ready, _, _ = select.select([0], [], [], SILENCE)
        more = os.read(0, 65536) if ready else b''
        if not more:
            return
        *whole, text = (text + more).split(b'\n')
        for line in whole:
            if line != b'alive':
                yield line.decode()


def _complaint(order: dict[str, Any]) -> Optional[str]:
    """Return what prevents the command from running here, as the rest of a sentence."""
    if not os.path.isdir(order['folder']):
        return f'has no folder {order["folder"]}: all machines need the same folders'
    if order['connect']:
        address, port = order['root']
        try:
            socket.create_connection((address, port), TIMEOUT).close()
        except OSError as error:
            return (f'cannot reach {address} port {port} ({error.strerror or error}): open the '
                    'firewall, or give another --address or --port')
    return None


def _environment(order: dict[str, Any]) -> dict[str, str]:
    environment = {**os.environ, **order['environment']}
    if not environment.get('DMLC_INTERFACE'):
        environment.setdefault('DMLC_NODE_HOST', _own_address(order['root'][0]))
    if order['workers'] > 1:
        environment.setdefault('OMP_NUM_THREADS', str(max(1, usable_cores() // order['workers'])))
    return environment


def _own_address(other: str) -> str:
    """Return the address by which another machine reaches this one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((other, 9))   # sends nothing
        return probe.getsockname()[0]


def _obey(lines: Iterator[str], process: subprocess.Popen) -> None:
    for line in lines:
        process.send_signal(int(line))
    os.killpg(process.pid, signal.SIGKILL)


if __name__ == '__main__':
    sys.exit(main())
