"""Every command with a detector: two steps on a miniature, resumed, measured and used."""
from __future__ import annotations

import json
import signal
from pathlib import Path

import numpy as np
import pytest

from adaptis.cli import main
from adaptis.data.augment import Crop
from adaptis.data.batches import BatchSource
from adaptis.data.datasets import open_dataset
from adaptis.engine import trainer
from adaptis.engine.steps import train_step
from adaptis.evaluation.coco import PanopticFolder
from adaptis.files import write_image
from adaptis.runtime import mx
from panoptic_baselines.rcnn.targets import DetectionTargets
from tests.miniatures import write_cityscapes, write_coco
from tests.panoptic_baselines.convert.test_official import arrays_of, write

CONFIG = '''
data: {{root: coco, dataset: coco, augmentation: flip, val_split: val}}
model:
  name: {name}_r18
  fpn_channels: 32
  anchor_sizes: [8, 16, 32, 64, 128]
{model}joint:
  steps: 2
  batch_size: 2
  short_side: [48, 64]
  max_side: 96
  system: {{{system}}}
  optimizer: {{name: torchsgd, lr: 0.002, wd: 1e-4, schedule: step, milestone_steps: [1],
              options: {{momentum: 0.9}}}}
inference: {{preset: coco, short_side: 64, detections_per_image: 10, stuff_area_limit: 10,
            proposals_per_level: 50, proposals: 50, score_threshold: 0.0}}
workers: 0
log_every: 1
pictures_every: 2
evaluation_images: 1
validation: {{every: 2, images: 1}}
'''
INSTANCES = '  box_channels: 16\n  mask_channels: 8\n'
SEMANTIC = '  semantic_channels: 32\n'
NETWORKS = {'panoptic_fpn': (INSTANCES + SEMANTIC, 'rois: 16, updates: alternate'),
            'mask_rcnn': (INSTANCES, 'rois: 16'), 'semantic_fpn': (SEMANTIC, '')}


