"""The wheel is complete, and installs no package with a name that others may use."""
from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ONLY_IN_THE_SOURCE = ('side_by_side/results', 'toy_curves/results')
COMMANDS = '''
import sys
from adaptis.cli import main
import adaptis.toy_data
assert adaptis.toy_data.ToySettings.__module__ == 'adaptis._toy_data.settings'
assert main(['toy', '--out', 'data/toy_v1', '--count', '2', '--workers', '1']) == 0
assert main(['table', '1']) == 0
assert main(['check-data', 'experiments/toy_v1_cpu.yaml']) == 0
sys.exit(main(['train', 'experiments/toy_v1_cpu.yaml', '--data', 'nowhere']))
'''


@pytest.fixture(scope='module')
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that a wheel is packed from."""
    pytest.importorskip('setuptools', minversion='64')
    folder = tmp_path_factory.mktemp('built')
    done = subprocess.run([sys.executable, 'setup.py', '-q', 'build_py', '--build-lib', folder],
                          check=False, cwd=ROOT, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr
    return folder


def test_only_our_own_names_are_installed(built: Path) -> None:
    assert {path.name for path in built.iterdir()} == {'adaptis', 'panoptic_baselines'}


def test_every_config_and_result_is_carried(built: Path) -> None:
    for pattern in ('*.yaml', 'results/*.json'):
        expected, found = (
            {path.relative_to(folder) for path in folder.rglob(pattern)
             if not any(name in str(path) for name in ONLY_IN_THE_SOURCE)}
            for folder in (ROOT / 'experiments', built / 'adaptis' / '_experiments'))
        assert found == expected and found


def test_the_page_to_click_on_is_complete(built: Path) -> None:
    source, installed = ({path.relative_to(folder) for name in ('static', 'web')
                          for path in (folder / 'adaptis/serve' / name).rglob('*')}
                         for folder in (ROOT, built))
    assert source == installed
    assert {'index.html', 'segmenter.js', 'LICENSE'} <= {path.name for path in source}


def test_commands_run_without_the_source_tree(built: Path, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, '-c', COMMANDS], check=False, cwd=tmp_path,
                          env={**os.environ, 'PYTHONPATH': str(built)},
                          capture_output=True, text=True, timeout=240)
    assert 'AdaptIS, Table 1' in done.stdout and 'published   99.6' in done.stdout, done.stderr
    assert done.returncode == 1   # of training, for want of its data
    assert 'The toy data was not found: nowhere' in done.stderr and 'Traceback' not in done.stderr
