"""Training dense detections by the commands: two steps on a miniature, resumed, measured."""
from __future__ import annotations

import json
import signal
from pathlib import Path

import numpy as np
import pytest

from adaptis.cli import main
from adaptis.engine import trainer
from adaptis.engine.steps import train_step
from adaptis.runtime import mx
from tests.miniatures import write_coco

CONFIG = '''
data: {{root: coco, dataset: coco, augmentation: flip, val_split: val}}
model: {{name: dense_detections_r18, fpn_channels: 16, class_channels: 8, box_channels: 16}}
joint:
  steps: 2
  batch_size: 2
  micro_batch: 1
  short_side: [48, 64]
  max_side: 96
  system: {{sizes: [16, 32, 64, 128], {system}}}
  optimizer: {{name: torchsgd, lr: {lr}, wd: 1e-4, schedule: step, milestone_steps: [1],
              options: {{momentum: 0.9}}}}
inference: {{preset: coco, short_side: 64, detections_per_image: 10, stuff_area_limit: 10,
            score_threshold: 0.0, candidates_per_level: 20}}
workers: 0
log_every: 1
pictures_every: 2
evaluation_images: 1
validation: {{every: 2, images: 1}}
'''
QUICK = [word for key in ('evaluation_images', 'pictures_every', 'validation.every')
         for word in ('--set', f'{key}=0')]
CROPPED = [word for change in ('short_side=null', 'max_side=null', 'crop=[32, 40]',
                               'scale=[0.7, 1.3]', 'crop_first=true')
           for word in ('--set', f'joint.{change}')]
SUPERVISION = {'masks': 'semantic_weight: 0.4', 'boxes': 'supervision: boxes, mask_loss: false'}


def configure(folder: Path, supervision: str, lr: float = 0.002) -> None:
    (folder / 'run.yaml').write_text(CONFIG.format(system=SUPERVISION[supervision], lr=lr))


@pytest.fixture(scope='module', params=['masks', 'boxes'])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a data set, a config and what training by it has left in ``run``."""
    folder = tmp_path_factory.mktemp(request.param)
    write_coco(folder / 'coco', splits=('train', 'val'), size=(48, 64))
    configure(folder, request.param)
    assert train(folder, 'run', *(QUICK + CROPPED if request.param == 'boxes' else [])) == 0
    return folder


def train(place: Path, output: str, *more: str) -> int:
    return main(['train', str(place / 'run.yaml'), '--data', str(place / 'coco'), '--ctx', 'cpu',
                 '--output', str(place / output), *more])


def parameters(path: Path) -> dict:
    return {name: array.asnumpy() for name, array in mx.nd.load(str(path)).items()}


def test_what_training_leaves(place: Path) -> None:
    log = [json.loads(line) for line in (place / 'run' / 'log.jsonl').read_text().splitlines()]
    steps = [entry for entry in log if entry['kind'] == 'train']
    assert [entry['lr'] for entry in steps] == pytest.approx([0.002, 0.0002])
    by_masks = 'masks' in place.name
    named = {'classes', 'boxes', 'centerness', 'levelness', 'semantic'}
    assert all(named <= set(entry) for entry in steps)
    assert all(('masks' in entry, 'queries' in entry) == (by_masks, by_masks) for entry in steps)
    if not by_masks:   # has shown what differs
        return
    (validated,) = [entry for entry in log if entry['kind'] == 'validation']
    assert 'ap' in validated and 'pq' in validated
    assert [p.name for p in (place / 'run' / 'pictures').iterdir()] == ['joint-00000002.png']
    record = json.loads((place / 'run' / 'evaluation.json').read_text())
    assert record['metrics']['images'] == 1
    assert record['settings']['inference']['agnostic_nms_threshold'] == 1


@pytest.mark.parametrize('place', ['masks'], indirect=True)
def test_a_resumed_run_ends_in_the_same_network(place: Path,
                                                monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: object) -> dict:
        signal.raise_signal(signal.SIGINT)
        return train_step(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(trainer, 'train_step', interrupted)
        assert train(place, 'again', *QUICK) == 130
    assert train(place, 'again', '--resume', *QUICK, '--set', 'workers=1') == 0
    whole, again = (parameters(place / name / 'final.params') for name in ('run', 'again'))
    for name, array in whole.items():
        np.testing.assert_array_equal(array, again[name], err_msg=name)


@pytest.mark.parametrize('place', ['masks'], indirect=True)
def test_measuring_what_was_trained(place: Path, tmp_path: Path) -> None:
    assert main(['evaluate', str(place / 'run.yaml'), '--data', str(place / 'coco'), '--ctx',
                 'cpu', '--split', 'val', '--limit', '2', '--out', str(tmp_path / 'a.json'),
                 '--checkpoint', str(place / 'run' / 'final.params')]) == 0
    metrics = json.loads((tmp_path / 'a.json').read_text())['metrics']
    assert metrics['images'] == 2 and {'pq', 'ap', 'miou'} <= set(metrics)


@pytest.mark.parametrize('supervision', SUPERVISION)
def test_a_rate_that_is_far_too_high(tmp_path: Path, capsys: pytest.CaptureFixture,
                                     supervision: str) -> None:
    write_coco(tmp_path / 'coco', splits=('train', 'val'), size=(48, 64))
    configure(tmp_path, supervision, lr=1e30)
    assert train(tmp_path, 'run', '--set', 'joint.steps=4') == 1
    error = capsys.readouterr().err
    assert 'lower the learning rate' in error and 'Traceback' not in error


@pytest.mark.parametrize('place', ['boxes'], indirect=True)
def test_options_that_make_no_sense(place: Path, capsys: pytest.CaptureFixture) -> None:
    for option, message in (('radius=1.5', 'radius'), ('mask_loss=true', 'mask_loss needs masks')):
        assert train(place, 'other', '--set', f'joint.system.{option}') == 1
        assert message in capsys.readouterr().err
