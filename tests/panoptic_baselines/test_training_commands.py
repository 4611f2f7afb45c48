"""Every port on the command line: two steps on a miniature, stop, resume, evaluate, predict."""
from __future__ import annotations

import json
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from adaptis.cli import main
from adaptis.engine import trainer
from adaptis.engine.steps import train_step
from adaptis.evaluation.coco import PanopticFolder
from adaptis.files import write_image
from adaptis.runtime import mx
from tests.devices import ctx_option
from tests.miniatures import write_cityscapes, write_coco, write_instances

OPTIMIZER = {'name': 'torchsgd', 'lr': 0.002, 'wd': 1e-4, 'schedule': 'step',
             'milestone_steps': [1], 'options': {'momentum': 0.9}}
COCO: dict[str, Any] = {
    'data': {'root': 'coco', 'dataset': 'coco', 'augmentation': 'flip', 'val_split': 'val'},
    'joint': {'steps': 2, 'batch_size': 2, 'short_side': [48, 64], 'max_side': 96,
              'optimizer': OPTIMIZER},
    'inference': {'preset': 'coco', 'short_side': 64, 'detections_per_image': 10,
                  'stuff_area_limit': 10, 'score_threshold': 0.0},
    'workers': 0, 'log_every': 1, 'pictures_every': 2, 'evaluation_images': 1,
    'validation': {'every': 2, 'images': 1}}
CITYSCAPES: dict[str, Any] = {
    'data': {'root': 'cityscapes', 'dataset': 'cityscapes', 'augmentation': 'cityscapes',
             'val_split': 'val'},
    'joint': {'steps': 2, 'batch_size': 2, 'crop': [48, 64], 'scale': [0.5, 2.0],
              'optimizer': OPTIMIZER},
    'inference': {'preset': 'cityscapes', 'short_side': 48, 'max_side': 64,
                  'detections_per_image': 10},
    'workers': 0, 'log_every': 1, 'pictures_every': 0, 'evaluation_images': 1,
    'validation': {'every': 0}}
QUICK = [word for key in ('evaluation_images', 'pictures_every', 'validation.every')
         for word in ('--set', f'{key}=0')]


class Case(NamedTuple):
    """A network to train, and what shows that it was.

    ``joint``, ``inference`` : added to what the config of its data has
    ``logged`` : of every step; ``validated`` : which measures a validation has and has not
    ``setting`` : of inference, from the preset or the config, as the record keeps it
    ``quick`` : it is neither validated nor measured nor drawn
    ``workers`` : processes that a resumed run has
    ``annotation`` : of COCO
    """

    model: Mapping[str, Any]
    system: Mapping[str, Any]
    logged: set[str]
    validated: Mapping[str, bool]
    setting: tuple[str, Any]
    joint: Mapping[str, Any] = {}
    inference: Mapping[str, Any] = {}
    config: Mapping[str, Any] = COCO
    quick: bool = False
    workers: int = 0
    annotation: str = 'panoptic'


_CONDINST = {'name': 'condinst_r18', 'fpn_channels': 32, 'branch_channels': 16}
_DENSE = {'name': 'dense_detections_r18', 'fpn_channels': 16, 'class_channels': 8,
          'box_channels': 16}
_SIZES = {'sizes': [16, 32, 64, 128]}
_ONE_STAGE: dict[str, Any] = dict(joint={'micro_batch': 1},
                                  inference={'candidates_per_level': 20})
_CROP_FIRST = {'short_side': None, 'max_side': None, 'crop': [32, 40], 'scale': [0.7, 1.3],
               'crop_first': True}
_PYRAMID = {'fpn_channels': 32, 'anchor_sizes': [8, 16, 32, 64, 128]}
_BOXES, _SEMANTIC = {'box_channels': 16, 'mask_channels': 8}, {'semantic_channels': 32}
_TWO_STAGE: dict[str, Any] = dict(inference={'proposals_per_level': 50, 'proposals': 50},
                                  setting=('detections_per_image', 10))
