"""A newcomer who follows a tutorial from top to bottom sees what the page shows.

Each block of commands (``sh``) and of Python runs, in the order of the page, in one empty folder.
A ``text`` block right below shows what it prints: the words have to agree, and the numbers nearly.
A block below ``<!-- not run: REASON -->`` is skipped.
"""
from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, NamedTuple, Optional

import pytest

from adaptis.cli import main

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / 'docs'
BLOCK = re.compile(r'(?P<skip><!-- not run: [^>]+ -->\n)?'
                   r'```(?P<language>sh|python)\n(?P<code>.*?)\n```\n'
                   r'(?:\n```text\n(?P<shown>.*?)\n```\n)?', re.DOTALL)
NUMBER = re.compile(r'-?\d[\d,]*(?:\.\d+)?')


class Block(NamedTuple):
    """A block of code of a page, and what it shows below it."""

    language: str
    code: str
    shown: Optional[str]


def read(name: str) -> list[Block]:
    """The blocks of a tutorial that run."""
    text = (DOCS / f'{name}.md').read_text('utf-8')
    return [Block(found['language'], found['code'], found['shown'])
            for found in BLOCK.finditer(text) if not found['skip']]


def follow(name: str, run: Callable[[str], None]) -> None:
    """Run the blocks of a tutorial in the current folder, each line of commands by ``run``."""
    names: dict[str, Any] = {}
    blocks = read(name)
    assert blocks
    for block in blocks:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            if block.language == 'python':
                exec(compile(block.code, f'{name}.md', 'exec'), names)
            else:
                for line in block.code.replace('\\\n', '').splitlines():
                    run(line)
        if block.shown is not None:
            compare(printed.getvalue(), block.shown)


def run_here(line: str) -> None:
    """Run a command of adaptis in this process, which need not load MXNet again."""
    words = shlex.split(line, comments=True)
    if words:
        assert words[0] == 'adaptis' and main(words[1:]) == 0, line


def run_as_process(line: str) -> None:
    """Run a command as a shell does."""
    env = {**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'}
    adaptis = f'adaptis() {{ {shlex.quote(sys.executable)} -m adaptis "$@"; }}'
    subprocess.run(['bash', '-ec', f'{adaptis}\n{line}'], env=env, check=True)


def compare(printed: str, shown: str) -> None:
    """Check that each line of ``shown`` was printed, with numbers that are nearly the same."""
    lines = [' '.join(line.split()) for line in printed.splitlines()]
    for line in (' '.join(line.split()) for line in shown.splitlines()):
        assert any(alike(line, other) for other in lines), f'"{line}" is not in\n{printed}'


def alike(first: str, second: str) -> bool:
    """Whether two lines differ in nothing but numbers, and in those hardly."""
    if NUMBER.sub('0', first) != NUMBER.sub('0', second):
        return False
    return all(close(a, b) for a, b in zip(NUMBER.findall(first), NUMBER.findall(second)))


def close(first: str, second: str) -> bool:
    """Other processors add numbers in another order, which moves a pixel or an object."""
    a, b = (float(text.replace(',', '')) for text in (first, second))
    return abs(a - b) <= (0.03 if '.' in first else 1) + 0.02 * abs(a)


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_click() -> None:
    follow('tutorials/click', run_here)
    written = 'clicks.png', 'mask.png', 'mask.json', 'results/click/clicks/00000_rgb_1_mask.png'
    assert all(Path(path).is_file() for path in written)


def test_panoptic() -> None:
    follow('tutorials/panoptic', run_here)
    assert Path('compared.png').is_file()


@pytest.mark.slow
@pytest.mark.timeout(3600)   # minutes on two free cores
@pytest.mark.parametrize('page, written', [
    ('tutorials/train_toy', 'runs/toy_v1_short_cpu/final.params'),
    ('tutorials/several_machines', 'runs/two/final.params'),
    ('own_data', 'runs/shapes/final.params')])
def test_trainings(page: str, written: str) -> None:
    follow(page, run_as_process)
    assert Path(written).is_file()


def test_what_the_comparison_notices() -> None:
    compare('a  PQ 79.93\nb 12', 'a PQ 80.50')
    for shown in ('a PQ 70.10', 'a RQ 79.93', 'b 14'):
        with pytest.raises(AssertionError):
            compare('a PQ 79.93\nb 12', shown)
