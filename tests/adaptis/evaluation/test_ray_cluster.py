"""A Ray cluster gives what one process gives, even if a node is killed, and can be stopped."""
from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from adaptis import cli
from adaptis.files import read_image

ROOT = Path(__file__).resolve().parents[3]
IMAGES = 96
# Not imported here, because Ray reads its environment when it is imported.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.skipif(
    importlib.util.find_spec('ray') is None,
    reason='Ray is not installed: python -m pip install ray')]


@pytest.fixture(scope='module')
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a data set of toy images."""
    folder = tmp_path_factory.mktemp('ray')
    assert cli.main(['toy', '--out', str(folder / 'toy'), '--split', 'test', '--count',
                     str(IMAGES), '--size', '64', '--objects', '3', '6', '--workers', '1']) == 0
    return folder


@pytest.fixture(scope='module')
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A cluster whose head has one core; it notices within seconds that a node is gone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('PYTHONPATH', os.pathsep.join(filter(None, [
            str(ROOT), os.environ.get('PYTHONPATH')])))
        patch.setenv('RAY_USAGE_STATS_ENABLED', '0')
        patch.setenv('RAY_AUTH_MODE', 'token')
        patch.setenv('RAY_AUTH_TOKEN', 'of this test')
        from ray.cluster_utils import Cluster
        made = Cluster(initialize_head=True, head_node_args={
            'num_cpus': 1, 'include_dashboard': False, '_system_config': {
                'health_check_initial_delay_ms': 0, 'health_check_period_ms': 500,
                'health_check_failure_threshold': 4}})
        yield made
        made.shutdown()


def run_and_kill(cluster: Any, command: list[str], folder: Path, pngs: Path) -> int:
    """Run a command on the head and a second node, which is killed as soon as 20 PNGs are there.

    Returns the exit status.
    """
    node = cluster.add_node(num_cpus=1)
    with subprocess.Popen([sys.executable, '-m', 'adaptis', *command, '--ray', cluster.address],
                          cwd=folder, stderr=subprocess.PIPE, text=True) as process:
        try:
            end = time.monotonic() + 240
            while len(list(pngs.glob('*.png'))) < 20 and process.poll() is None:
                assert time.monotonic() < end, 'no results within four minutes'
                time.sleep(0.1)
            cluster.remove_node(node, allow_graceful=False)
            said = process.communicate(timeout=400)[1]
        finally:
            process.kill()
    assert 'was lost: another one repeats its work' in said
    assert '(raylet)' not in said and 'Traceback' not in said
    return process.returncode


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes()
            for path in folder.rglob('*') if path.is_file()}


def test_evaluation_survives_the_death_of_a_node(toy, cluster):
    command = ['evaluate', '--data', 'toy']
    where = [['--out', f'{name}.json', '--save', name] for name in ('one', 'ray')]
    assert run_and_kill(cluster, [*command, *where[1]], toy, toy / 'ray' / 'panoptic') == 0
    subprocess.run([sys.executable, '-m', 'adaptis', *command, *where[0]], cwd=toy, check=True)
    one, ray = (json.loads((toy / f'{name}.json').read_text())['metrics']
                for name in ('one', 'ray'))
    assert ray == one and one['images'] == IMAGES and one['objects']['found'] > IMAGES
    assert contents(toy / 'ray') == contents(toy / 'one')


def test_prediction_survives_the_death_of_a_node(toy, cluster):
    (toy / 'toy' / 'test' / '00007_rgb.png').write_bytes(b'no image')
    command = ['predict', 'toy/test/*_rgb.png', '--format', 'label-studio', '--out']
    pictures = toy / 'pictures' / 'overlay'
    assert run_and_kill(cluster, [*command, 'pictures'], toy, pictures) == 1
    alone = subprocess.run([sys.executable, '-m', 'adaptis', *command, 'alone'], cwd=toy)
    assert alone.returncode == 1
    assert contents(toy / 'pictures') == contents(toy / 'alone')
    assert len(list((toy / 'alone' / 'overlay').iterdir())) == IMAGES - 1


def test_ctrl_c_ends_a_local_cluster_and_leaves_whole_files(toy):
    folders = Path(tempfile.gettempdir()).glob
    before = set(folders('adaptis-ray-*'))
    command = [sys.executable, '-m', 'adaptis', 'predict', 'toy/test', '--out', 'stopped', '--ray',
               '--processes', '1']
    with subprocess.Popen(command, cwd=toy, stderr=subprocess.PIPE, text=True,
                          start_new_session=True) as process:
        while len(list(toy.glob('stopped/overlay/*.png'))) < 5 and process.poll() is None:
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGINT)   # as a terminal does
        said = process.communicate(timeout=60)[1]
    assert process.returncode == 130 and said.endswith('adaptis predict: interrupted.\n')
    assert not set(folders('adaptis-ray-*')) - before   # in which its processes have their sockets
    left = [path for path in (toy / 'stopped').rglob('*') if path.is_file()]
    assert len(left) >= 10 and {path.suffix for path in left} == {'.png'}
    for path in left:
        read_image(path)
