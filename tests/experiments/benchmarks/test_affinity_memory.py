from __future__ import annotations

import json

import pytest

from experiments.benchmarks import affinity_memory
from experiments.benchmarks.__main__ import main


def test_both_forms_give_the_same():
    assert affinity_memory.largest_difference() < 1e-5


def test_the_table_and_the_record(monkeypatch, same_process, capsys, tmp_path):
    monkeypatch.setattr(affinity_memory, 'MOST_BYTES', 2 ** 20)
    assert main(['affinity_memory', '--size', '32x40', '512x1024', '--channels', '3',
                 '--out', str(tmp_path / 'memory.json')]) == 0
    rows = [line.split()[:2] for line in capsys.readouterr().out.splitlines()[:-1]]
    assert [row for row in rows if row[0] == 'explicit'] == [['explicit', '32x40']] * 2
    record = json.loads((tmp_path / 'memory.json').read_text(encoding='utf-8'))
    assert len(rows) == len(record['results']) == 6 and record['channels'] == 3


@pytest.mark.parametrize('size', ['512', '0x5', 'ax5'])
def test_sizes_that_are_none(capsys, size):
    with pytest.raises(SystemExit):
        main(['affinity_memory', '--size', size])
    assert 'is not HEIGHTxWIDTH' in capsys.readouterr().err
