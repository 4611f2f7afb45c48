"""Run a command repeatedly, kill it at random moments, and finally let it finish."""
from __future__ import annotations

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Callable, Optional, Union

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {**os.environ, 'OMP_NUM_THREADS': '1', 'MXNET_CPU_WORKER_NTHREADS': '1',
               'PYTHONPATH': str(ROOT)}


def adaptis(*arguments: object, **options: object) -> subprocess.Popen:
    """Start a command of its own session, so that all of its processes can be killed."""
    return subprocess.Popen([sys.executable, '-m', 'adaptis', *map(str, arguments)],
                            env=ENVIRONMENT, start_new_session=True, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True, **options)


class Warm:
    """A command in a process that is forked from one which has loaded MXNet; like a Popen.

    It starts in a tenth of the time of a new Python, and can be killed with its children, too.
    """

    def __init__(self, *arguments: object):
        self._output = Path(tempfile.mkstemp(suffix='.txt')[1])
        context = multiprocessing.get_context('forkserver')
        context.set_forkserver_preload(['adaptis.model', 'adaptis.commands.train'])
        self._process = context.Process(target=_run, args=(list(map(str, arguments)), self._output))
        self._process.start()
        self.pid = self._process.pid

    @property
    def returncode(self) -> Optional[int]:
        return self._process.exitcode

    def poll(self) -> Optional[int]:
        return self._process.exitcode

    def communicate(self, timeout: Optional[float] = None) -> tuple[str, None]:
        self._process.join(timeout)
        assert self.returncode is not None, 'it does not end'
        output = self._output.read_text()
        self._output.unlink()
        return output, None


def _run(arguments: list[str], output: Path) -> None:
    os.setsid()
    with open(output, 'w') as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
    from adaptis.cli import main
    sys.exit(main(arguments))


def kill_often(start: Callable[[], Union[subprocess.Popen, Warm]], kills: int, seed: int,
               progress: Callable[[], object]) -> int:
    """Kill what ``start`` starts ``kills`` times, then let it end; return the kills.

    Four times out of five it is killed while it works: when ``progress()`` has changed one to four
    times, and before it should change again.  Else it is killed while it starts.  A process that
    ends by itself before that is counted as the end.
    """
    rng = random.Random(seed)
    for kill in range(kills):
        process = start()
        changes = 0 if rng.random() < 0.2 else rng.randint(1, 4)
        pause = 1.0
        for _ in range(changes):
            pause = _wait_for_change(process, progress)
        time.sleep(rng.random() * min(pause, 5.0))
        if process.poll() is not None:
            assert process.returncode == 0, process.communicate()[0][-3000:]
            return kill
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:   # it has no group of its own yet
            os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    finish(start())
    return kills


def _wait_for_change(process: Union[subprocess.Popen, Warm],
                     progress: Callable[[], object]) -> float:
    """Return how many seconds it took until ``progress()`` changed or the process ended."""
    began, before = time.monotonic(), progress()
    while process.poll() is None and progress() == before:
        assert time.monotonic() < began + 240, 'no progress within four minutes'
        time.sleep(0.01)
    return time.monotonic() - began


def finish(process: Union[subprocess.Popen, Warm]) -> str:
    """Return what a process printed; AssertionError if it failed."""
    output = process.communicate(timeout=3000)[0]
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
