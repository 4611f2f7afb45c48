"""The configs of the papers' tables: each builds its network and learns for two steps.

A paper is one more entry of ``PAPERS``.
"""
from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Callable
from unittest import mock

import numpy as np
import pytest

from adaptis.cli import main
from adaptis.config import TrainConfig, load_config
from adaptis.data.datasets import open_dataset
from adaptis.engine.schedules import build_schedule
from adaptis.loading import inference_settings
from panoptic_baselines.layers.resnet import RESNET_SPECS
from panoptic_baselines.models import MODELS
from tests.miniatures import write_cityscapes, write_coco, write_instances
from tests.panoptic_baselines.rows import EXPERIMENTS, SIZE, Learnt, Losses, Paper, learn, whole

ALL = 5  # stages of a backbone, whose training takes longest; other tests have it


def check_panoptic_fpn(config: TrainConfig, net: Any, losses: list[Losses]) -> None:
    """Each branch learns in its turn, if the network has it and its weight is not 0."""
    assert net.has_instances == ('semantic_fpn' not in config.model['name'])
    assert net.has_semantic == ('mask_rcnn' not in config.model['name'])
    options = config.joint.system
    for step, found in enumerate(losses):
        for branch, there, key in (('instances', net.has_instances, 'instance_weight'),
                                   ('semantic', net.has_semantic, 'semantic_weight')):
            turn = options['updates'] != 'alternate' or step % 2 == (branch == 'semantic')
            names = [name for name in found if (name == 'semantic') == (branch == 'semantic')]
            learned = any(found[name] > 0 for name in names)
            assert learned == (there and turn and options[key] > 0)


def check_condinst(config: TrainConfig, net: Any, losses: list[Losses]) -> None:
    """Everything that the network has is learned."""
    wanted = {'classes', 'boxes', 'centerness', 'masks'}
    wanted |= {branch for branch in ('things', 'semantic') if config.model.get(branch)}
    for found in losses:
        assert wanted == {name for name in found if name != 'positives'}
        assert all(found[name] > 0 for name in wanted)


def check_dense(config: TrainConfig, net: Any, losses: list[Losses]) -> None:
    """Everything that is asked for is learned; masks, once something is detected."""
    wanted = {'classes', 'boxes', 'centerness', 'semantic'}
    wanted |= {'levelness'} if config.model.get('levelness', True) else set()
    wanted |= {'masks'} if config.joint.system['mask_loss'] else set()
    for found in losses:
        assert set(found) == wanted
        assert found['classes'] > 0 and found['semantic'] > 0


def check_unified(config: TrainConfig, net: Any, losses: list[Losses]) -> None:
    """The network is the model that is asked for, and all that it has is learned."""
    model = config.model
    assert net.has_masks == model['masks'] and (net.affinity is not None) == model['affinity']
    assert net.has_masks or inference_settings(config).merge == 'unified'
    end_to_end = config.joint.system['panoptic_weight'] > 0
    assert end_to_end == model['affinity']   # models A and C have neither (section 4.1)
    wanted = {'rpn_objectness', 'rpn_boxes', 'classes', 'boxes', 'semantic'}
    wanted |= {'masks'} if model['masks'] else set()
    wanted |= {'panoptic'} if end_to_end else set()
    for found in losses:
        assert set(found) == wanted
        assert found['semantic'] > 0 and (not end_to_end or found['panoptic'] > 0)


PAPERS = [
    Paper('panoptic_fpn',
          small={'fpn_channels': 32, 'box_channels': 16, 'mask_channels': 8,
                 'anchor_sizes': [8, 16, 32, 64, 128]},
          defaults={'semantic_channels': 128, 'semantic_join': 'sum', 'merge_things': True,
                    'grouped_fpn': False},
          system={'rois': 16}, check=check_panoptic_fpn),
    Paper('condinst', small={'fpn_channels': 32, 'branch_channels': 8}, check=check_condinst),
    Paper('dense_detections',
          small={'fpn_channels': 16, 'class_channels': 8, 'box_channels': 16},
          defaults={'towers': 2, 'levelness': True}, check=check_dense),
    Paper('unified',
          small={'fpn_channels': 16, 'semantic_channels': 32, 'affinity_channels': 8,
                 'box_channels': 16, 'mask_channels': 8, 'anchor_sizes': [8, 16, 32, 64, 128]},
          system={'rois': 16}, check=check_unified),
]
ROWS = [pytest.param(paper, path, id=f'{paper.name}-{path.stem}')
        for paper in PAPERS for path in paper.configs]
TABLES = [pytest.param(paper, table, id=f'{paper.name}-{table}')
          for paper in PAPERS for table in paper.tables]


@pytest.fixture(scope='module')
def datasets(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Any]:
    """Miniatures by name and annotation."""
    folder = tmp_path_factory.mktemp('data')
    write_coco(folder / 'coco', splits=('train',), size=SIZE, images=2)
    write_instances(folder / 'coco', splits=('train',), size=SIZE, images=2)
    write_cityscapes(folder / 'cityscapes', splits=('train',), size=SIZE, images=2)
    return {(name, annotation): open_dataset(name, folder / name, 'train', annotation=annotation)
            for name, annotation in (('coco', 'panoptic'), ('coco', 'instances'), ('coco', 'both'),
                                     ('cityscapes', 'panoptic'))}