_DENSE_LOGGED = {'classes', 'boxes', 'centerness', 'levelness', 'semantic'}
_CONDINST_LOGGED = {'classes', 'boxes', 'centerness', 'masks', 'positives'}

CASES = {
    'condinst': Case(
        {**_CONDINST, 'semantic_channels': 32, 'head_depth': 1, 'semantic': True, 'things': True},
        {'positives': 'score', 'limit': 5}, _CONDINST_LOGGED | {'things', 'semantic'},
        {'ap': True, 'pq': True}, ('candidates_per_level', 20), **_ONE_STAGE),
    'condinst instances': Case(
        {**_CONDINST, 'semantic_channels': 32, 'head_depth': 1, 'mask_width': 4}, {'limit': 3},
        _CONDINST_LOGGED, {'ap': True, 'pq': False}, ('candidates_per_level', 20), workers=1,
        annotation='instances', **_ONE_STAGE),
    'dense_detections': Case(
        _DENSE, {**_SIZES, 'semantic_weight': 0.4}, _DENSE_LOGGED | {'masks', 'queries'},
        {'ap': True, 'pq': True}, ('agnostic_nms_threshold', 1), workers=1, **_ONE_STAGE),
    'dense_detections boxes': Case(
        _DENSE, {**_SIZES, 'supervision': 'boxes', 'mask_loss': False}, _DENSE_LOGGED, {},
        ('agnostic_nms_threshold', 1), joint={'micro_batch': 1, **_CROP_FIRST}, quick=True,
        inference=_ONE_STAGE['inference']),
    'panoptic_fpn': Case(
        {'name': 'panoptic_fpn_r18', **_PYRAMID, **_BOXES, **_SEMANTIC},
        {'rois': 16, 'updates': 'alternate'}, {'rpn_objectness', 'masks', 'semantic'},
        {'ap': True}, **_TWO_STAGE),
    'mask_rcnn': Case({'name': 'mask_rcnn_r18', **_PYRAMID, **_BOXES}, {'rois': 16},
                      {'rpn_objectness', 'masks'}, {'ap': True}, workers=1, **_TWO_STAGE),
    'semantic_fpn': Case({'name': 'semantic_fpn_r18', **_PYRAMID, **_SEMANTIC}, {}, {'semantic'},
                         {'ap': False}, **_TWO_STAGE),
    'unified': Case(
        {'name': 'unified_r18', **_PYRAMID, **_BOXES, **_SEMANTIC, 'affinity_channels': 16,
         'deformable': False},
        {'rois': 16, 'detection_weight': 0.25, 'semantic_weight': 1.0, 'panoptic_weight': 1.0,
         'semantic_loss': 'lovasz'},
        {'panoptic', 'semantic', 'masks', 'detections', 'matched'}, {}, ('merge', 'unified'),
        inference={**_TWO_STAGE['inference'], 'instance_score': 0.1}, config=CITYSCAPES),
}
ALL = [pytest.param(name, marks=pytest.mark.slow) if name == 'condinst instances' else name
       for name in CASES]


def some(*left_out: str) -> Any:
    """Marks a test of the trained networks but those; all by masks."""
    return pytest.mark.parametrize(
        'trained', [p for p in ALL if p not in left_out and p != 'dense_detections boxes'],
        indirect=True)


class Trained(NamedTuple):
    """A folder with a data set, a config and what training by it has left in ``run``."""

    folder: Path
    name: str
    case: Case

    @property
    def checkpoint(self) -> Path:
        """The network at the end."""
        return self.folder / 'run' / 'final.params'


def prepare(folder: Path, name: str) -> Trained:
    """Write a case's data set and config."""
    case = CASES[name]
    data = case.config['data']['dataset']
    if data == 'coco':
        write_coco(folder / data, splits=('train', 'val'), size=(48, 64))
        write_instances(folder / data, splits=('train', 'val'), size=(48, 64))
    else:
        write_cityscapes(folder / data, splits=('train', 'val'), size=(48, 64), images=2)
    (folder / 'run.yaml').write_text(json.dumps({
        **case.config, 'model': case.model,
        'data': {**case.config['data'], 'annotation': case.annotation},
        'joint': {**case.config['joint'], **case.joint, 'system': case.system},
        'inference': {**case.config['inference'], **case.inference}}))
    return Trained(folder, name, case)


