"""One epoch on a miniature of each real data set: all stages, validation, pictures, evaluation."""
from __future__ import annotations

import json
import signal
from pathlib import Path

import numpy as np
import pytest

from adaptis.cli import main
from adaptis.engine import trainer
from adaptis.engine.steps import train_step
from adaptis.loading import load_predictor
from adaptis.runtime import mx
from tests.devices import ctx_option
from tests.miniatures import write_cityscapes, write_coco, write_vistas

WRITERS = {'cityscapes': write_cityscapes, 'vistas': write_vistas, 'coco': write_coco}
CONFIG = '''
data: {{root: {name}, dataset: {name}, augmentation: {name}, val_split: val}}
model: {{name: adaptis_deeplab, backbone: resnet18, width: 8, norm_layer: SyncBatchNorm}}
instances:
  epochs: 1
  batch_size: 1
  points: 3
  min_object_area: 4
  ignore_object_prob: 0.1
  crop: [64, 96]
  scale: [0.7, 1.3]
  empty_crop_prob: 0.1
  optimizer: {{lr: 1e-3, backbone_lr_mult: 0.1, schedule: step, milestone_epochs: [0.5]}}
proposals:
  epochs: 1
  batch_size: 3
  points: 8
  crop: [64, 96]
  max_side: 120
  optimizer: {{lr: 1e-3}}
inference: {{preset: {name}, flip: false, max_candidates: 3, short_side: 64}}
workers: 0
log_every: 1
pictures_every: 3
checkpoint_steps: 2
evaluation_images: 2
validation: {{every: 3, images: 2, points: 2}}
'''


@pytest.fixture(scope='module', params=[
    pytest.param(name, marks=[] if name == 'cityscapes' else pytest.mark.slow)
    for name in WRITERS])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a config and its data set."""
    folder = tmp_path_factory.mktemp(request.param)
    WRITERS[request.param](folder / request.param, splits=('train', 'val'))
    (folder / 'run.yaml').write_text(CONFIG.format(name=request.param))
    return folder


def train(place: Path, output: str, *more: str) -> int:
    data = next(path for path in place.iterdir() if path.name in WRITERS)
    return main(['train', str(place / 'run.yaml'), '--data', str(data), *ctx_option(),
                 '--output', str(place / output), *more])


def parameters(path: Path) -> dict:
    return {name: array.asnumpy() for name, array in mx.nd.load(str(path)).items()}


def test_an_epoch(place: Path) -> None:
    assert train(place, 'run') == 0
    run = place / 'run'
    log = [json.loads(line) for line in (run / 'log.jsonl').read_text().splitlines()]
    rates = [r['lr'] for r in log if r['kind'] == 'train' and r['stage'] == 'instances']
    assert rates == pytest.approx([1e-3, 1e-3, 1e-4])  # the third step begins after epoch 0.5
    assert all(np.isfinite(r['instances']) for r in log if 'instances' in r)
    assert {p.name for p in (run / 'pictures').iterdir()} == {'instances-00000003.png',
                                                              'proposals-00000001.png'}
    record = json.loads((run / 'evaluation.json').read_text())
    assert record['metrics']['images'] == 2
    assert record['settings']['inference']['max_candidates'] == 3
    described = json.loads((run / 'final.json').read_text())
    assert described['model']['num_classes'] == len(described['taxonomy'])
    assert described['config']['model']['norm_layer'] == 'SyncBatchNorm'
    predictor = load_predictor(run / 'final.params')
    assert len(predictor.taxonomy) == len(described['taxonomy'])


def test_the_stages_change_what_they_should_and_no_more(place: Path) -> None:
    checkpoints = place / 'run' / 'checkpoints'
    before, after = (parameters(checkpoints / name / 'net.params')
                     for name in ('0-instances-00000003', '1-proposals-00000001'))
    changed = {name for name in before if (before[name] != after[name]).any()}
    assert changed and all(name.startswith('encoder.proposals') for name in changed)


@pytest.mark.parametrize('place', ['cityscapes'], indirect=True)
def test_a_resumed_epoch_ends_in_the_same_network(place: Path,
                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def interrupted(*arguments: object) -> dict:
        calls.append(arguments)
        if len(calls) == 2:
            signal.raise_signal(signal.SIGINT)
        return train_step(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(trainer, 'train_step', interrupted)
        assert train(place, 'again') == 130
    assert [p.name for p in (place / 'again' / 'checkpoints').iterdir()] == ['0-instances-00000002']
    assert train(place, 'again', '--resume', '--set', 'evaluation_images=0') == 0
    whole, again = (parameters(place / name / 'final.params') for name in ('run', 'again'))
    for name, array in whole.items():
        np.testing.assert_array_equal(array, again[name], err_msg=name)