@pytest.fixture(scope='module')
def learned(datasets: dict[tuple[str, str], Any]) -> Callable[[Paper, TrainConfig], Learnt]:
    """``learn`` with small networks, once for configs that come to the same.

    The backbone has but one block in a stage.
    """
    known: dict[str, Learnt] = {}
    short = RESNET_SPECS['resnet18']._replace(blocks=(1, 1, 1, 1))

    def look_up(paper: Paper, config: TrainConfig) -> Learnt:
        key = paper.key(config)
        if key not in known:
            with mock.patch.dict(RESNET_SPECS, resnet18=short):
                known[key] = learn(config, datasets[data_of(config)], paper.model(config),
                                   {**paper.system, 'frozen_stages': ALL})
        return known[key]

    return look_up


def data_of(config: TrainConfig) -> tuple[str, str]:
    """Data set and annotation of a config."""
    return config.data.dataset, config.data.annotation


@pytest.mark.parametrize('paper, path', ROWS)
def test_two_steps_on_a_miniature(paper: Paper, path: Path,
                                  learned: Callable[[Paper, TrainConfig], Learnt]) -> None:
    config = load_config(path)
    system, losses = learned(paper, config)
    assert all(np.isfinite(value) for found in losses for value in found.values())
    values = [p.data().asnumpy() for p in system.parameters().values()]
    assert values and all(np.isfinite(value).all() for value in values)
    paper.check(config, system.net, losses)


@pytest.mark.slow
@pytest.mark.parametrize('paper, path', ROWS)
def test_two_steps_of_the_whole_network(paper: Paper, path: Path,
                                        datasets: dict[tuple[str, str], Any]) -> None:
    config = load_config(path)
    _, losses = learn(config, datasets[data_of(config)], whole(config), paper.system)
    assert all(np.isfinite(value) for found in losses for value in found.values())


@pytest.mark.parametrize('paper', PAPERS, ids=lambda paper: paper.name)
def test_every_row_has_a_config_and_every_config_its_row(paper: Paper) -> None:
    rows = {(table.id, row.id): EXPERIMENTS / row.config
            for table in paper.tables.values() for row in table.rows if row.config}
    assert sorted(rows.values()) == paper.configs
    for (table, row), path in rows.items():
        config = load_config(path)
        assert (config.row.paper, config.row.table, config.row.row) == (paper.name, table, row)
        assert not config.row.reduced and config.model['name'] in MODELS
        assert path.stem.split('_')[0] in (config.data.dataset, table)
        assert set(config.inference) <= {'preset', *vars(inference_settings(config))}
        text = path.read_text()
        assert 'Published (' in text and 'Here: not measured' in text


@pytest.mark.parametrize('path, key, value', [
    ('panoptic_fpn/cityscapes_r50', 'joint.system.instance_weight', 0.5),
    ('panoptic_fpn/cityscapes_r50', 'data.augmentation', 'flip'),
    ('panoptic_fpn/cityscapes_lambda_s_025', 'joint.system.instance_weight', 1.0),
    ('panoptic_fpn/cityscapes_r50_alternate', 'joint.steps', 130000),
    ('panoptic_fpn/coco_r50_alternate', 'joint.steps', 180000),
    ('panoptic_fpn/coco_r50_two', 'model.separate', True),
    ('condinst/coco_r50_1x', 'joint.system.positives', 'score'),
    ('condinst/coco_r50_1x', 'model.mask_factor', 2),
    ('condinst/cityscapes_r50_coco_sem', 'model.mask_factor', 4),
    ('condinst/cityscapes_r50_coco_sem_trainval_test', 'data.split', 'train+val'),
    ('condinst/coco_panoptic_dcn101_test', 'model.bifpn_repeats', None),
    ('condinst/coco_panoptic_dcn101_test', 'model.fpn_channels', 256),
    ('condinst/coco_panoptic_r101_test', 'data.val_split', 'test'),
    ('condinst/adelaidet_r50_1x', 'joint.system.positives', 'random'),
    ('dense_detections/cityscapes_r50', 'model.semantic_stride', 4),
    ('dense_detections/cityscapes_half_r18', 'joint.crop_first', True),
    ('dense_detections/coco_r50', 'joint.system.bias_lr_mult', 2.0),
    ('unified/cityscapes_c2', 'joint.system.panoptic_weight', 0.0),
    ('unified/cityscapes_c1', 'joint.system.panoptic_weight', 0.0),
    ('toy_v1_mask_rcnn', 'joint.optimizer.lr', 0.001),
    ('toy_v1_mask_rcnn', 'joint.optimizer.milestone_epochs', [35, 45])])
