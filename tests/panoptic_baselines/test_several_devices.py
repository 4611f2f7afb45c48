"""SyncBatchNorm in systems that read results within a step: two devices learn the same as one."""
from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from adaptis.engine.steps import SYNC_ON_CPU

ROOT = Path(__file__).resolve().parents[2]
WORKER = 'tests.panoptic_baselines.devices_worker'
APART = {**{name: str(value) for name, value in SYNC_ON_CPU.items()}, 'OMP_NUM_THREADS': '1'}
MEAN_OF_PARTS = {('dense_detections', 'masks')}   # not of the whole batch


@pytest.mark.parametrize('name, mode', [
    ('condinst', 'hybridized'),
    *(pytest.param(name, mode, marks=pytest.mark.slow)
      for name in ('condinst', 'dense_detections', 'panoptic_fpn', 'unified')
      for mode in ('imperative', 'hybridized') if (name, mode) != ('condinst', 'hybridized'))])
def test_two_devices_learn_what_one_learns_and_do_not_wait_for_ever(name, mode):
    done = subprocess.run([sys.executable, '-m', WORKER, name, mode], cwd=ROOT, timeout=120,
                          env={**os.environ, **APART}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found['statistics'] >= 40 and found['distance'] < 1e-3
    assert set(found['one']) == set(found['two'])
    for loss, value in found['one'].items():
        limit = 0.2 if (name, loss) in MEAN_OF_PARTS else 1e-3
        assert abs(found['two'][loss] - value) < limit * abs(value), loss
