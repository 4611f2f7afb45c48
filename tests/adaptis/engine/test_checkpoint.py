"""Checkpoints: whole or absent, and never trusted."""
from __future__ import annotations

import json
import pickle
import resource
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy_setup import TinySystem, tiny_net

from adaptis.config import OptimizerConfig, StageConfig
from adaptis.engine.checkpoint import (
    CheckpointFolder,
    Position,
    load_optimizer,
    load_parameters,
    optimizer_arrays,
    read_checkpoint,
)
from adaptis.engine.steps import make_trainer, train_step
from adaptis.errors import AdaptisError
from adaptis.runtime import mx

STAGE = StageConfig(batch_size=2, points=2, steps=9, optimizer=OptimizerConfig(lr=0.01))


def trained(steps: int = 2, optimizer: str = 'adam', **options: float) -> tuple:
    """A net after a few steps, and its trainer."""
    stage = StageConfig(batch_size=2, points=2, steps=9, optimizer=OptimizerConfig(
        lr=0.01, name=optimizer, options=options))
    net = tiny_net(dropout=0.0)
    system = TinySystem(net)
    trainer = make_trainer(system, stage, 'device')
    rng = np.random.default_rng(0)
    for _ in range(steps):
        batch = {'image': rng.integers(0, 255, (2, 3, 8, 8)), 'points': rng.random((2, 2, 2)),
                 'instances': rng.integers(0, 2, (4, 1, 8, 8)),
                 'semantic': rng.integers(0, 2, (2, 8, 8))}
        train_step(system, trainer, batch, [mx.current_context()])
    return net, trainer


def save(folder: Path, step: int = 2, **changes: Any) -> Path:
    net, trainer = trained()
    return CheckpointFolder(folder).save(net, trainer, Position(0, 'instances', step),
                                         system={'t': 0.25}, config={'a': [1]}, **changes)


def test_everything_comes_back(tmp_path: Path) -> None:
    net, trainer = trained()
    folder = CheckpointFolder(tmp_path)
    folder.save(net, trainer, Position(1, 'proposals', 5), system={'t': 0.25}, config={'a': 1},
                best=0.5, metrics={'iou': 0.4})
    found = folder.latest()
    assert found.position == Position(1, 'proposals', 5)
    assert (found.system, found.config, found.best) == ({'t': 0.25}, {'a': 1}, 0.5)
    other = tiny_net(seed=9)
    load_parameters(other, found)
    for name, parameter in net._collect_params_with_prefix().items():
        copy = other._collect_params_with_prefix()[name]
        np.testing.assert_array_equal(parameter.data().asnumpy(), copy.data().asnumpy())


@pytest.mark.parametrize('optimizer, options, arrays', [
    ('adam', {}, 12), ('sgd', {'momentum': 0.9}, 6), ('sgd', {}, 0)])
def test_optimizer_states_come_back(tmp_path: Path, optimizer: str, options: dict,
                                    arrays: int) -> None:
    _, trainer = trained(2, optimizer, **options)
    before = optimizer_arrays(trainer)
    assert len(before) == arrays
    np.savez(tmp_path / 'o.npz', **before)
    _, other = trained(0, optimizer, **options)
    load_optimizer(other, tmp_path / 'o.npz')
    after = optimizer_arrays(other)
    assert after.keys() == before.keys()
    for name, array in before.items():
        np.testing.assert_array_equal(after[name], array)


def test_the_newest_two_stay(tmp_path: Path) -> None:
    for step in (5, 20, 100):
        save(tmp_path, step)
    assert sorted(p.name for p in tmp_path.iterdir()) == ['0-instances-00000020',
                                                          '0-instances-00000100']
    assert CheckpointFolder(tmp_path).latest().position.step == 100


def test_a_folder_without_checkpoints_has_none(tmp_path: Path) -> None:
    (tmp_path / '.writing-abc').mkdir()
    assert CheckpointFolder(tmp_path).latest() is None
    assert CheckpointFolder(tmp_path / 'nowhere').latest() is None


