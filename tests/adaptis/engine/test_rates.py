"""Warnings about learning rates that do not fit the batch size."""
from __future__ import annotations

from pathlib import Path

import pytest

from adaptis.config import TrainConfig, load_config
from adaptis.engine.rates import complaints, count_processes, scale_rates

RECIPE = '''
data: {root: somewhere, augmentation: flip}
model: {name: adaptis_fpn}
instances: {epochs: 2, batch_size: 8, points: 3, optimizer: {lr: 1e-4, final_lr: 1e-6}}
proposals: {epochs: 1, batch_size: 16, points: 3, optimizer: {lr: 2e-4, lr_batch: 32}}
'''


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / 'run.yaml').write_text(RECIPE)
    return tmp_path / 'run.yaml'


def rates(config: TrainConfig) -> list[tuple]:
    return [(s.optimizer.lr, s.optimizer.final_lr, s.optimizer.lr_batch)
            for _, s in config.stages()]


def test_the_recipe_as_it_is_fits_its_own_batch(path: Path) -> None:
    recipe = load_config(path)
    told, = complaints(recipe, recipe, 1)
    assert told == ('The learning rate 0.0002 of the stage proposals was chosen for 32 images per '
                    'step, but there are 16: --scale-lr would set it to 0.0001.')
    assert len(complaints(recipe, recipe, 2)) == 1     # now that of the other stage
    assert 'instances was chosen for 8 images per step, but there are 16 in 2 processes' in (
        complaints(recipe, recipe, 2)[0])


def test_what_the_user_changes_is_compared_with_the_recipe(path: Path) -> None:
    recipe = load_config(path)
    config = load_config(path, ['instances.batch_size=4', 'proposals.batch_size=32'])
    assert ['stage instances' in told for told in complaints(config, recipe, 1)] == [True]
    assert not complaints(config, recipe, 1, ['instances.optimizer.lr'])
    assert not complaints(load_config(path, ['instances.batch_size=4', 'proposals.batch_size=16']),
                          recipe, 2)


def test_scaling_is_linear_and_says_what_for(path: Path) -> None:
    recipe = load_config(path)
    config = load_config(path, ['instances.batch_size=4'])
    scaled = scale_rates(config, recipe, 4)
    assert rates(scaled) == [pytest.approx((2e-4, 2e-6, 16)), pytest.approx((4e-4, 0, 64))]
    assert not complaints(scaled, recipe, 4)
    assert scale_rates(scaled, recipe, 4) == scaled
    assert scale_rates(recipe, recipe, 2).proposals == recipe.proposals
    # A run's own config.yaml tells what its rates are for.
    assert len(complaints(scaled, scaled, 1)) == 2


def test_processes_are_those_of_a_distributed_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('DMLC_NUM_WORKER', '4')
    assert (count_processes('device'), count_processes('dist_sync')) == (1, 4)
    monkeypatch.delenv('DMLC_NUM_WORKER')
    assert count_processes('dist_sync') == 1
