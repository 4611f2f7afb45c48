"""The unified system by the commands: two steps on a miniature, stopped, resumed, measured."""
from __future__ import annotations

import json
import signal
from pathlib import Path

import numpy as np
import pytest

from adaptis.cli import main
from adaptis.engine import trainer
from adaptis.engine.steps import train_step
from adaptis.evaluation.coco import PanopticFolder
from adaptis.runtime import mx
from tests.miniatures import write_cityscapes

CONFIG = '''
data: {root: cityscapes, dataset: cityscapes, augmentation: cityscapes, val_split: val}
model: {name: unified_r18, fpn_channels: 32, semantic_channels: 32, affinity_channels: 16,
        box_channels: 16, mask_channels: 8, deformable: false, anchor_sizes: [8, 16, 32, 64, 128]}
joint:
  steps: 2
  batch_size: 2
  crop: [48, 64]
  scale: [0.5, 2.0]
  system: {rois: 16, detection_weight: 0.25, semantic_weight: 1.0, panoptic_weight: 1.0,
           semantic_loss: lovasz}
  optimizer: {name: torchsgd, lr: 0.002, wd: 1e-4, options: {momentum: 0.9}, schedule: step,
              milestone_steps: [1]}
inference: {preset: cityscapes, short_side: 48, max_side: 64, detections_per_image: 10,
            instance_score: 0.1, proposals_per_level: 50, proposals: 50}
workers: 0
log_every: 1
pictures_every: 0
evaluation_images: 1
validation: {every: 0}
'''


@pytest.fixture(scope='module')
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a data set, a config and what training by it has left in ``run``."""
    folder = tmp_path_factory.mktemp('unified')
    write_cityscapes(folder / 'cityscapes', splits=('train', 'val'), size=(48, 64), images=2)
    (folder / 'run.yaml').write_text(CONFIG)
    assert train(folder, 'run') == 0
    return folder


def train(place: Path, output: str, *more: str) -> int:
    return main(['train', str(place / 'run.yaml'), '--data', str(place / 'cityscapes'), '--ctx',
                 'cpu', '--output', str(place / output), *more])


def test_what_training_leaves(place: Path) -> None:
    log = [json.loads(line) for line in (place / 'run' / 'log.jsonl').read_text().splitlines()]
    steps = [entry for entry in log if entry['kind'] == 'train']
    assert len(steps) == 2
    assert all({'panoptic', 'semantic', 'masks', 'detections', 'matched'} <= set(s) for s in steps)
    record = json.loads((place / 'run' / 'evaluation.json').read_text())
    assert record['metrics']['images'] == 1
    assert record['settings']['inference']['merge'] == 'unified'


def test_a_resumed_run_ends_in_the_same_network(place: Path,
                                                monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: object) -> dict:
        signal.raise_signal(signal.SIGINT)
        return train_step(*arguments)

    quick = ('--set', 'evaluation_images=0')
    with monkeypatch.context() as patch:
        patch.setattr(trainer, 'train_step', interrupted)
        assert train(place, 'again', *quick) == 130
    assert train(place, 'again', '--resume', *quick) == 0
    whole, again = (mx.nd.load(str(place / name / 'final.params')) for name in ('run', 'again'))
    assert any(name.startswith('affinity') for name in whole)
    for name, array in whole.items():
        np.testing.assert_array_equal(array.asnumpy(), again[name].asnumpy(), err_msg=name)


@pytest.mark.parametrize('merge', ['unified', 'heuristic'])
def test_one_training_and_two_inferences(place: Path, tmp_path: Path, merge: str) -> None:
    """Models C1 and C2, D1 and D2 of table 1."""
    config = tmp_path / 'row.yaml'
    config.write_text(f'base: {place / "run.yaml"}\ninference: {{merge: {merge}}}\n')
    assert main(['evaluate', str(config), '--data', str(place / 'cityscapes'), '--ctx', 'cpu',
                 '--checkpoint', str(place / 'run' / 'final.params'), '--limit', '1',
                 '--save', str(tmp_path / 'out'), '--out', str(tmp_path / 'out.json')]) == 0
    assert json.loads((tmp_path / 'out.json').read_text())['metrics']['images'] == 1
    PanopticFolder(tmp_path / 'out' / 'panoptic.json')