def test_what_a_killed_run_left_behind_is_removed(tmp_path: Path) -> None:
    (tmp_path / '.writing-abc').mkdir()
    save(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ['0-instances-00000002']


@pytest.mark.parametrize('name', ['net.params', 'optimizer.npz', 'state.json'])
@pytest.mark.parametrize('how', ['cut', 'gone'])
def test_damage_is_named(tmp_path: Path, name: str, how: str) -> None:
    path = save(tmp_path) / name
    if how == 'cut':
        path.write_bytes(path.read_bytes()[:-10])
    else:
        path.unlink()
    with pytest.raises(AdaptisError, match='remove') as error:
        CheckpointFolder(tmp_path).latest()
    assert '0-instances-00000002' in str(error.value)


@pytest.mark.parametrize('change', [{'format': 99}, {'position': {'x': 1}}, {'sha256': None}])
def test_a_foreign_state_is_refused(tmp_path: Path, change: dict) -> None:
    folder = save(tmp_path)
    state = {**json.loads((folder / 'state.json').read_text()), **change}
    (folder / 'state.json').write_text(json.dumps(state))
    with pytest.raises(AdaptisError):
        read_checkpoint(folder)


def test_another_architecture_is_refused(tmp_path: Path) -> None:
    save(tmp_path)
    net = mx.gluon.nn.Conv2D(3, 3, in_channels=3)
    net.initialize()
    with pytest.raises(AdaptisError, match='belongs to another network'):
        load_parameters(net, CheckpointFolder(tmp_path).latest())


def test_optimizer_states_of_another_network_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path) / 'optimizer.npz'
    system = TinySystem(tiny_net(), stage='proposals')
    with pytest.raises(AdaptisError, match='another network or optimizer'):
        load_optimizer(make_trainer(system, STAGE, 'device'), path)


def test_pickles_are_never_opened(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple:
            return Path.touch, (tmp_path / 'exploded',)

    for payload in (pickle.dumps(Bomb()), None):
        path = tmp_path / 'optimizer.npz'
        if payload:
            path.write_bytes(payload)
        else:
            np.savez(path, **{'0.0': np.array([Bomb()], dtype=object)})
        with pytest.raises(AdaptisError, match='contains no optimizer states'):
            load_optimizer(trained(0)[1], path)
    assert not (tmp_path / 'exploded').exists()


@pytest.fixture
def file_size_limit() -> Iterator:
    """Files cannot grow beyond a size: what a full disk looks like to the writer."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize('size', [100, 1200, 2000])
def test_a_full_disk_harms_nothing(tmp_path: Path, file_size_limit: Any, size: int) -> None:
    save(tmp_path, step=1)
    net, trainer = trained()
    file_size_limit(size)
    with pytest.raises(AdaptisError, match='cannot be written .* earlier ones are unchanged'):
        CheckpointFolder(tmp_path).save(net, trainer, Position(0, 'instances', 2), system={},
                                        config={})
    file_size_limit(resource.RLIM_INFINITY)
    assert [p.name for p in tmp_path.iterdir()] == ['0-instances-00000001']
    assert CheckpointFolder(tmp_path).latest().position.step == 1


def test_half_of_a_removed_checkpoint_never_has_its_name(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run is killed while it removes an old checkpoint; the one that goes on removes the rest."""
    with monkeypatch.context() as patch:
        patch.setattr(shutil, 'rmtree', lambda path, ignore_errors: None)
        for step in (5, 20, 100):
            save(tmp_path, step)
    names = sorted(path.name for path in tmp_path.iterdir())
    kept = ['0-instances-00000020', '0-instances-00000100']
    assert names == ['.writing-0-instances-00000005', *kept]
    assert CheckpointFolder(tmp_path).latest().position.step == 100
    assert sorted(path.name for path in tmp_path.iterdir()) == kept
