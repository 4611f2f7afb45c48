"""Mixed precision, in a separate process, because MXNet cannot switch it off again."""
from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from toy_setup import write_samples

ROOT = Path(__file__).resolve().parents[3]

CONFIG = '''
data: {root: data, augmentation: toy_v2}
precision: amp
model: {name: adaptis_toy, width: 4}
instances:
  steps: 3
  batch_size: 2
  points: 3
  optimizer: {lr: 1e-3}
workers: 0
log_every: 1
pictures_every: 0
checkpoint_steps: 2
evaluation_images: 0
validation: {every: 3, images: 1, points: 2}
'''

SCRIPT = '''
import json, shutil, sys
from pathlib import Path
from adaptis.cli import main
from adaptis.runtime import mx
from adaptis.engine.precision import half_precision
from tests.miniatures import write_cityscapes
from tests.devices import ctx_option

place = Path(sys.argv[1])
def train(output, *more):
    assert main(['train', str(place / 'run.yaml'), '--data', str(place / 'data'), *ctx_option(),
                 '--output', str(place / output), *more]) == 0
def parameters(output):
    return {k: v.asnumpy() for k, v in mx.nd.load(str(place / output / 'final.params')).items()}
def losses(output):
    lines = (place / output / 'log.jsonl').read_text().splitlines()
    return [r['instances'] for r in map(json.loads, lines) if r['kind'] == 'train']

train('plain', '--set', 'precision=float32')
plain = mx.nd.Convolution
train('whole', '--set', 'pictures_every=3', '--set', 'evaluation_images=1')
assert mx.nd.Convolution is plain                   # only while a step computes
shutil.copytree(place / 'whole', place / 'resumed')
shutil.rmtree(place / 'resumed/checkpoints/0-instances-00000003')
train('resumed', '--resume')

# Steps go on after predictions, also where those leave weights in layouts of oneDNN's own.
write_cityscapes(place / 'photos', splits=('train', 'val'), images=2, size=(64, 64))
train('graphs', '--set', 'instances.system.hybridize=true', '--set', 'validation.every=2')

train('looking', '--data', str(place / 'photos'), '--set', 'validation.every=1', '--set',
      'instances.batch_size=1', '--set', 'instances.crop=64', '--set', 'data.val_split=val',
      '--set', 'data.dataset=cityscapes', '--set', 'data.augmentation=cityscapes', '--set',
      'model={name: adaptis_deeplab, backbone: resnet18, width: 8}')

options = {'kernel': (1, 1), 'num_filter': 2, 'no_bias': True}
with half_precision():
    half = mx.nd.Convolution(mx.nd.ones((1, 2, 3, 3)), mx.nd.ones((2, 2, 1, 1)), **options)
assert 'bfloat16' in str(half.dtype)
a, b, c = (parameters(name) for name in ('plain', 'whole', 'resumed'))
assert all((b[k] == c[k]).all() for k in b)         # the state of the loss scale comes back
assert any((a[k] != b[k]).any() for k in a)         # other roundings ...
assert all(abs(x - y) < 0.02 for x, y in zip(losses('plain'), losses('whole')))   # and no more
# The first step of Adam moves even weights whose gradient is rounding alone, so only the losses
# before and after it are close in graphs.
graphs = losses('graphs')
assert all(abs(x - y) < 2e-3 for x, y in zip(graphs[:2], losses('whole')))
assert abs(graphs[2] - losses('plain')[2]) < 0.02
state = json.loads((place / 'whole/checkpoints/0-instances-00000003/state.json').read_text())
assert state['scaler'] == {'scale': 65536.0, 'next': 65536.0, 'unskipped': 3, 'updates': 3}
'''


def test_training_computes_in_half_precision_and_resumes(tmp_path: Path) -> None:
    for split in ('train', 'test'):
        write_samples(tmp_path / 'data' / split, 4, size=32)
    (tmp_path / 'run.yaml').write_text(CONFIG)
    result = subprocess.run([sys.executable, '-c', SCRIPT, str(tmp_path)], cwd=ROOT, text=True,
                            env={**os.environ, 'OMP_NUM_THREADS': '1'}, capture_output=True,
                            timeout=250)
    if 'cannot compute in bfloat16' in result.stderr:
        pytest.skip('this CPU has no bfloat16')
    assert result.returncode == 0, result.stderr
    assert 'Training steps use bfloat16' in result.stdout
