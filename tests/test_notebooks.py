"""The notebooks of the documentation run, and what is committed is what they print."""
from __future__ import annotations

import importlib
import re
from typing import Any

import pytest

for package in ('nbformat', 'nbclient', 'ipykernel', 'matplotlib'):
    pytest.importorskip(package, reason=f'Notebooks need {package}: pip install -e ".[docs]".')

notebooks = importlib.import_module('docs.generate.notebooks')   # after what it needs

NAMES = ('adain', 'click_robustness', 'five_systems', 'toy_v1', 'toy_v2')
MEGABYTES = 2.5
NUMBER = re.compile(r'\d[\d,]*\.?\d*')


def tables(notebook: Any) -> list[str]:
    """The tables that a notebook shows."""
    return [output.data['text/markdown'] for cell in notebook.cells
            for output in cell.get('outputs', ()) if 'text/markdown' in output.get('data', {})]


def numbers(text: str) -> list[float]:
    return [float(number.replace(',', '').rstrip('.')) for number in NUMBER.findall(text)]


def test_all_are_tested_and_small():
    assert notebooks.names() == sorted(NAMES)
    sizes = [path.stat().st_size for path in notebooks.FOLDER.iterdir()]
    assert sum(sizes) < MEGABYTES * 1e6


@pytest.mark.parametrize('name', NAMES)
def test_committed_outputs_are_compact(name):
    notebook = notebooks.read(name)
    code = [cell for cell in notebook.cells if cell.cell_type == 'code']
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    before = [cell.source for cell in notebook.cells], dict(notebook.metadata)
    assert all(cell.metadata == {} for cell in notebook.cells)
    notebooks.compact(notebook)
    assert ([cell.source for cell in notebook.cells], dict(notebook.metadata)) == before
    assert {kind for cell in code for output in cell.outputs
            for kind in output.get('data', ())} <= {'image/png', 'text/markdown', 'text/plain'}


@pytest.mark.parametrize('name', NAMES)
def test_runs_and_prints_what_is_committed(name):
    """Tables of records are equal; what the network computes may differ a little by processor."""
    now, committed = tables(notebooks.execute(name)), tables(notebooks.read(name))
    remedy = 'run "make notebooks"'
    assert [NUMBER.sub('', text) for text in now] == [NUMBER.sub('', t) for t in committed], remedy
    for fresh, old in zip(now, committed):
        assert numbers(fresh) == pytest.approx(numbers(old), abs=0.5), remedy


@pytest.mark.parametrize('name', NAMES)
def test_is_a_page_with_its_pictures(name):
    pytest.importorskip('nbconvert', reason='The site needs nbconvert: pip install -e ".[docs]".')
    text, pictures = notebooks.page(name)
    assert '\n# ' in text and '```python' in text and f'({name}.ipynb)' in text
    shown = re.findall(r'!\[[^]]+, a picture of the notebook\]\(([^)]+)\)', text)
    assert shown and sorted(shown) == sorted(pictures)


def test_unknown_name_is_one_sentence(capsys):
    assert notebooks.main(['none']) == 1
    error = capsys.readouterr().err
    assert error.startswith('notebooks: There is no notebook none; there are adain, ')
    assert error.count('\n') == 1
