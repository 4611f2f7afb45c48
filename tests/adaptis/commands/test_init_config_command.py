"""``adaptis init-config``: what it writes loads, fits the data, and trains."""
from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from adaptis.cli import main
from adaptis.config import load_config
from adaptis.errors import AdaptisError
from adaptis.model import get_model
from adaptis.model.zoo import load_pretrained, read_arrays
from adaptis.weights import PRETRAINED
from tests.miniatures import write_cityscapes, write_coco, write_instances, write_vistas


@pytest.fixture(scope='module')
def coco(tmp_path_factory: Any) -> Path:
    root = tmp_path_factory.mktemp('coco')
    write_coco(root, splits=['train', 'val'])
    return root


def written(path: Path, model: str, root: Path, *more: str) -> Any:
    assert main(['init-config', model, '--data', str(root), '--out', str(path), *more]) == 0
    return load_config(path)


@pytest.mark.parametrize('model', ['adaptis_toy', 'adaptis_fpn', 'condinst_r18', 'mask_rcnn_r18',
                                   'semantic_fpn_r18', 'unified_r18', 'dense_detections_r18'])
def test_every_system_gets_a_config_that_loads(coco: Path, model: str, capsys: Any) -> None:
    assert main(['init-config', model, '--data', str(coco)]) == 0
    text = capsys.readouterr().out
    content = yaml.safe_load(text)
    assert content['model']['name'] == model and content['data']['root'] == str(coco)
    assert '3 training images of 96x128; splits: train, val.' in text
    assert '&' not in text.replace('& ', '')   # no YAML aliases


@pytest.mark.parametrize('write, dataset, val_split', [
    (write_cityscapes, 'cityscapes', 'val'), (write_vistas, 'vistas', 'val')])
def test_other_data_sets_are_recognized(tmp_path: Path, write: Any, dataset: str,
                                        val_split: str) -> None:
    write(tmp_path / 'data', splits=['train', 'val'])
    config = written(tmp_path / 'c.yaml', 'adaptis_fpn', tmp_path / 'data')
    assert (config.data.dataset, config.data.val_split) == (dataset, val_split)


def test_toys_are_recognized(tmp_path: Path) -> None:
    assert main(['toy', '--out', str(tmp_path / 'toy'), '--count', '2', '--workers', '1']) == 0
    config = written(tmp_path / 'c.yaml', 'adaptis_toy', tmp_path / 'toy')
    assert config.data.dataset == 'toy' and config.initial_weights == 'toy_v1'
    assert config.instances.crop == 96 and config.instances.scale is None


def test_instances_alone_and_no_other_split(tmp_path: Path, capsys: Any) -> None:
    write_coco(tmp_path / 'data', splits=['train'])
    write_instances(tmp_path / 'data', splits=['train'])
    (tmp_path / 'data' / 'annotations' / 'panoptic_train2017.json').unlink()
    config = written(tmp_path / 'c.yaml', 'mask_rcnn_r18', tmp_path / 'data')
    assert (config.data.annotation, config.data.val_split) == ('instances', 'train')
    assert 'There is no other split' in (tmp_path / 'c.yaml').read_text()
    assert main(['check-data', str(tmp_path / 'c.yaml'), '--processes', '1']) == 0
    assert main(['init-config', 'unified_r18', '--data', str(tmp_path / 'data')]) == 1
    assert 'no category of stuff, but unified_r18' in capsys.readouterr().err


@pytest.mark.parametrize('arguments, words', [
    (['adaptis_tay', '--data', 'data'], 'There is no network "adaptis_tay"'),
    (['adaptis_toy', '--data', 'nowhere'], 'The folder nowhere does not exist'),
    (['adaptis_toy', '--data', '.'], 'no labelled images in a supported format'),
    (['adaptis_toy', '--data', 'labels'], 'must be imported first: run adaptis import labels'),
    (['adaptis_toy', '--data', 'data', '--out', 'taken.yaml'], 'taken.yaml already exists'),
])
def test_mistakes_are_a_sentence(tmp_path: Path, coco: Path, arguments: list, words: str,
                                 capsys: Any, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    if 'data' in arguments:
        shutil.copytree(coco, 'data')
    if 'labels' in arguments:
        Path('labels').mkdir()
        Path('labels/a.json').write_text(json.dumps({'shapes': [
            {'label': 'a', 'points': [[0, 0], [1, 0], [1, 1]]}]}))
    Path('taken.yaml').write_text('{}')
    assert main(['init-config', *arguments]) == 1
    error = capsys.readouterr().err
    assert words in error and error.count('\n') == 1


@pytest.mark.slow
@pytest.mark.parametrize('model', ['adaptis_toy', 'condinst_r18', 'mask_rcnn_r18',
                                   'panoptic_fpn_r18', 'dense_detections_r18', 'unified_r18'])
@pytest.mark.timeout(600)
def test_what_it_writes_trains(tmp_path: Path, coco: Path, model: str, capsys: Any) -> None:
    config = written(tmp_path / 'c.yaml', model, coco)
    stages = ['instances', 'proposals'] if model == 'adaptis_toy' else ['joint']
    changes = [f'{stage}.{key}' for stage in stages for key in (
        'steps=2', 'batch_size=1', 'optimizer.warmup_steps=0')]
    sets = [part for change in [*changes, 'evaluation_images=1', 'validation.every=0',
                                  'pictures_every=0']
            for part in ('--set', change)]
    assert main(['train', str(tmp_path / 'c.yaml'), '--output', str(tmp_path / 'run'), '--ctx',
                 'cpu', *sets]) == 0
    printed = capsys.readouterr().out
    other_classes = 'toy_v1 was trained on other classes' in printed
    assert other_classes == (config.initial_weights is not None)
    assert (tmp_path / 'run' / 'final.params').is_file()


def test_weights_of_other_classes_start_what_they_can() -> None:
    net = get_model('adaptis_toy', width=16, num_classes=6, num_stuff=3)
    net.initialize()
    load_pretrained(net, PRETRAINED['toy_v1'], {6})
    arrays, anew = read_arrays(PRETRAINED['toy_v1']), []
    for name, parameter in net._collect_params_with_prefix().items():
        if parameter.shape == arrays[name].shape:
            np.testing.assert_array_equal(parameter.data().asnumpy(),
                                          arrays[name].astype('float32').asnumpy())
        else:
            anew.append(name)
    assert len(anew) == 2 and all('semantic' in name for name in anew)
    other = get_model('adaptis_toy', width=8, num_classes=6, num_stuff=3)
    other.initialize()
    with pytest.raises(AdaptisError, match='belongs to another network'):
        load_pretrained(other, PRETRAINED['toy_v1'], {6})
