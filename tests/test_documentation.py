"""The README and the generated pages are short, correct and up to date."""
from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from adaptis import __version__, cli
from adaptis.config import DataConfig, OptimizerConfig, StageConfig, TrainConfig, ValidationConfig
from adaptis.errors import AdaptisError
from adaptis.weights import FETCHED, PRETRAINED
from docs.generate import docstrings, model_zoo, reference
from experiments import result_pages

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / 'README.md').read_text('utf-8')
LINK = re.compile(r'\]\(([^)#\s]+)(?:#[^)]*)?\)')
COMMAND = re.compile(r'^(?: {4,})?(?:\S*/)?adaptis ([a-z-]+)(.*)$', re.MULTILINE)


def code(language: str, heading: str) -> str:
    """The first block of code of a language below a heading of the README."""
    section = README.partition(f'\n## {heading}\n')[2].partition('\n## ')[0]
    return re.search(rf'```{language}\n(.*?)```', section, re.DOTALL)[1]


def test_readme_is_short():
    assert len(README.splitlines()) <= 200


PAGES = [*ROOT.glob('*.md'), *(path for folder in ('docs', 'adaptis', 'panoptic_baselines', 'tests')
                               for path in (ROOT / folder).rglob('*.md'))]


@pytest.mark.parametrize('page', PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files(page):
    targets = [target for target in LINK.findall(page.read_text('utf-8')) if '://' not in target]
    found = [(page.parent / target).resolve() for target in targets]
    assert [str(path) for path in found if not path.exists()] == []
    if page.is_relative_to(ROOT / 'docs'):   # the site has no other files
        assert [path for path in found if not path.is_relative_to(ROOT / 'docs')] == []


@pytest.mark.parametrize('page', PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_have_these_options(page):
    text = page.read_text('utf-8').replace('\\\n', ' ')
    for name, words in COMMAND.findall(text):
        assert name in cli.COMMANDS
        # AdaptisError: the file that an example names is not here.
        with contextlib.suppress(AdaptisError):
            cli.command_parser(name).parse_args(shlex.split(words, comments=True))


def test_quick_start_runs(tmp_path):
    env = {**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'}
    commands = code('sh', 'Quick start').replace(
        'adaptis ', f'{sys.executable} -m adaptis ')
    subprocess.run(['bash', '-ec', commands], cwd=tmp_path, env=env, check=True, timeout=200)
    assert len(list((tmp_path / 'results/all/overlay').rglob('*.png'))) == 4
    assert (tmp_path / 'results/click/clicks.json').is_file()
    script = code('python', 'Quick start') + 'print(click.mask.shape, result.segment_map.max())'
    done = subprocess.run([sys.executable, '-c', script], cwd=tmp_path, env=env, check=True,
                          timeout=200, capture_output=True, text=True)
    assert re.fullmatch(r'\(96, 96\) \d+', done.stdout.strip())


def test_results_are_those_of_the_records():
    changed = [str(path) for path, text in result_pages.pages().items()
               if text != (ROOT / path).read_text('utf-8')]
    assert changed == [], 'run "python -m experiments.result_pages"'


def test_badges_and_citation_are_true():
    setup = (ROOT / 'setup.py').read_text('utf-8')
    badges = {name: (ROOT / f'docs/images/badge_{name}.svg').read_text('utf-8')
              for name in ('python', 'mxnet', 'license')}
    assert "python_requires='>=3.9'" in setup and '3.9 to 3.13' in badges['python']
    assert 'mxnet==1.9.1' in setup and '1.9.1' in badges['mxnet']
    assert "license='Apache-2.0'" in setup and 'Apache-2.0' in badges['license']
    assert yaml.safe_load((ROOT / 'CITATION.cff').read_text('utf-8'))['version'] == __version__


@pytest.mark.parametrize('cls', [TrainConfig, DataConfig, StageConfig, OptimizerConfig,
                                 ValidationConfig])
def test_every_config_key_has_a_meaning(cls):
    meanings = reference.key_meanings(cls)
    assert [f.name for f in dataclasses.fields(cls) if not meanings[f.name]] == []


def test_reference_lists_everything():
    commands, config = reference.commands_page(), reference.config_page()
    assert all(f'\n## adaptis {name}\n' in commands for name in cli.COMMANDS)
    assert '| `--kvstore KVSTORE` |' in commands
    assert all(f'| `{f.name}` |' in config for f in dataclasses.fields(StageConfig))


def test_model_cards_name_their_files():
    page = model_zoo.page()
    networks = len(PRETRAINED) + len(FETCHED)
    assert page.count('SHA-256 `') == networks and page.count('Apache-2.0') == networks


def test_docstrings_become_numpydoc():
    text = docstrings.to_numpydoc('Do it.\n\nParameters\n----------\nx : an array\n    of numbers\n'
                                  '\nRaises AdaptisError.')
    assert text == ('Do it.\n\n\nRaises AdaptisError.\n\nParameters\n----------\nx\n'
                    '    an array\n    of numbers\n')


def nav_pages(entry):
    """The paths of pages in a part of the navigation, however deep."""
    if isinstance(entry, str):
        return {entry}
    return set().union(*map(nav_pages, entry.values() if isinstance(entry, dict) else entry))


def test_navigation_has_every_page():
    nav = yaml.load((ROOT / 'mkdocs.yml').read_text('utf-8'), yaml.BaseLoader)['nav']
    docs = ROOT / 'docs'
    written = {str(path.relative_to(docs)) for path in docs.rglob('*.md')}
    notebooks = {f'notebooks/{path.stem}.md' for path in docs.glob('notebooks/*.ipynb')}
    assert written | notebooks <= nav_pages(nav)
