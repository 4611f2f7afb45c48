"""The page of each system refers from the paper to code that exists under that name."""
from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path
from typing import Optional

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = ('adaptis', *(f'panoptic_baselines/{system}' for system in (
    'panoptic_fpn', 'condinst', 'dense_detections', 'unified')))

CODE = re.compile(r'`([^`\n]+)`')
PLACE = re.compile(r'([\w./-]+\.py)(?::([\w.]+))?')
# "`levels`, `share_depth` of `network.py:CondInst`": what the definition must speak of.
PARTS = re.compile(r'((?:`\w+`, )*`\w+`) of `([\w./-]+\.py):([\w.]+)`')


@pytest.fixture(params=PAGES)
def readme(request: pytest.FixtureRequest) -> Path:
    return ROOT / request.param / 'README.md'


def test_every_name_is_there(readme):
    places = [PLACE.fullmatch(code) for code in CODE.findall(readme.read_text('utf-8'))]
    found = [(place[1], place[2]) for place in places if place]
    wrong = [f'{path}:{name}' for path, name in found if find(readme, path, name) is None]
    assert not wrong, f'{readme.relative_to(ROOT)} speaks of what is not there: {wrong}'
    assert sum(name is not None for _, name in found) > 15   # so that the pattern still fits


def test_arguments_are_there(readme):
    found = PARTS.findall(readme.read_text('utf-8'))
    assert found
    for parts, path, name in found:
        source = find(readme, path, name)
        for part in CODE.findall(parts):
            assert re.search(rf'\b{part}\b', source), f'{path}:{name} has no {part}'


def test_options_and_folders_are_there(readme):
    codes = CODE.findall(readme.read_text('utf-8'))
    folders = [code for code in codes if code.endswith('/') and code != '../']
    assert folders
    assert all((ROOT / folder).is_dir() for folder in folders)
    package = '\n'.join(path.read_text('utf-8') for path in readme.parent.glob('**/*.py'))
    for option in (code.partition('=')[0] for code in codes if re.fullmatch(r"\w+=[\w.']+", code)):
        assert re.search(rf'\b{option}: ', package), f'there is no option {option}'


def test_it_is_one_page(readme):
    text = readme.read_text('utf-8')
    assert len(text.splitlines()) < 70 and len(text.split()) < 800
    assert all(part in text for part in ('**The idea.**', '| paper | here |', '## Faithful',
                                         '## What differs'))


def find(readme: Path, path: str, name: Optional[str]) -> Optional[str]:
    """The source of a definition; of the whole file without a name; None if it is not there.

    Paths are relative to the page, those of tests to the repository.
    """
    file = (ROOT if path.startswith('tests/') else readme.parent) / path
    if not file.is_file():
        return None
    return definitions(file.resolve()).get(name)


@cache
def definitions(file: Path) -> dict[Optional[str], str]:
    """Sources of the functions, classes and methods of a file by name; None has all of it."""
    text = file.read_text('utf-8')
    found: dict[Optional[str], str] = {None: text}

    def collect(body: list[ast.stmt], prefix: str) -> None:
        for node in body:
            source = ast.get_source_segment(text, node) or ''
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                found[prefix + node.name] = source
            if isinstance(node, ast.ClassDef):
                collect(node.body, f'{prefix}{node.name}.')
    collect(ast.parse(text).body, '')
    return found
