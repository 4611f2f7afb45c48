"""Temporary files of processes that were killed are removed; those of others are left alone."""
from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from adaptis import temporary
from adaptis.files import atomic_folder, atomic_write


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process that has written nothing yet."""
    monkeypatch.setattr(temporary, '_swept', set())


def killed_while_writing(folder: Path) -> list[Path]:
    """What a process leaves that is killed within a file and within a folder."""
    code = textwrap.dedent('''
        import os, signal, sys
        from adaptis.files import atomic_folder, atomic_write
        with atomic_write(f'{sys.argv[1]}/a.txt') as file, \\
                atomic_folder(f'{sys.argv[1]}/b', lambda path: True) as folder:
            file.write_text('half')
            (folder / 'c').write_text('half')
            os.kill(os.getpid(), signal.SIGKILL)
    ''')
    status = subprocess.run([sys.executable, '-c', code, str(folder)]).returncode
    assert status == -signal.SIGKILL
    return sorted(folder.iterdir())


def test_the_next_process_removes_what_a_killed_one_left(tmp_path: Path) -> None:
    left = killed_while_writing(tmp_path)
    assert len(left) == 2 and all(path.name.startswith('.writing-') for path in left)
    with atomic_write(tmp_path / 'd.txt') as path:
        path.write_text('whole')
    assert [path.name for path in tmp_path.iterdir()] == ['d.txt']


def test_files_of_processes_that_run_or_of_other_machines_stay(tmp_path: Path) -> None:
    names = [f'.writing-{temporary._host()}-{os.getppid()}-x', f'.writing-{"0" * 8}-999999999-x',
             f'.writing-{temporary._host()}-999999999', '.writing', f'.writing-{"9" * 30}-1-x',
             f'.writing-{temporary._host()}-{"9" * 30}-x']
    for name in names:
        (tmp_path / name).write_text('')
    temporary.sweep(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)


def test_long_names_of_files(tmp_path: Path) -> None:
    """The longest name that a file can have leaves no room to add anything to it."""
    target = tmp_path / ('x' * 251 + '.txt')
    with atomic_write(target) as path:
        path.write_text('whole')
    assert target.read_text() == 'whole'


def test_a_folder_that_is_replaced(tmp_path: Path) -> None:
    for text in ('first', 'second'):
        with atomic_folder(tmp_path / 'a', lambda path: True) as folder:
            (folder / 'b').write_text(text)
    assert (tmp_path / 'a' / 'b').read_text() == 'second'
    assert [path.name for path in tmp_path.iterdir()] == ['a']


def test_a_folder_that_was_to_be_replaced_comes_back(tmp_path: Path) -> None:
    """The process is killed between moving the old folder away and moving the new one in."""
    (tmp_path / 'a').mkdir()
    (tmp_path / 'a' / 'b').write_text('old')
    code = textwrap.dedent('''
        import os, signal, sys
        from adaptis.files import atomic_folder
        with atomic_folder(f'{sys.argv[1]}/a', lambda path: True):
            sys.addaudithook(lambda event, arguments: event == 'os.rename'
                             and str(arguments[1]) == f'{sys.argv[1]}/a'
                             and os.kill(os.getpid(), signal.SIGKILL))
    ''')
    status = subprocess.run([sys.executable, '-c', code, str(tmp_path)]).returncode
    assert status == -signal.SIGKILL and not (tmp_path / 'a').exists()
    temporary.sweep(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ['a']
    assert (tmp_path / 'a' / 'b').read_text() == 'old'