def data_of(trained: Trained) -> list[str]:
    return ['--data', str(trained.folder / trained.case.config['data']['root']), *ctx_option()]


def train(trained: Trained, output: str, *more: str) -> int:
    return main(['train', str(trained.folder / 'run.yaml'), *data_of(trained),
                 '--output', str(trained.folder / output), *more])


@pytest.fixture(scope='module', params=ALL)
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A case after two steps."""
    ready = prepare(tmp_path_factory.mktemp('trained'), request.param)
    assert train(ready, 'run', *(QUICK if ready.case.quick else [])) == 0
    return ready


def parameters(path: Path) -> dict[str, np.ndarray]:
    return {name: array.asnumpy() for name, array in mx.nd.load(str(path)).items()}


def test_what_training_leaves(trained: Trained) -> None:
    run, case = trained.folder / 'run', trained.case
    log = [json.loads(line) for line in (run / 'log.jsonl').read_text().splitlines()]
    steps = [entry for entry in log if entry['kind'] == 'train']
    assert [entry['lr'] for entry in steps] == pytest.approx([0.002, 0.0002])
    assert all(case.logged <= set(entry) for entry in steps)
    assert all('masks' in case.logged or 'masks' not in entry for entry in steps)
    validations = [entry for entry in log if entry['kind'] == 'validation']
    assert len(validations) == (1 if case.validated else 0)
    for entry in validations:
        assert {name: name in entry for name in case.validated} == case.validated
        assert (run / 'best.params').exists()
        assert [p.name for p in (run / 'pictures').iterdir()] == ['joint-00000002.png']
    if not case.quick:
        record = json.loads((run / 'evaluation.json').read_text())
        setting, value = case.setting
        assert record['metrics']['images'] == 1
        assert record['settings']['inference'][setting] == value


@pytest.mark.parametrize(
    'trained', ['condinst', *(pytest.param(name, marks=pytest.mark.slow) for name in (
        'panoptic_fpn', 'mask_rcnn', 'dense_detections', 'unified'))], indirect=True)
def test_a_resumed_run_ends_in_the_same_network(trained: Trained,
                                                monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: object) -> dict:
        signal.raise_signal(signal.SIGINT)
        return train_step(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(trainer, 'train_step', interrupted)
        assert train(trained, 'again', *QUICK) == 130
    workers = f'workers={trained.case.workers}'
    assert train(trained, 'again', '--resume', *QUICK, '--set', workers) == 0
    whole, again = (parameters(trained.folder / name / 'final.params') for name in ('run', 'again'))
    for name, array in whole.items():
        np.testing.assert_array_equal(array, again[name], err_msg=name)


@some('unified')
def test_a_checkpoint_is_measured_the_same_with_a_config_and_without(
        trained: Trained, tmp_path: Path) -> None:
    options = ['--dataset', 'coco', '--annotation', trained.case.annotation]
    for more, out in (([str(trained.folder / 'run.yaml')], 'a'), (options, 'b')):
        assert main(['evaluate', *more, *data_of(trained), '--split', 'val', '--limit', '2',
                     '--checkpoint', str(trained.checkpoint), '--save', str(tmp_path / out),
                     '--out', str(tmp_path / f'{out}.json')]) == 0
    a, b = (json.loads((tmp_path / f'{name}.json').read_text())['metrics'] for name in 'ab')
    assert a == b and a['images'] == 2
    PanopticFolder(tmp_path / 'a' / 'panoptic.json')
    if trained.name == 'dense_detections':
        assert {'pq', 'ap', 'miou'} <= set(a)
    if trained.name in ('panoptic_fpn', 'mask_rcnn'):
        # Those too of which nothing is left when they are merged.
        instances = json.loads((tmp_path / 'a' / 'instances.json').read_text())
        assert len(instances) > a['objects']['false'] + a['objects']['found']


@pytest.mark.parametrize('trained', ALL[:2], indirect=True)
def test_objects_that_overlap(trained: Trained, tmp_path: Path) -> None:
    panoptic = trained.case.annotation == 'panoptic'
    annotation = 'both' if panoptic else 'instances'
    for more, out in (([], 'a'), (['--annotation', annotation], 'b')):
        assert main(['evaluate', str(trained.folder / 'run.yaml'), *data_of(trained), *more,
                     '--checkpoint', str(trained.checkpoint), '--limit', '1',
                     '--out', str(tmp_path / f'{out}.json')]) == 0
    a, b = (json.loads((tmp_path / f'{name}.json').read_text()) for name in 'ab')
    for metrics in (a['metrics'], b['metrics']):
        assert {'ap_coco', 'ap_box'} <= set(metrics) and ('pq' in metrics) == panoptic
    assert a['metrics'].get('pq') == b['metrics'].get('pq')
    assert b['settings']['annotation'] == annotation
    assert a['speed']['seconds_per_image'] > 0


@pytest.mark.parametrize('trained', ['unified'], indirect=True)
@pytest.mark.parametrize('merge', ['unified', 'heuristic'])
def test_one_training_and_two_inferences(trained: Trained, tmp_path: Path, merge: str) -> None:
    """Models C1 and C2, D1 and D2 of the unified network's table 1."""
    config = tmp_path / 'row.yaml'
    config.write_text(f'base: {trained.folder / "run.yaml"}\ninference: {{merge: {merge}}}\n')
    assert main(['evaluate', str(config), *data_of(trained), '--limit', '1',
                 '--checkpoint', str(trained.checkpoint), '--save', str(tmp_path / 'out'),
                 '--out', str(tmp_path / 'out.json')]) == 0
    assert json.loads((tmp_path / 'out.json').read_text())['metrics']['images'] == 1
    PanopticFolder(tmp_path / 'out' / 'panoptic.json')
    assert any(name.startswith('affinity') for name in mx.nd.load(str(trained.checkpoint)))


