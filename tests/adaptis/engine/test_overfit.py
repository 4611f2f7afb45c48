"""The real network overfits eight images, in both stages, within a minute."""
from __future__ import annotations

import json
from pathlib import Path

import pytest

from adaptis.cli import main
from tests.devices import ctx_option
from toy_data import ToySettings, generate

CONFIG = '''
data: {root: data, augmentation: none, val_split: train}
model: {name: adaptis_toy, width: 8}
instances:
  steps: 500
  batch_size: 8
  points: 4
  optimizer: {lr: 5e-3, warmup_steps: 20}
proposals:
  steps: 100
  batch_size: 8
  points: 16
  optimizer: {lr: 2e-3}
workers: 1
pictures_every: 0
validation: {every: 100, images: 8, points: 6}
'''


@pytest.mark.slow
def test_eight_images_are_learnt_by_heart(tmp_path: Path) -> None:
    settings = ToySettings.default('v1', height=32, width=32, min_objects=2, max_objects=4)
    generate(settings, tmp_path / 'data', {'train': 8})
    (tmp_path / 'run.yaml').write_text(CONFIG)
    assert main(['train', str(tmp_path / 'run.yaml'), '--data', str(tmp_path / 'data'),
                 *ctx_option(), '--output', str(tmp_path / 'run')]) == 0
    log = [json.loads(line) for line in (tmp_path / 'run' / 'log.jsonl').read_text().splitlines()]
    iou = [r['iou'] for r in log if r['kind'] == 'validation' and r['stage'] == 'instances']
    quality = json.loads((tmp_path / 'run' / 'evaluation.json').read_text())['metrics']['pq']
    assert iou[-1] > 0.6, iou
    assert quality['Things']['pq'] > 0.7, quality
