"""The configs of the paper's tables: each builds its network and learns for two steps."""
from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, Callable, Dict

import numpy as np
import pytest

from adaptis.cli import main
from adaptis.commands.rows import PUBLISHED
from adaptis.config import TrainConfig, load_config
from adaptis.data.augment import Crop
from adaptis.data.batches import BatchSource
from adaptis.data.datasets import open_dataset
from adaptis.engine.schedules import build_schedule
from adaptis.engine.steps import make_trainer, train_step
from adaptis.evaluation.record import ROOT
from adaptis.evaluation.tables import load_tables
from adaptis.runtime import mx
from adaptis.systems import find_kind
from panoptic_baselines.zoo import MODELS
from tests.miniatures import write_cityscapes, write_coco

EXPERIMENTS = ROOT / 'experiments'
CONFIGS = sorted((EXPERIMENTS / 'panoptic_fpn').glob('*.yaml'))
TABLES = load_tables(EXPERIMENTS / PUBLISHED)['panoptic_fpn']
SIZE = (32, 64)
WIDTHS = {'fpn_channels': 32, 'box_channels': 16, 'mask_channels': 8}
DEFAULTS = {'semantic_channels': 128, 'semantic_join': 'sum', 'merge_things': True,
            'grouped_fpn': False}
ANCHORS = [8, 16, 32, 64, 128]
ALL = 5  # stages of a backbone, whose training takes longest; other tests have it


@pytest.fixture(scope='module')
def datasets(tmp_path_factory: pytest.TempPathFactory) -> Dict[str, Any]:
    """Miniatures by name."""
    folder = tmp_path_factory.mktemp('data')
    write_coco(folder / 'coco', splits=('train',), size=SIZE, images=2)
    write_cityscapes(folder / 'cityscapes', splits=('train',), size=SIZE, images=2)
    return {name: open_dataset(name, folder / name, 'train') for name in ('coco', 'cityscapes')}


def small(config: TrainConfig) -> Dict[str, Any]:
    """The model of a config on ResNet-18 with narrow layers, but for what the row studies."""
    model = {k: v for k, v in config.model.items() if k != 'pretrained_base'}
    model['name'] = model['name'].rsplit('_', 1)[0] + '_r18'
    return {**DEFAULTS, **model, **WIDTHS, 'anchor_sizes': ANCHORS}


def learn(config: TrainConfig, dataset: Any, model: Dict[str, Any], frozen_stages: int) -> Any:
    """The system after two steps of one image, and the losses of both."""
    kind, stage = find_kind(config.model['name']), config.joint
    np.random.seed(0)
    mx.random.seed(0)
    net = kind.build({**kind.class_counts(dataset.taxonomy), **model}, [mx.cpu()])
    options = {**stage.system, 'rois': 16, 'frozen_stages': frozen_stages, 'hybridize': False}
    assert set(options) <= set(kind.system_options())
    system = kind.make_system(net, dataset.taxonomy, 'joint', **options)
    crop = Crop(SIZE, tuple(stage.scale)) if stage.crop else None
    source = BatchSource(dataset, 1, None, augmentation=config.data.augmentation, crop=crop,
                         crop_until=2, targets=system.targets())
    trainer = make_trainer(system, stage, 'local')
    schedule = build_schedule(stage.optimizer, stage.steps, len(source))
    losses = []
    for step in range(2):
        trainer.set_learning_rate(schedule(step))
        system.begin_step(step)
        losses.append(train_step(system, trainer, source.batch(0), [mx.cpu()]))
    return system, losses


@pytest.fixture(scope='module')
def learnt(datasets: Dict[str, Any]) -> Callable[[TrainConfig], Any]:
    """``learn`` with small networks, once for configs that differ only in how much losses weigh or
    how long they train, or in a backbone that is replaced."""
    known: Dict[str, Any] = {}

    def look_up(config: TrainConfig) -> Any:
        stage, model = config.joint, small(config)
        system = {k: v > 0 if k.endswith('_weight') else v for k, v in stage.system.items()}
        rates = dataclasses.replace(stage.optimizer, milestone_steps=[])
        key = repr((config.data.dataset, sorted(model.items()), sorted(system.items()), rates))
        if key not in known:
            known[key] = learn(config, datasets[config.data.dataset], model, ALL)
        return known[key]

    return look_up


def learns(losses: Dict[str, float], branch: str) -> bool:
    """Whether a step learnt anything from a branch; NaN is no answer."""
    names = [name for name in losses if (name == 'semantic') == (branch == 'semantic')]
    assert all(np.isfinite(losses[name]) for name in names)
    return any(losses[name] > 0 for name in names)


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_two_steps_on_a_miniature(path: Path, learnt: Callable[[TrainConfig], Any]) -> None:
    config = load_config(path)
    system, losses = learnt(config)
    options, net = config.joint.system, system.net
    assert net.has_instances == ('semantic_fpn' not in config.model['name'])
    assert net.has_semantic == ('mask_rcnn' not in config.model['name'])
    alternates = options['updates'] == 'alternate'
    for step, found in enumerate(losses):
        for branch, there, key in (('instances', net.has_instances, 'instance_weight'),
                                   ('semantic', net.has_semantic, 'semantic_weight')):
            turn = not alternates or step % 2 == (branch == 'semantic')
            assert learns(found, branch) == (there and turn and options[key] > 0)
    values = [p.data().asnumpy() for p in system.parameters().values()]
    assert all(np.isfinite(value).all() for value in values)


@pytest.mark.slow
@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_two_steps_of_the_whole_network(path: Path, datasets: Dict[str, Any]) -> None:
    config = load_config(path)
    model = {k: v for k, v in config.model.items() if k != 'pretrained_base'}
    _, losses = learn(config, datasets[config.data.dataset], model,
                      config.joint.system['frozen_stages'])
    assert all(np.isfinite(value) for found in losses for value in found.values())


def test_every_row_has_a_config_and_every_config_its_row() -> None:
    rows = {(table.id, row.id): EXPERIMENTS / row.config
            for table in TABLES.values() for row in table.rows}
    assert sorted(rows.values()) == CONFIGS
    for (table, row), path in rows.items():
        config = load_config(path)
        assert (config.row.paper, config.row.table, config.row.row) == ('panoptic_fpn', table, row)
        assert not config.row.reduced and config.model['name'] in MODELS
        assert config.data.dataset in path.name or table == 'detectron2'
        text = path.read_text()
        assert 'Published (' in text and 'Here: not measured' in text


def test_the_rates_are_those_of_the_official_schedules(kit: Path) -> None:
    official = json.loads((kit / 'training' / 'schedule.json').read_text())
    for name in ('1x', '3x'):
        stage = load_config(EXPERIMENTS / f'panoptic_fpn/detectron2_r50_{name}.yaml').joint
        assert (stage.steps, stage.batch_size) == (official[name]['max_iter'],
                                                   official[name]['ims_per_batch'])
        schedule = build_schedule(stage.optimizer, stage.steps, 7000)
        for step, rate in official[name]['lr_at']:
            assert schedule(step) == pytest.approx(rate)


@pytest.mark.parametrize('table', TABLES)
def test_the_tables_are_printed(table: str, capsys: pytest.CaptureFixture,
                                tmp_path: Path) -> None:
    assert main(['table', 'panoptic_fpn', table, '--results', str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert shown.count('no run yet: adaptis ') == len(TABLES[table].rows)
