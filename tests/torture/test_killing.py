"""A command that is killed at any moment and repeated ends as if it had never been killed.

``make test-all`` kills the training of each of two systems 50 times, and other commands 10 times
each.  The default suite kills one training once, in ``tests/adaptis/engine``.
"""
from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Callable

import numpy as np
import pytest

from adaptis.engine.checkpoint import read_checkpoint
from adaptis.runtime import mx
from tests.devices import ctx_option
from tests.torture.killing import Warm, adaptis, finish, kill_often, leftovers, listing
from toy_data import ToySettings, generate

ADAPTIS = '''
data: {{root: {data}, dataset: toy, augmentation: toy_v1, val_split: test}}
model: {{name: adaptis_toy, width: 4}}
instances: {{steps: {steps}, batch_size: 2, points: 3, ema: 0.9, optimizer: {{lr: 1.0e-3}}}}
proposals: {{steps: 8, batch_size: 2, points: 4, optimizer: {{lr: 1.0e-3}}}}
workers: 1
log_every: 1
pictures_every: 20
checkpoint_steps: 2
evaluation_images: 0
validation: {{every: 20, images: 2, points: 2}}
'''
CONDINST = '''
data: {{root: {data}, dataset: coco, augmentation: none, val_split: val}}
model: {{name: condinst, backbone: resnet18, fpn_channels: 8, branch_channels: 8}}
joint:
  steps: {steps}
  batch_size: 2
  short_side: 32
  max_side: 64
  optimizer: {{name: sgd, lr: 1.0e-3, options: {{momentum: 0.9}}}}
workers: 1
log_every: 1
pictures_every: 0
checkpoint_steps: 2
evaluation_images: 0
validation: {{every: 0}}
'''


def draw(folder: Path, version: str) -> Path:
    size = (64, 128) if version == 'street' else (32, 32)
    settings = ToySettings.default(version, height=size[0], width=size[1], min_objects=2,
                                   max_objects=5)
    generate(settings, folder, {'train': 8, 'val' if version == 'street' else 'test': 3},
             layout='coco' if version == 'street' else None)
    return folder


class StepLog:
    """The log of a training that is killed, and begins again at an earlier step."""

    def __init__(self, path: Path):
        self._path, self._size, self._newest = path, 0, 0.0

    def records(self, kind: str) -> list[dict[str, Any]]:
        if not self._path.is_file():
            return []
        lines = self._path.read_text().split('\n')[:-1]   # the last line may be incomplete
        return [record for record in map(json.loads, lines) if record['kind'] == kind]

    def newest(self) -> float:
        """Return when the newest step was done, also if the log of it has been cut off since."""
        size = self._path.stat().st_size if self._path.is_file() else 0
        if size != self._size:
            times = [record['time'] for record in self.records('train')[-1:]]
            self._size, self._newest = size, max([self._newest, *times])
        return self._newest


def train_and_kill(tmp_path: Path, text: str, version: str, steps: int, kills: int) -> None:
    """Compare a training that is killed with one that is not."""
    config = tmp_path / 'a.yaml'
    config.write_text(text.format(data=draw(tmp_path / 'data', version), steps=steps))
    finish(Warm('train', config, '--output', tmp_path / 'whole', *ctx_option()))
    killed, log = tmp_path / 'killed', StepLog(tmp_path / 'killed' / 'log.jsonl')
    done = kill_often(lambda: Warm('train', config, '--output', killed, '--resume', *ctx_option()),
                      kills, seed=steps, progress=log.newest)
    resumed_at = {start['step'] for start in log.records('start')}
    print(f'killed {done} times; resumed at steps {sorted(resumed_at)}')
    assert done == kills, f'the training ended after {done} kills: give it more steps'
    assert len(resumed_at) > kills // 4, 'most kills came before the first step'
    whole, resumed = (mx.nd.load(str(folder / 'final.params'))
                      for folder in (tmp_path / 'whole', killed))
    assert whole.keys() == resumed.keys()
    for name in whole:
        np.testing.assert_array_equal(whole[name].asnumpy(), resumed[name].asnumpy(), name)
    assert not leftovers(killed)
    for folder in (killed / 'checkpoints').iterdir():
        read_checkpoint(folder)
    assert len(list((killed / 'checkpoints').iterdir())) == len(
        list((tmp_path / 'whole' / 'checkpoints').iterdir()))


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize('text, version', [(ADAPTIS, 'v1'), (CONDINST, 'street')],
                         ids=['adaptis', 'condinst'])
def test_a_training_that_is_killed_fifty_times(tmp_path: Path, text: str, version: str) -> None:
    train_and_kill(tmp_path, text, version, steps=110, kills=50)


def toy(folder: Path) -> tuple:
    return ('toy', '--version', 'v2', '--out', folder / 'made', '--split', 'train', '--count', 400,
            '--workers', 2, '--coco')


def evaluate(folder: Path) -> tuple:
    return ('evaluate', '--data', folder / 'data', '--limit', 3, '--save', folder / 'made' / 'all',
            '--out', folder / 'made' / 'record.json', *ctx_option())


def export(folder: Path) -> tuple:
    return ('export', '--out', folder / 'made' / 'export')


def predict(folder: Path) -> tuple:
    return ('predict', folder / 'data' / 'test', '--out', folder / 'made', *ctx_option())


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize('command', [toy, evaluate, export, predict])
def test_other_commands_that_are_killed_ten_times(
        tmp_path: Path, command: Callable[[Path], tuple]) -> None:
    results = []
    for kills in (0, 10):
        folder = tmp_path / str(kills)
        draw(folder / 'data', 'v1')
        made = folder / 'made'
        made.mkdir()
        done = kill_often(
            lambda made=made, folder=folder: adaptis(*command(folder)), kills, seed=kills,
            progress=lambda made=made: len(list(made.rglob('*'))))
        print(f'{command.__name__}: killed {done} times')
        assert not leftovers(made)
        results.append(listing(made))
    assert results[0].keys() == results[1].keys()
    changed = {name for name in results[0] if results[0][name] != results[1][name]}
    assert all(name.endswith(('.json', '.md')) for name in changed)   # times, dates and folders