@pytest.mark.parametrize('trained', ['panoptic_fpn', 'mask_rcnn', 'semantic_fpn'], indirect=True)
def test_predicting(trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    image = tmp_path / 'a.png'
    write_image(image, np.random.RandomState(0).randint(0, 256, (40, 56, 3)).astype(np.uint8))
    checkpoint = ['--checkpoint', str(trained.checkpoint)]
    network = trained.case.model['name']

    def predict(*more: str) -> int:
        return main(['predict', str(image), '--out', str(tmp_path / 'out'), *more])

    assert predict(*checkpoint, '--model', network, '--preset', 'toy') == 0
    assert (tmp_path / 'out' / 'overlay' / 'a.png').is_file()
    assert predict(*checkpoint, '--model', 'panoptic_fpn_r50') == 1
    assert 'does not contain panoptic_fpn_r50: its' in capsys.readouterr().err
    assert predict('--model', 'panoptic_fpn_r50') == 1
    assert 'give a trained network with --checkpoint' in capsys.readouterr().err
    assert predict(*checkpoint, '--click', '1', '1') == 1
    assert '--click works only' in capsys.readouterr().err
    assert predict(*checkpoint, '--flip') == 1
    assert "no inference setting 'flip'" in capsys.readouterr().err


@pytest.mark.parametrize('name', ['condinst instances', 'dense_detections',
                                  'dense_detections boxes'])
def test_a_rate_that_is_far_too_high(name: str, tmp_path: Path,
                                     capsys: pytest.CaptureFixture) -> None:
    ready = prepare(tmp_path, name)
    assert train(ready, 'run', *QUICK, '--set', 'joint.steps=4',
                 '--set', 'joint.optimizer.lr=1e30') == 1
    error = capsys.readouterr().err
    assert 'lower the learning rate' in error and 'Traceback' not in error


def test_options_that_make_no_sense(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    ready = prepare(tmp_path, 'dense_detections boxes')
    for option, message in (('radius=1.5', 'radius'), ('mask_loss=true', 'mask_loss needs masks')):
        assert train(ready, 'run', '--set', f'joint.system.{option}') == 1
        assert message in capsys.readouterr().err
