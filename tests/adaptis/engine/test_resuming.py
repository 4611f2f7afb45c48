"""What may change between two sessions of a run, and what must be reported."""
from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from adaptis.config import TrainConfig, load_config
from adaptis.engine.checkpoint import Checkpoint, Position
from adaptis.engine.resuming import check_same_run, override_keys
from adaptis.errors import AdaptisError

CONFIG = '''
data: {root: here, augmentation: toy_v1}
model: {name: adaptis_deeplab, backbone: resnet18}
instances: {steps: 10, batch_size: 4, points: 3, crop: 64, optimizer: {lr: 5e-4}}
'''


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / 'run.yaml').write_text(CONFIG)
    return tmp_path / 'run.yaml'


def checkpoint(config: TrainConfig, **changes: Any) -> Checkpoint:
    return Checkpoint(Path('runs/x'), Position(0, 'instances', 5), {},
                      {**config.to_dict(), **changes})


@pytest.mark.parametrize('change', [
    'data.root=there', 'workers=0', 'log_every=3', 'validation.every=9', 'checkpoint_steps=2',
    'inference.min_area=4', 'evaluation_images=0', 'model.pretrained_base=true',
    'model.pretrained=net.params', 'row={table: "1", row: adaptis}'])
def test_what_is_learnt_does_not_depend_on_it(path: Path, change: str) -> None:
    check_same_run(checkpoint(load_config(path)), load_config(path, [change]))


@pytest.mark.parametrize('changes, words', [
    (['instances.steps=20'], r'instances.steps 10 \(now 20\): restore .*instances.steps=20.'),
    (['seed=1'], r'seed 0 \(now 1\)'),
    (['instances.crop=[4, 8]'], r'crop 64 \(now \[4, 8\]\).*--set instances.crop=\[4, 8\]'),
    (['instances.system.semantic_weight=1'], r'semantic_weight null \(now 1\)'),
    (['seed=1', 'instances.points=4'], r'points 3 \(now 4\), seed 0 \(now 1\)'),
])
def test_other_changes_are_named_and_can_be_confirmed(path: Path, changes: list,
                                                      words: str) -> None:
    start, config = checkpoint(load_config(path)), load_config(path, changes)
    with pytest.raises(AdaptisError, match='runs/x was trained with .*' + words):
        check_same_run(start, config)
    check_same_run(start, config, override_keys(changes))


def test_a_change_that_was_not_confirmed_is_named_alone(path: Path) -> None:
    changed = load_config(path, ['seed=1', 'instances.points=4'])
    with pytest.raises(AdaptisError, match=r'with instances.points 3 \(now 4\): restore'):
        check_same_run(checkpoint(load_config(path)), changed, ['seed'])


def test_a_stage_that_has_ended_cannot_change(path: Path) -> None:
    text = CONFIG + CONFIG.strip().splitlines()[-1].replace('instances', 'proposals')
    path.write_text(text)
    start = dataclasses.replace(checkpoint(load_config(path)),
                                position=Position(1, 'proposals', 5))
    changes = ['instances.steps=20']
    with pytest.raises(AdaptisError, match='finished the stage instances with instances.steps 10'):
        check_same_run(start, load_config(path, changes), override_keys(changes))
    changes = ['proposals.steps=20']
    check_same_run(start, load_config(path, changes), override_keys(changes))


def test_another_network_cannot_be_confirmed(path: Path) -> None:
    with pytest.raises(AdaptisError, match="'resnet18'.*but the config asks for .*'resnet34'"):
        check_same_run(checkpoint(load_config(path)),
                       load_config(path, ['model.backbone=resnet34']), ['model.backbone'])


def test_a_checkpoint_of_an_older_version_is_understood(path: Path) -> None:
    config = load_config(path)
    stored = config.to_dict()
    stored['data']['version'] = stored['data'].pop('augmentation')
    for key in ('precision', 'inference', 'row', 'checkpoint'):
        del stored[key]
    del stored['data']['dataset'], stored['instances']['scale']
    start = dataclasses.replace(checkpoint(config), config=stored)
    check_same_run(start, config)
    with pytest.raises(AdaptisError, match=r'augmentation toy_v1 \(now toy_v2\)'):
        check_same_run(start, load_config(path, ['data.augmentation=toy_v2']))
