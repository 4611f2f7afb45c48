"""Every damaged input ends in a result or in one sentence: no traceback, hang or changed file.

The default suite opens 20 inputs of each format, ``make test-all`` 700.  To look at one again:

    python -m tests.fuzz.worker FOLDER SEED INDEX+1 FORMAT:INDEX   # stays in FOLDER/FORMAT/work
"""
from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.fuzz.formats import FORMATS

ROOT = Path(__file__).resolve().parents[2]
SEED = 1
FEW, MANY = 20, 700


Ends = dict[tuple[str, int], tuple[str, str]]


def run(names: Sequence[str], folder: Path, count: int) -> Ends:
    """Open ``count`` inputs of each format; if the process dies, another one goes on."""
    ends: Ends = {}
    while len(ends) < count * len(names):
        tasks = [f'{name}:{sum(other == name for other, _ in ends)}' for name in names]
        process = subprocess.run(
            [sys.executable, '-m', 'tests.fuzz.worker', str(folder), str(SEED), str(count), *tasks],
            cwd=ROOT, capture_output=True, text=True, timeout=250 + 2 * count,
            env={**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': str(ROOT)})
        lines = [json.loads(line) for line in process.stdout.splitlines()]
        ends.update({tuple(line['end']): (line['how'], line['what'])
                     for line in lines if 'end' in line})
        begun = [tuple(line['start']) for line in lines if 'start' in line]
        if len(ends) < count * len(names):
            assert begun, f'no input was opened: {process.stderr[-3000:]}'
            ends[begun[-1]] = 'failed', (f'the process ended with {process.returncode}: '
                                         f'{process.stderr[-2000:]}')
    return ends


def check(names: Sequence[str], folder: Path, count: int) -> None:
    ends = run(names, folder, count)
    for name in names:
        print(name, dict(Counter(how for (other, _), (how, _) in ends.items() if other == name)))
    failures = {where: what for where, (how, what) in ends.items() if how == 'failed'}
    shown = '\n\n'.join(f'--- {name}:{index} ---\n{what}'
                        for (name, index), what in list(failures.items())[:8])
    assert not failures, f'{len(failures)} of {len(ends)} inputs, seed {SEED}:\n{shown}'


@pytest.mark.timeout(280)
def test_a_few_damaged_inputs(tmp_path: Path) -> None:
    check(list(FORMATS), tmp_path, FEW)


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize('name', FORMATS)
def test_many_damaged_inputs(name: str, tmp_path: Path) -> None:
    check([name], tmp_path, MANY)
