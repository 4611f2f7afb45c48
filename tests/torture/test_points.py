"""Commands that are killed before a file operation can be repeated without losing anything.

The default suite tries five operations of ``convert``; ``make test-all`` 20 of each other command.
"""
from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from adaptis.runtime import mx
from tests.golden import weights
from tests.torture.killing import ENVIRONMENT, ROOT
from tests.torture.test_killing import ADAPTIS, draw

# What begins to refuse when its work is done, as it would overwrite it.
REFUSES_WHEN_DONE = {'convert', 'predict'}


def try_points(folder: Path, count: int, *command: object) -> None:
    result = subprocess.run(
        [sys.executable, '-m', 'tests.torture.points', str(folder), str(count),
         *map(str, command)], cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-3000:]
    points = [json.loads(line) for line in result.stdout.splitlines()]
    for point in points:
        number, operations = point['point'][:2]
        done = number == operations - 1 and command[0] in REFUSES_WHEN_DONE
        assert point['same'] and not point['left'] and point['status'] == int(done), point
    assert len(points) == min(count, operations)


def test_convert(parity: Path, tmp_path: Path) -> None:
    entries = weights.entries(parity / 'toy_w8' / 'names.json')
    mx.nd.save(str(tmp_path / 'official.params'),
               {entry['name']: mx.nd.full(tuple(entry['shape']), 0.5) for entry in entries})
    try_points(tmp_path / 'out', 5, 'convert', tmp_path / 'official.params', '{out}/a.params')


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize('command', ['toy', 'predict', 'evaluate', 'export', 'train'])
def test_other_commands(tmp_path: Path, command: str) -> None:
    data = draw(tmp_path / 'data', 'v1')
    (tmp_path / 'a.yaml').write_text(ADAPTIS.format(data=data, steps=3))
    arguments = {
        'toy': ('--version', 'v2', '--out', '{out}', '--split', 'train', '--count', 2,
                '--workers', 1, '--coco'),
        'predict': (data / 'test', '--out', '{out}/found', '--ctx', 'cpu'),
        'evaluate': ('--data', data, '--limit', 2, '--save', '{out}/found', '--out',
                     '{out}/a.json', '--ctx', 'cpu'),
        'export': ('--out', '{out}/export'),
        'train': (tmp_path / 'a.yaml', '--output', '{out}/run', '--resume', '--workers', 0,
                  '--ctx', 'cpu', '--set', 'proposals.steps=2')}[command]
    try_points(tmp_path / 'out', 20, command, *arguments)
