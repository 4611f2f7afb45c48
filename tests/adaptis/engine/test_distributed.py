"""``adaptis launch``: several processes learn the same as one process with the joint batch.

The net of the first test has no BatchNorm that changes its output: its statistics are those of each
process's share of the batch, so that with it two processes are not one process with a larger batch,
in any framework.
"""
from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import dist_worker
import numpy as np
import pytest
from toy_setup import write_run, write_samples

from adaptis.launch.hosts import Place
from adaptis.launch.launcher import Cluster
from adaptis.launch.member import Shell
from adaptis.runtime import mx

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
pytestmark = pytest.mark.skipif(not mx.runtime.Features().is_enabled('DIST_KVSTORE'),
                                reason='this MXNet has no distributed KVStore')


def test_two_workers_equal_one_with_the_joint_batch(tmp_path: Path,
                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    """A step of two processes and one of the joint batch differ in the order of their sums.

    Each loss and gradient is a mean of some thousand numbers in float32, whose unit of rounding is
    6e-8.  Sums in another order differ by some such units, relative to the sum of the absolute
    values; 11 steps of Adam, which divides gradients by their size, enlarge that where a gradient
    is nearly 0.  1e-5 for losses and 1e-4 for weights are far above this, and far below the effect
    of a wrong image in one batch.
    """
    data = write_samples(tmp_path / 'data' / 'train', 12)
    monkeypatch.setenv('PYTHONPATH', f'{ROOT}:{HERE}')
    monkeypatch.setenv('OMP_NUM_THREADS', '1')
    worker = [dist_worker.__file__, str(data)]
    cluster = Cluster([*worker, str(tmp_path / 'two'), '4', 'dist_sync'],
                      [Place('localhost', 2)] * 2, Shell([], sys.executable))
    assert cluster.run() == 0
    subprocess.run([sys.executable, *worker, str(tmp_path / 'one'), '8', 'device'], check=True,
                   timeout=250)
    alone, first, second = (np.load(tmp_path / name)
                            for name in ('one/0.npz', 'two/0.npz', 'two/1.npz'))
    np.testing.assert_allclose((first['losses'] + second['losses']) / 2, alone['losses'], rtol=1e-5)
    for name in set(alone.files) - {'losses'}:
        np.testing.assert_array_equal(first[name], second[name])
        if name != 'norm.running_var':   # without the variance between the two means
            np.testing.assert_allclose(first[name], alone[name], rtol=1e-4, atol=1e-6)
    assert (alone['norm.running_mean'] > 0.1).all()
    for found in (first, second):
        np.testing.assert_array_equal(found['mean'], np.float32([0.1, 0.5, 1.5e5]))
        assert found['votes'].tolist() == [True, False]
        assert found['heard'].tolist() == ['rank 0', 'rank 1']
        assert 'Rank 1 has a different config' in str(found['said'])
    assert not any((tmp_path / 'two' / 'run1').iterdir())   # rank 0 alone writes


CONFIG = '''
data: {root: data, augmentation: toy_v1}
model: {name: adaptis_toy, width: 4, norm_layer: BatchNorm}
instances:
  epochs: 4
  batch_size: 2
  points: 3
  optimizer: {lr: 1e-3}
proposals:
  steps: 2
  batch_size: 2
  points: 4
  optimizer: {lr: 1e-3}
workers: 0
log_every: 1
pictures_every: 0
evaluation_images: 1
validation: {every: 4, images: 2, points: 2}
'''


@pytest.fixture(scope='module')
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a config and 12 images to learn from."""
    folder = tmp_path_factory.mktemp('place')
    write_run(folder, CONFIG, train=12)
    return folder


def launch(place: Path, output: str, *more: str, workers: int = 2) -> subprocess.Popen:
    words = ['launch', '-n', str(workers), 'train', 'run.yaml', '--output', output, '--ctx', 'cpu']
    return subprocess.Popen(
        [sys.executable, '-m', 'adaptis', *words, *more], cwd=place, text=True,
        env={**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def steps(place: Path, output: str, stage: str = 'instances') -> list[dict]:
    lines = (place / output / 'log.jsonl').read_text().splitlines()
    return [record for record in map(json.loads, lines)
            if record['kind'] == 'train' and record['stage'] == stage]


def wait_for(path: Path, pattern: str, seconds: float = 150) -> None:
    deadline = time.monotonic() + seconds
    while not list(path.glob(pattern)):
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.slow
def test_another_number_of_processes_goes_on(place: Path) -> None:
    """4 epochs of 12 images: 12 steps of two processes, 24 of one, 8 of three."""
    process = launch(place, 'shrinks', '--set', 'checkpoint_steps=1')
    wait_for(place / 'shrinks' / 'checkpoints', '0-instances-0000000*')
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=250)
    assert process.returncode == 143 and 'Stopped. To continue' in out, err
    done = len(steps(place, 'shrinks'))
    for workers, stop in ((1, 3), (3, None)):
        more = ['--resume', '--set', 'checkpoint_steps=1']
        process = launch(place, 'shrinks', *more, workers=workers)
        if stop:
            wait_for(place / 'shrinks' / 'checkpoints', f'0-*{done + stop:08d}')
            process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=250)
        assert process.returncode == (130 if stop else 0), err
        if stop:
            newest = max((place / 'shrinks' / 'checkpoints').iterdir())
            state = json.loads((newest / 'state.json').read_text())
            images = 12 * state['data']['epochs'] + state['data']['images']
            single = state['position']['step'] - done
            assert images == 4 * done + 2 * single
    left = 4 * 12 - images
    assert len(steps(place, 'shrinks')) == done + single + -(-left // 6)
    assert len(steps(place, 'shrinks', 'proposals')) == 2
    assert (place / 'shrinks' / 'evaluation.json').is_file()


@pytest.mark.slow
def test_a_dead_worker_ends_the_others(place: Path) -> None:
    process = launch(place, 'dies', '--set', 'instances.epochs=400', '--set', 'checkpoint_steps=1')
    wait_for(place / 'dies' / 'checkpoints', '0-*')
    workers = [int(line.split()[0]) for line in subprocess.run(
        ['pgrep', '-af', 'adaptis train run.yaml --output dies'], capture_output=True,
        text=True).stdout.splitlines()]
    workers = [pid for pid in workers if 'launch' not in Path(f'/proc/{pid}/cmdline').read_text()]
    assert len(workers) == 2
    os.kill(workers[1], signal.SIGKILL)
    began = time.monotonic()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1 and time.monotonic() - began < 20
    assert 'on localhost was killed by SIGKILL' in err.splitlines()[-1]
    assert 'the other 1 was ended: continue with --resume.' in err.splitlines()[-1]
    assert not any(Path(f'/proc/{pid}').exists() for pid in workers)


@pytest.mark.slow
def test_compressed_gradients_train(place: Path) -> None:
    more = ['--set', 'gradient_compression=0.01', '--set', 'instances.epochs=20']
    process = launch(place, 'compressed', *more)
    _, err = process.communicate(timeout=250)
    assert process.returncode == 0, err
    losses = [record['semantic'] for record in steps(place, 'compressed')]
    assert np.mean(losses[-10:]) < 0.9 * np.mean(losses[:10])


@pytest.mark.slow
def test_a_mistake_is_told_once(place: Path) -> None:
    process = launch(place, 'mistaken', '--set', 'model.width=wide')
    _, err = process.communicate(timeout=250)
    assert process.returncode == 1
    assert err.count('width') == 1, err
