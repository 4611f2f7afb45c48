"""Data with only things or only stuff: the messages of each network, and training."""
from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from adaptis.cli import main
from adaptis.errors import AdaptisError
from adaptis.registry import find_family
from adaptis.types import Category, Taxonomy
from tests.miniatures import edit_json, write_coco

THINGS = Taxonomy([Category(1, 'ball', True), Category(2, 'box', True)])
STUFF = Taxonomy([Category(1, 'sky', False), Category(2, 'road', False)])
DO_WITHOUT_STUFF = ['adaptis_toy', 'adaptis_fpn', 'mask_rcnn_r18', 'condinst_r18']
NEED_STUFF = ['panoptic_fpn_r18', 'semantic_fpn_r18', 'unified_r18', 'dense_detections_r18']
CONFIG = """
data: {{root: {root}, dataset: coco, augmentation: flip, val_split: val}}
model: {{{model}}}
{stage}
workers: 0
pictures_every: 0
validation: {{every: 0}}
"""
JOINT = 'joint: {steps: 1, batch_size: 1, short_side: 64, optimizer: {lr: 1e-3}}'
SMALL = 'norm_layer: BatchNorm, fpn_channels: 32'


def check(name: str, taxonomy: Taxonomy, **options: Any) -> None:
    find_family(name).check_taxonomy({'name': name, **options}, taxonomy)


def test_networks_say_in_the_users_terms_what_the_data_lack() -> None:
    for name in DO_WITHOUT_STUFF:
        check(name, THINGS)
        with pytest.raises(AdaptisError, match=f'no category of things, but {name}'):
            check(name, STUFF)
    for name in NEED_STUFF:
        with pytest.raises(AdaptisError, match=f'no category of stuff, but {name}.*mask_rcnn'):
            check(name, THINGS)
    check('semantic_fpn_r18', STUFF)
    with pytest.raises(AdaptisError, match='no category of stuff, but condinst_r50'):
        check('condinst_r50', THINGS, semantic=True)


def write(root: Path, isthing: int, model: str, stage: str) -> Path:
    """Data whose categories are all of one kind (the others are void), and a config."""
    def keep(data: dict) -> None:
        data['categories'] = [c for c in data['categories'] if c['isthing'] == isthing]
        kept = {c['id'] for c in data['categories']}
        for entry in data['annotations']:
            for segment in entry['segments_info']:
                if segment['category_id'] not in kept:
                    segment['category_id'] = max(kept)

    write_coco(root, splits=['train', 'val'], images=2)
    for split in ('train', 'val'):
        edit_json(root / 'annotations' / f'panoptic_{split}2017.json', keep)
    path = root / 'run.yaml'
    path.write_text(CONFIG.format(root=root, model=model, stage=stage))
    return path


def test_check_data_refuses_what_training_would(tmp_path: Path, capsys: Any) -> None:
    config = write(tmp_path, 1, 'name: panoptic_fpn_r18', JOINT)
    assert main(['check-data', str(config), '--processes', '1']) == 1
    assert 'no category of stuff, but panoptic_fpn_r18' in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize('isthing, model, stage', [
    (1, 'name: adaptis_toy, width: 4',
     'instances: {steps: 1, batch_size: 1, points: 2, crop: 32, optimizer: {lr: 1e-3}}'),
    (1, f'name: mask_rcnn_r18, {SMALL}, box_channels: 16, mask_channels: 8', JOINT),
    (1, f'name: condinst_r18, {SMALL}', JOINT),
    (0, f'name: semantic_fpn_r18, {SMALL}', JOINT)])
def test_networks_train_on_one_kind_of_categories(tmp_path: Path, isthing: int, model: str,
                                                  stage: str) -> None:
    config = write(tmp_path, isthing, model, stage)
    assert main(['check-data', str(config), '--processes', '1']) == 0
    assert main(['train', str(config), '--output', str(tmp_path / 'run'), '--ctx', 'cpu']) == 0
    assert (tmp_path / 'run' / 'evaluation.json').is_file()
