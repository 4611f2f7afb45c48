"""Recipes for photographs have the values of the paper and of the official script."""
from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from adaptis.config import load_config
from adaptis.data.augment import Crop, check_augmentation
from adaptis.data.batches import BatchSource
from adaptis.data.datasets import open_dataset
from adaptis.engine.schedules import build_schedule
from adaptis.engine.steps import make_optimizer
from adaptis.engine.trainer import _crop
from adaptis.inference.settings import PRESETS
from adaptis.loading import inference_settings
from adaptis.losses import INSTANCE_LOSSES
from adaptis.system import AdaptISSystem
from tests.miniatures import write_cityscapes, write_coco, write_vistas

EXPERIMENTS = Path(__file__).resolve().parents[2] / 'experiments'
PHOTOS = ('cityscapes', 'vistas', 'coco')
RECIPES = [EXPERIMENTS / data / 'r50.yaml' for data in PHOTOS]
RECIPES.append(EXPERIMENTS / 'cityscapes' / 'r50_official.yaml')


def short(path: Path) -> str:
    return f'{path.parent.name}/{path.stem}'


# Data set: epochs, drops, images, points, crop and rescaling (section 7).
PAPER = {
    'cityscapes': (260, [240, 255], 8, 6, Crop((400, 800), (0.2, 1.2))),
    'vistas': (65, [50, 60], 8, 6, Crop((400, 800), long_side=(500, 2200))),
    'coco': (20, [15, 19], 16, 8, Crop((544, 544), (0.5, 1.0), short_side=700)),
}


@pytest.mark.parametrize('data', PHOTOS)
@pytest.mark.parametrize('backbone', ['r50', 'r101', 'x101'])
def test_the_paper_s_recipes_hold_the_paper_s_numbers(data: str, backbone: str) -> None:
    config = load_config(EXPERIMENTS / data / f'{backbone}.yaml')
    epochs, drops, images, points, crop = PAPER[data]
    stage = config.instances
    assert (stage.epochs, stage.batch_size, stage.points) == (epochs, images, points)
    assert _crop(stage) == _crop(config.proposals) == crop
    assert stage.optimizer.milestone_epochs == drops and stage.optimizer.factor == 0.1
    for each in (stage.optimizer, config.proposals.optimizer):
        assert (each.name, each.lr, each.options) == ('adam', 1e-4, {'beta1': 0.9, 'beta2': 0.999})
    assert stage.optimizer.lr * stage.optimizer.backbone_lr_mult == pytest.approx(5e-5)
    assert config.proposals.points == 48 and config.model['radius'] == 280
    assert inference_settings(config) == PRESETS[data]
    rate = build_schedule(stage.optimizer, epochs * 100, 100)
    assert [round(rate(epoch * 100) * 1e6, 6) for epoch in (0, *drops)] == [100, 10, 1]


def test_the_official_recipe_holds_the_script_s_numbers() -> None:
    config = load_config(EXPERIMENTS / 'cityscapes' / 'r50_official.yaml')
    first, second = config.instances, config.proposals
    assert (first.epochs, first.batch_size, first.points, first.crop, first.scale) == (
        250, 8, 6, [400, 720], [0.85, 1.15])
    assert (second.epochs, second.batch_size, second.points, second.crop, second.scale) == (
        8, 8, 48, [400, 720], [0.85, 1.15])
    assert first.empty_crop_prob == second.empty_crop_prob == 0.05
    assert first.ignore_object_prob == second.ignore_object_prob == 0.025
    sgd = first.optimizer
    assert (sgd.name, sgd.lr, sgd.wd, sgd.options, sgd.backbone_lr_mult) == (
        'sgd', 0.01, 1e-4, {'momentum': 0.9}, 0.1)
    for optimizer, shape in ((sgd, lambda done: 0.01 * (1 - done) ** 0.9),
                             (second.optimizer, lambda done: 2.5e-4 * (1 + np.cos(np.pi * done)))):
        make_optimizer(optimizer)
        rate = build_schedule(optimizer, 1000)
        assert [rate(step) for step in (0, 250, 999)] == pytest.approx(
            [shape(step / 1000) for step in (0, 250, 999)])
    assert config.data.augmentation['shift_rotate'] == {'shift': 0.03, 'degrees': 3, 'prob': 0.75}
    assert inference_settings(config) == PRESETS['cityscapes_official']


@pytest.mark.parametrize('path', RECIPES, ids=short)
def test_each_value_says_where_it_is_from(path: Path) -> None:
    lines = path.read_text().split('\nseed:')[1].splitlines()
    for line in lines[1:]:
        named = re.fullmatch(r'\s*(\w+): +\S.*', line)
        inside_augmentation = line.startswith('    ') and '{' in line and 'prob:' in line
        if named and named[1] not in ('root', 'row', 'dataset') and not inside_augmentation:
            assert re.search(r'# (paper|official|choice|as above)', line), line
        assert 'memory' not in line and 'issue' not in line


@pytest.mark.parametrize('path', sorted(p for data in PHOTOS
                                        for p in (EXPERIMENTS / data).glob('*.yaml')), ids=short)
def test_every_photographic_config_has_losses_and_augmentation_that_there_are(path: Path) -> None:
    config = load_config(path)
    check_augmentation(config.data.augmentation)
    for name, stage in config.stages():
        AdaptISSystem(_AnyNetwork(), name, **stage.system)
    assert config.instances.system['instance_loss'] in INSTANCE_LOSSES


@pytest.mark.parametrize('path', RECIPES, ids=short)
def test_batches_come_from_a_miniature_as_the_recipe_wants(path: Path, tmp_path: Path) -> None:
    config = load_config(path)
    write = {'cityscapes': write_cityscapes, 'vistas': write_vistas, 'coco': write_coco}
    write[config.data.dataset](tmp_path, splits=('train',))
    dataset = open_dataset(config.data.dataset, tmp_path, config.data.split)
    stage = config.instances
    source = BatchSource(dataset, 2, stage.points, augmentation=config.data.augmentation,
                         crop=_crop(stage), crop_until=9, min_object_area=stage.min_object_area,
                         empty_crop_prob=stage.empty_crop_prob,
                         ignore_object_prob=stage.ignore_object_prob)
    batch = source.batch(0)
    assert batch['image'].shape == (2, 3, *stage.crop)
    assert batch['points'].shape == (2, stage.points, 2)
    assert (batch['instances'] == 1).any() and (batch['semantic'] >= 0).any()


class _Block:
    def hybridize(self, active: bool) -> None:
        pass

    def without_proposals(self) -> _Block:
        return self


class _AnyNetwork(_Block):
    has_proposals = True
    encoder = _Block()
