"""Run a command again and again, kill it at random moments, and let it end at last."""
from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Callable

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {**os.environ, 'OMP_NUM_THREADS': '1', 'MXNET_CPU_WORKER_NTHREADS': '1',
               'PYTHONPATH': str(ROOT)}


def adaptis(*arguments: object, **options: object) -> subprocess.Popen:
    """Start a command of its own session, so that all of its processes can be killed."""
    return subprocess.Popen([sys.executable, '-m', 'adaptis', *map(str, arguments)],
                            env=ENVIRONMENT, start_new_session=True, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True, **options)


def kill_often(start: Callable[[], subprocess.Popen], kills: int, seed: int,
               progress: Callable[[], object], window: float = 0.4) -> int:
    """Kill what ``start`` starts ``kills`` times, then let it end; return the kills.

    Four times out of five it is killed up to ``window`` seconds after ``progress()`` has changed,
    while it works, and else within the first three seconds, while it starts.  A process that ends
    by itself before that is counted as the end.
    """
    rng = random.Random(seed)
    for kill in range(kills):
        process, before, deadline = start(), progress(), time.monotonic() + 120
        early = rng.random() < 0.2
        while not early and process.poll() is None and progress() == before:
            assert time.monotonic() < deadline, 'no progress within two minutes'
            time.sleep(0.01)
        time.sleep(rng.random() * (3.0 if early else window))
        if process.poll() is not None:
            assert process.returncode == 0, process.communicate()[0][-3000:]
            return kill
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    finish(start())
    return kills


def finish(process: subprocess.Popen) -> str:
    """Return what a process printed; AssertionError if it failed."""
    output = process.communicate(timeout=600)[0]
    assert process.returncode == 0, output[-3000:]
    return output


def listing(folder: Path) -> dict[str, bytes]:
    """Return all files of a folder by relative name."""
    return {str(path.relative_to(folder)): path.read_bytes()
            for path in sorted(folder.rglob('*')) if path.is_file()}


def leftovers(folder: Path, besides: Sequence[str] = ()) -> list[str]:
    """Return hidden files and folders, which are temporary ones."""
    return [str(path.relative_to(folder)) for path in folder.rglob('.*')
            if path.name not in besides]
