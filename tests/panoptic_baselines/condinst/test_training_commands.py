"""Training CondInst by the commands: two steps on a miniature, resumed, measured."""
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
from tests.miniatures import write_coco, write_instances

CONFIG = '''
data: {{root: coco, dataset: coco, augmentation: flip, val_split: val, annotation: {annotation}}}
model: {{name: condinst_r18, fpn_channels: 32, branch_channels: 16, semantic_channels: 32,
        head_depth: 1, {model}}}
joint:
  steps: 2
  batch_size: 2
  micro_batch: 1
  short_side: [48, 64]
  max_side: 96
  system: {{{system}}}
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
NETWORKS = {'panoptic': ('semantic: true, things: true', 'positives: score, limit: 5'),
            'instances': ('mask_width: 4', 'limit: 3')}


def configure(folder: Path, name: str, lr: float = 0.002) -> None:
    model, system = NETWORKS[name]
    (folder / 'run.yaml').write_text(CONFIG.format(model=model, system=system, lr=lr,
                                                   annotation=name))


@pytest.fixture(scope='module', params=[
    'panoptic', pytest.param('instances', marks=pytest.mark.slow)])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a data set, a config and what training by it has left in ``run``."""
    folder = tmp_path_factory.mktemp(request.param)
    write_coco(folder / 'coco', splits=('train', 'val'), size=(48, 64))
    write_instances(folder / 'coco', splits=('train', 'val'), size=(48, 64))
    configure(folder, request.param)
    assert train(folder, 'run') == 0
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
    panoptic = 'panoptic' in place.name
    named = {'classes', 'boxes', 'centerness', 'masks', 'positives'}
    named |= {'things', 'semantic'} if panoptic else set()
    assert all(named <= set(entry) for entry in steps)
    (validated,) = [entry for entry in log if entry['kind'] == 'validation']
    assert 'ap' in validated and ('pq' in validated) == panoptic
    assert [p.name for p in (place / 'run' / 'pictures').iterdir()] == ['joint-00000002.png']
    record = json.loads((place / 'run' / 'evaluation.json').read_text())
    assert record['metrics']['images'] == 1
    assert record['settings']['inference']['candidates_per_level'] == 20


def test_a_resumed_run_ends_in_the_same_network(place: Path,
                                                monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: object) -> dict:
        signal.raise_signal(signal.SIGINT)
        return train_step(*arguments)

    quick = [word for key in ('evaluation_images', 'pictures_every', 'validation.every')
             for word in ('--set', f'{key}=0')]
    with monkeypatch.context() as patch:
        patch.setattr(trainer, 'train_step', interrupted)
        assert train(place, 'again', *quick) == 130
    workers = int('instances' in place.name)
    assert train(place, 'again', '--resume', *quick, '--set', f'workers={workers}') == 0
    whole, again = (parameters(place / name / 'final.params') for name in ('run', 'again'))
    for name, array in whole.items():
        np.testing.assert_array_equal(array, again[name], err_msg=name)


def test_evaluating(place: Path, tmp_path: Path) -> None:
    panoptic = 'panoptic' in place.name
    own = [] if panoptic else ['--annotation', 'instances']
    for more, out in (([str(place / 'run.yaml')], 'a.json'),
                      (['--dataset', 'coco', *own], 'b.json'),
                      ([str(place / 'run.yaml'), '--annotation',
                        'both' if panoptic else 'instances'], 'c.json')):
        assert main(['evaluate', *more, '--data', str(place / 'coco'), '--ctx', 'cpu', '--split',
                     'val', '--checkpoint', str(place / 'run' / 'final.params'), '--limit', '1',
                     '--out', str(tmp_path / out)]) == 0
    records = [json.loads((tmp_path / f'{name}.json').read_text()) for name in 'abc']
    metrics = [record['metrics'] for record in records]
    assert metrics[0] == metrics[1]
    assert {'ap_coco', 'ap_box'} <= set(metrics[0]) and ('pq' in metrics[0]) == panoptic
    assert metrics[0].get('pq') == metrics[2].get('pq')
    assert records[2]['settings']['annotation'] == ('both' if panoptic else 'instances')
    assert records[0]['speed']['seconds_per_image'] > 0


def test_a_run_that_diverges_says_so(place: Path, capsys: pytest.CaptureFixture) -> None:
    configure(place, 'instances', lr=1e30)
    assert train(place, 'far', '--set', 'validation.every=0') == 1
    assert 'lower the learning rate' in capsys.readouterr().err
