"""Everything happens on the device that was asked for, while MXNet's current context is another.

That is how a GPU is used.  Contexts of the CPU stand in for it.
"""
from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adaptis.cli import main
from adaptis.files import write_image
from adaptis.runtime import mx
from tests.devices import separated
from tests.panoptic_baselines.devices_worker import SYSTEMS, learn
from toy_data import ToySettings, generate

OTHER = 'cpu:1'
CONFIG = {
    'data': {'root': 'data', 'augmentation': 'toy_v1'},
    'model': {'name': 'adaptis_toy', 'width': 4},
    **{stage: {'steps': 1, 'batch_size': 2, 'points': 2, 'optimizer': {'lr': 1e-3},
               'system': {'hybridize': hybridize}}
       for stage, hybridize in (('instances', False), ('proposals', True))},
    'workers': 0, 'log_every': 1, 'pictures_every': 1, 'evaluation_images': 1,
    'validation': {'every': 1, 'images': 1, 'points': 2}}


@pytest.fixture(autouse=True)
def strict() -> Iterator[None]:
    """Refuse what GPUs would refuse."""
    with separated():
        yield


@pytest.mark.parametrize('name', SYSTEMS)
def test_ports_learn_and_predict_where_their_parameters_are(name: str) -> None:
    *_, system = learn(name, [mx.cpu(1)], hybridize=name in ('panoptic_fpn', 'dense_detections'))
    family_settings = {'short_side': 64, 'max_side': 64, 'score_threshold': 0.0,
                       'detections_per_image': 5}
    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3)).astype(np.uint8)
    predictor = system.predictor(system.net, system.taxonomy, 'coco')
    predictor.settings = predictor.settings.replace(**family_settings)
    assert predictor.set_image(image).panoptic().segment_map.shape == (48, 64)
    assert predictor.instances() is not None


def test_adaptis_trains_there_by_command(tmp_path: Path) -> None:
    settings = ToySettings.default('v1', height=32, width=32, min_objects=2, max_objects=3)
    generate(settings, tmp_path / 'data', {'train': 2, 'test': 1})
    (tmp_path / 'run.yaml').write_text(json.dumps(CONFIG))
    arguments: list[Any] = ['train', tmp_path / 'run.yaml', '--data', tmp_path / 'data', '--ctx',
                            OTHER, '--output', tmp_path / 'run']
    assert main(list(map(str, arguments))) == 0
    assert json.loads((tmp_path / 'run' / 'evaluation.json').read_text())['metrics']['pq']


def test_predictions_by_command_are_the_same_there(tmp_path: Path) -> None:
    write_image(tmp_path / 'a.png', np.random.default_rng(0).integers(
        0, 256, (48, 40, 3)).astype(np.uint8))
    for ctx in ('cpu', OTHER):
        assert main(['predict', str(tmp_path / 'a.png'), '--out', str(tmp_path / ctx[-1]),
                     '--ctx', ctx, '--flip', '--click', '20', '20']) == 0
    files = [sorted(p for p in (tmp_path / ctx[-1]).rglob('*') if p.is_file())
             for ctx in ('cpu', OTHER)]
    assert len(files[0]) == len(files[1]) >= 2
    for here, there in zip(*files):
        assert here.read_bytes() == there.read_bytes(), there.name