def test_recipes_are_the_papers(path: str, key: str, value: Any) -> None:
    found = load_config(EXPERIMENTS / f'{path}.yaml').to_dict()
    for part in key.split('.'):
        found = found.get(part)
    assert found == value


def test_dense_detections_are_found_as_in_the_paper() -> None:
    for name, size in (('coco_r50', 1333), ('cityscapes_r50', 1024), ('cityscapes_half_r34', 512)):
        settings = inference_settings(load_config(EXPERIMENTS / f'dense_detections/{name}.yaml'))
        assert (settings.location, settings.mask_threshold) == ('iou', 0.3)
        assert (settings.agnostic_nms_threshold, settings.short_side) == (1, size)


@pytest.mark.parametrize('paper', PAPERS, ids=lambda paper: paper.name)
def test_every_value_says_where_it_is_from(paper: Paper) -> None:
    """In the configs that others have as their base; and none is remembered alone."""
    for path in paper.configs:
        text = path.read_text()
        assert not re.search('memory|issue|not known|check it', text), path
        if '\nbase: ' in text:
            continue
        for section in re.findall(r'^(?:data|model|joint):\n((?: .*\n)+)', text, re.MULTILINE):
            section = re.sub(r'(?<=augmentation:).*\n(    .*\n)+', '', section)
            for line in re.findall(r'^ +(?!root)\w+: .*', section, re.MULTILINE):
                assert re.search('# .*(paper|official|kit|choice)', line), (path, line)


def test_the_rates_of_panoptic_fpn_are_the_official_ones(kit: Path) -> None:
    official = json.loads((kit / 'training' / 'schedule.json').read_text())
    for name in ('1x', '3x'):
        stage = load_config(EXPERIMENTS / f'panoptic_fpn/detectron2_r50_{name}.yaml').joint
        assert (stage.steps, stage.batch_size) == (official[name]['max_iter'],
                                                   official[name]['ims_per_batch'])
        schedule = build_schedule(stage.optimizer, stage.steps, 7000)
        for step, rate in official[name]['lr_at']:
            assert schedule(step) == pytest.approx(rate)


def test_the_rates_of_condinst_are_the_official_ones(parity_root: Path) -> None:
    path = parity_root / 'condinst' / 'ops' / 'lr_schedule.npz'
    if not path.is_file():
        pytest.skip(f'no golden data at {path}')
    with np.load(path) as official:
        for name, steps in (('1x', 90000), ('3x', 270000)):
            stage = load_config(EXPERIMENTS / f'condinst/adelaidet_r50_{name}.yaml').joint
            assert (stage.steps, stage.batch_size) == (steps, 16)
            schedule = build_schedule(stage.optimizer, stage.steps, 7000)
            rates = [schedule(step) for step in official[f'iters_{name}'].tolist()]
            np.testing.assert_allclose(rates, official[f'lr_{name}'], rtol=1e-12)


@pytest.mark.parametrize('data', ['cityscapes', 'coco'])
def test_rates_and_weights_of_the_unified_system_are_the_papers(parity_root: Path,
                                                                data: str) -> None:
    path = parity_root / 'unified' / 'hand.json'
    if not path.is_file():
        pytest.skip(f'no golden data at {path}')
    known = json.loads(path.read_text())
    config = load_config(EXPERIMENTS / 'unified' / f'{data}_r50.yaml')
    schedule = build_schedule(config.joint.optimizer, config.joint.steps, 7000)
    for step, rate in known[f'lr_{data}'].items():
        assert schedule(int(step)) == pytest.approx(rate)
    for name, weight in known['loss_weights'][data].items():
        assert config.joint.system[f'{name}_weight'] == weight
    assert inference_settings(config).instance_score == known['score_threshold'][data]


def test_one_training_of_the_unified_system_and_several_measurements() -> None:
    """A config that measures a network of another one describes the same network and training."""
    folder, shared = EXPERIMENTS / 'unified', {}
    for path in folder.glob('*.yaml'):
        config = load_config(path)
        if config.checkpoint:
            trained = Path(config.checkpoint).parent.name[len('unified_'):]
            other = load_config(folder / f'{trained}.yaml')
            assert other.checkpoint is None
            assert (config.model, config.joint, config.data) == (other.model, other.joint,
                                                                 other.data), path
            shared.setdefault(trained, set()).add(path.stem.split('_', 1)[1])
    assert {'c1'} == shared['cityscapes_c2'] and {'d1', 'd2'} <= shared['cityscapes_r50']


@pytest.mark.parametrize('paper, table', TABLES)
def test_the_tables_are_printed(paper: Paper, table: str, capsys: pytest.CaptureFixture,
                                tmp_path: Path) -> None:
    assert main(['table', paper.name, table, '--results', str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert shown.count('no run yet: adaptis ') == sum(
        row.config is not None for row in paper.tables[table].rows)
    if (paper.name, table) == ('unified', '1'):   # one training and two inferences
        assert shown.count('no run yet: adaptis train') == 2
        assert ('cityscapes_c1.yaml, once runs/unified_cityscapes_c2/final.params exists'
                in shown)
