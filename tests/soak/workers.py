"""Compare what `adaptis evaluate` costs with several processes and on a Ray cluster.

    python -m tests.soak.workers COUNT [COUNT ...] [--rounds N] [--export DIR]

The images are drawn toy images of 64 pixels.  The ways take turns.  There is a line of JSON for
each run: seconds of the wall clock, of all processors, and those of the first process, and the
largest resident memory of the first process and of any other, in MiB.  Afterwards the medians of
the ways.  Linux alone.
"""
from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

WAYS = {'processes': ['--processes', '2'], 'ray': ['--ray', '--processes', '2']}
_TICKS = os.sysconf('SC_CLK_TCK')


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Measure, print, return 0."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('counts', type=int, nargs='+', metavar='COUNT')
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--export', type=Path, help='a folder of "adaptis export", which ONNX '
                                                    'Runtime runs')
    parser.add_argument('--ways', choices=WAYS, nargs='+', default=list(WAYS))
    args = parser.parse_args(arguments)
    network = []
    if args.export is not None:
        network = ['--export', str(args.export.resolve()), '--backend', 'onnxruntime']
    with tempfile.TemporaryDirectory() as folder:
        _adaptis(folder, 'toy', '--out', 'toy', '--split', 'test', '--count',
                 str(max(args.counts)), '--size', '64', '--objects', '3', '6')
        for count in args.counts:
            runs = []
            for _ in range(args.rounds):
                for way in args.ways:
                    run = {'way': way, 'images': count, **measure(folder, [
                        'evaluate', '--data', 'toy', '--limit', str(count), '--out', 'r.json',
                        *network, *WAYS[way]])}
                    print(json.dumps(run), flush=True)
                    runs.append(run)
            for way in args.ways:
                mine = [run for run in runs if run['way'] == way]
                print(way, count, {key: statistics.median(run[key] for run in mine)
                                   for key in mine[0] if key not in ('way', 'images')}, flush=True)
    return 0


def measure(folder: str, arguments: Sequence[str]) -> dict[str, float]:
    """Run ``adaptis`` and look five times a second at all processes that it starts."""
    mark = f'ADAPTIS_MARK={uuid.uuid4().hex}'
    name, _, value = mark.partition('=')
    start = time.monotonic()
    log = Path(folder, 'log')
    with log.open('w') as stream:
        process = subprocess.Popen([sys.executable, '-m', 'adaptis', *arguments], cwd=folder,
                                   env={**_environment(), name: value}, stdout=stream,
                                   stderr=stream)
    seconds: dict[int, float] = {}
    peaks: dict[int, float] = {}
    while process.poll() is None:
        for entry in Path('/proc').iterdir():
            if entry.name.isdecimal():
                with contextlib.suppress(OSError, IndexError):   # it has ended meanwhile
                    _look(entry, mark, seconds, peaks)
        time.sleep(0.2)
    if process.returncode:
        raise SystemExit(f'adaptis {" ".join(arguments)} failed: {log.read_text()[-2000:]}')
    driver = process.pid
    others = [peak for pid, peak in peaks.items() if pid != driver]
    return {'wall_s': round(time.monotonic() - start, 1), 'cpu_s': round(sum(seconds.values()), 1),
            'driver_cpu_s': round(seconds[driver], 1), 'driver_mib': round(peaks[driver]),
            'worker_mib': round(max(others, default=0))}


def _look(entry: Path, mark: str, seconds: dict[int, float], peaks: dict[int, float]) -> None:
    if mark.encode() in (entry / 'environ').read_bytes():
        fields = (entry / 'stat').read_text().rpartition(')')[2].split()
        seconds[int(entry.name)] = (int(fields[11]) + int(fields[12])) / _TICKS
        status = (entry / 'status').read_text()
        peaks[int(entry.name)] = int(status.partition('VmHWM:')[2].split()[0]) / 1024


def _adaptis(folder: str, *arguments: str) -> None:
    subprocess.run([sys.executable, '-m', 'adaptis', *arguments], cwd=folder, check=True,
                   env=_environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _environment() -> dict[str, str]:
    root = str(Path(__file__).resolve().parents[2])
    return {**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': os.pathsep.join(
        filter(None, [root, os.environ.get('PYTHONPATH')]))}


if __name__ == '__main__':
    sys.exit(main())
