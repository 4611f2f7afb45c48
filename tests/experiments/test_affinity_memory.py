from __future__ import annotations

import concurrent.futures

import pytest

from experiments import affinity_memory


class Here:
    """Instead of a process of its own."""

    def __init__(self, *_):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def submit(self, function, *arguments):
        future = concurrent.futures.Future()
        future.set_result(function(*arguments))
        return future


def test_both_forms_give_the_same():
    assert affinity_memory.largest_difference() < 1e-5


def test_the_table(monkeypatch, capsys):
    monkeypatch.setattr(concurrent.futures, 'ProcessPoolExecutor', Here)
    monkeypatch.setattr('sys.argv', ['affinity_memory', '--size', '32x40', '512x1024',
                                     '--channels', '3'])
    monkeypatch.setattr(affinity_memory, 'MOST_BYTES', 2 ** 20)
    assert affinity_memory.main() == 0
    rows = [line.split()[:2] for line in capsys.readouterr().out.splitlines()[:-1]]
    assert [row for row in rows if row[0] == 'explicit'] == [['explicit', '32x40']] * 2
    assert len(rows) == 6


@pytest.mark.parametrize('size', ['512', '0x5', 'ax5'])
def test_sizes_that_are_none(monkeypatch, capsys, size):
    monkeypatch.setattr('sys.argv', ['affinity_memory', '--size', size])
    with pytest.raises(SystemExit):
        affinity_memory.main()
    assert 'is no HEIGHTxWIDTH' in capsys.readouterr().err