@pytest.fixture(scope='module', params=NETWORKS)
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a data set, a config and what training by it has left in ``run``."""
    folder = tmp_path_factory.mktemp(request.param)
    write_coco(folder / 'coco', splits=('train', 'val'), size=(48, 64))
    model, system = NETWORKS[request.param]
    (folder / 'run.yaml').write_text(CONFIG.format(name=request.param, model=model, system=system))
    assert train(folder, 'run') == 0
    return folder


def train(place: Path, output: str, *more: str) -> int:
    return main(['train', str(place / 'run.yaml'), '--data', str(place / 'coco'), '--ctx', 'cpu',
                 '--output', str(place / output), *more])


def parameters(path: Path) -> dict:
    return {name: array.asnumpy() for name, array in mx.nd.load(str(path)).items()}


def test_crops_of_photos_are_padded_with_what_is_ignored(tmp_path: Path) -> None:
    """The Cityscapes recipe (section 4.1): random scale, crop, flip, colours."""
    write_cityscapes(tmp_path, splits=('train',), size=(48, 64))
    dataset = open_dataset('cityscapes', tmp_path, 'train')
    source = BatchSource(dataset, 3, None, augmentation='cityscapes', crop_until=9,
                         crop=Crop((64, 96), (0.5, 2.0)),
                         targets=DetectionTargets(dataset.taxonomy))
    batches = [source.batch(step) for step in range(4)]
    for batch in batches:
        assert batch['image'].shape == (3, 3, 64, 96) and (batch['sizes'] == (64, 96)).all()
        assert batch['instances'].min() == 0 and batch['semantic'].min() == -1
        assert batch['instances'].max() == (batch['classes'] >= 0).sum(axis=1).max()
    assert any((batch['classes'] >= 0).any() for batch in batches)


def test_what_training_leaves(place: Path) -> None:
    log = [json.loads(line) for line in (place / 'run' / 'log.jsonl').read_text().splitlines()]
    steps = [entry for entry in log if entry['kind'] == 'train']
    assert [entry['lr'] for entry in steps] == pytest.approx([0.002, 0.0002])
    named = {'rpn_objectness', 'masks'} if 'semantic' not in place.name else set()
    named |= {'semantic'} if 'mask_rcnn' not in place.name else set()
    assert all(named <= set(entry) for entry in steps)
    (validated,) = [entry for entry in log if entry['kind'] == 'validation']
    assert ('ap' in validated) == ('semantic' not in place.name)
    assert (place / 'run' / 'best.params').exists()
    assert [p.name for p in (place / 'run' / 'pictures').iterdir()] == ['joint-00000002.png']
    record = json.loads((place / 'run' / 'evaluation.json').read_text())
    assert record['metrics']['images'] == 1
    assert record['settings']['inference']['detections_per_image'] == 10


@pytest.mark.parametrize('place', ['panoptic_fpn', 'mask_rcnn'], indirect=True)
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
    workers = int('mask_rcnn' in place.name)
    assert train(place, 'again', '--resume', *quick, '--set', f'workers={workers}') == 0
    whole, again = (parameters(place / name / 'final.params') for name in ('run', 'again'))
    for name, array in whole.items():
        np.testing.assert_array_equal(array, again[name], err_msg=name)


def test_evaluating_a_config_and_a_checkpoint(place: Path, tmp_path: Path) -> None:
    checkpoint = place / 'run' / 'final.params'
    for more, out in (([str(place / 'run.yaml')], 'a.json'),
                      (['--dataset', 'coco'], 'b.json')):
        assert main(['evaluate', *more, '--data', str(place / 'coco'), '--ctx', 'cpu', '--split',
                     'val', '--checkpoint', str(checkpoint), '--limit', '2',
                     '--save', str(tmp_path / out[0]), '--out', str(tmp_path / out)]) == 0
    a, b = (json.loads((tmp_path / name).read_text())['metrics'] for name in ('a.json', 'b.json'))
    assert a == b and a['images'] == 2
    PanopticFolder(tmp_path / 'a' / 'panoptic.json')
    found = a['objects']['false'] + a['objects']['found']
    instances = json.loads((tmp_path / 'a' / 'instances.json').read_text())
    if 'semantic' not in place.name:  # those too of which nothing is left when they are merged
        assert len(instances) > found


def test_predicting(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    image = tmp_path / 'a.png'
    write_image(image, np.random.RandomState(0).randint(0, 256, (40, 56, 3)).astype(np.uint8))
    checkpoint = ['--checkpoint', str(place / 'run' / 'final.params')]
    network = json.loads((place / 'run' / 'final.json').read_text())['model']['name']

    def predict(*more: str) -> int:
        return main(['predict', str(image), '--out', str(tmp_path / 'out'), *more])

    assert predict(*checkpoint, '--model', network, '--preset', 'toy') == 0
    assert (tmp_path / 'out' / 'overlay' / 'a.png').is_file()
    assert predict(*checkpoint, '--model', 'panoptic_fpn_r50') == 1
    assert 'holds no panoptic_fpn_r50: its' in capsys.readouterr().err
    assert predict('--model', 'panoptic_fpn_r50') == 1
    assert 'give a trained network with --checkpoint' in capsys.readouterr().err
    assert predict(*checkpoint, '--click', '1', '1') == 1
    assert 'but --click works only' in capsys.readouterr().err
    assert predict(*checkpoint, '--flip') == 1
    assert "no inference setting 'flip'" in capsys.readouterr().err


def test_an_official_file_is_converted_and_used(tmp_path: Path,
                                                capsys: pytest.CaptureFixture) -> None:
    source, image = tmp_path / 'model.pkl', tmp_path / 'a.png'
    write(source, {name: 1e-3 * array for name, array in arrays_of().items()})
    write_image(image, np.zeros((40, 56, 3), np.uint8))
    target = str(tmp_path / 'net.params')
    assert main(['convert', str(source), target]) == 0
    assert '0 not; wrote' in capsys.readouterr().out
    arguments = [str(image), '--checkpoint', target, '--out', str(tmp_path / 'out')]
    assert main(['predict', *arguments, '--preset', 'toy', '--model', 'panoptic_fpn_r18']) == 0
    assert main(['predict', *arguments, '--model', 'mask_rcnn_r18']) == 1
    assert 'holds no mask_rcnn_r18: its semantic is True, not False' in capsys.readouterr().err
    source.write_bytes(b'\x80\x04cos\nsystem\n(S"touch /tmp/mine"\ntR.')
    assert main(['convert', str(source), str(tmp_path / 'other.params')]) == 1
    assert "is refused: it asks for 'os.system'" in capsys.readouterr().err
