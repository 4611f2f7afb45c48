"""Many browsers at one ``adaptis serve`` at the same time.

    python -m tests.soak.clients [CLIENTS] [ROUNDS]

Each client opens a picture of its own size, asks for three masks, for the proposals or for all
segments, and closes it, ROUNDS times.  Prints JSON: how many answers there were of each status, the
longest time to an answer in seconds, and the resident memory of the server in MiB after each round.
"""
from __future__ import annotations

import http.client
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

import cv2
import numpy as np

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 120.0   # seconds until a client calls it a hang


class Clients:
    """Their answers, counted by kind of request and status."""

    def __init__(self, port: int):
        self._port, self._lock = port, threading.Lock()
        self.answers: Counter[str] = Counter()
        self.slowest = 0.0

    def visit(self, number: int) -> None:
        """Do what one browser does, and try again while the server is too busy for the picture."""
        side = 40 + 3 * (number % 20)
        pixels = np.random.default_rng(number).integers(0, 256, (side, side + 7, 3), np.uint8)
        body = cv2.imencode('.png', pixels)[1].tobytes()
        opened, end = None, time.monotonic() + PATIENCE
        while opened is None:
            if time.monotonic() > end:
                return
            opened = self._ask('POST', '/api/images?model=toy_v1', 'open', body)
            if opened is None:
                time.sleep(0.3)
        image = f'/api/images/{json.loads(opened)["id"]}'
        for click in range(3):
            self._ask('GET', f'{image}/mask?x={click + 5}&y={number % side}', 'mask')
        if number % 10 == 0:
            self._ask('POST', f'{image}/segments', 'segments')
        elif number % 10 == 1:
            self._ask('GET', f'{image}/proposals', 'proposals')
        self._ask('DELETE', image, 'close')

    def _ask(self, method: str, path: str, kind: str, body: bytes = b'') -> Optional[bytes]:
        """Return the body of a good answer, else None."""
        began = time.monotonic()
        connection = http.client.HTTPConnection('127.0.0.1', self._port, timeout=PATIENCE)
        try:
            connection.request(method, path, body)
            answer = connection.getresponse()
            content, status = answer.read(), str(answer.status)
            if status == '200' and b'"error"' in content[-200:]:   # the last line of a stream
                status = '200, then refused'
        except OSError as error:
            content, status = b'', type(error).__name__
        finally:
            connection.close()
        with self._lock:
            self.answers[f'{kind} {status}'] += 1
            self.slowest = max(self.slowest, time.monotonic() - began)
        return content if status in ('200', '204') else None


def main(arguments: Sequence[str]) -> int:
    """Start a server, visit it, print what happened, stop it; return 0."""
    count, rounds = (int(given) for given in (*arguments, *('100', '5')[len(arguments):]))
    server = subprocess.Popen(
        [sys.executable, '-u', '-m', 'adaptis', 'serve', '--port', '0', '--ctx', 'cpu'], cwd=ROOT,
        stdout=subprocess.PIPE, text=True, env={**os.environ, 'OMP_NUM_THREADS': '1'})
    try:
        line = next(line for line in server.stdout if line.startswith('Open http'))
        clients = Clients(int(re.search(r':(\d+)/', line)[1]))
        memory = []
        for _ in range(rounds):
            threads = [threading.Thread(target=clients.visit, args=(n,)) for n in range(count)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            pages = int(Path(f'/proc/{server.pid}/statm').read_text().split()[1])
            memory.append(round(pages * os.sysconf('SC_PAGE_SIZE') / 2 ** 20, 1))
        print(json.dumps({'answers': dict(sorted(clients.answers.items())),
                          'slowest_s': round(clients.slowest, 1), 'mib': memory,
                          'alive': server.poll() is None}))
    finally:
        server.terminate()
        server.wait(30)
    return 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
