"""SyncBatchNorm: two devices learn what one learns, and never wait for ever."""
from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import sync_worker

ROOT = Path(__file__).resolve().parents[3]

# On GPUs every device has its own threads and buffers; CPU devices share them, so that one that
# waits for the other would keep it from computing.
APART = {'MXNET_CPU_WORKER_NTHREADS': '8', 'MXNET_CPU_TEMP_COPY': '256',
         'MXNET_EXEC_BULK_EXEC_TRAIN': '0', 'OMP_NUM_THREADS': '1', 'PYTHONPATH': str(ROOT)}


def test_two_devices_normalise_as_one(tmp_path: Path) -> None:
    two = subprocess.Popen(
        [sys.executable, sync_worker.__file__, str(tmp_path / 'two.npz'), '2', '1', 'instances'],
        env={**os.environ, **APART}, cwd=ROOT)
    sync_worker.main(tmp_path / 'one.npz', devices=1, pieces=1, stage='instances')
    try:
        assert two.wait(timeout=120) == 0
    finally:
        two.kill()
    expected, found = (np.load(tmp_path / name) for name in ('one.npz', 'two.npz'))
    assert sorted(expected.files) == sorted(found.files)
    for name in expected.files:
        scale = np.abs(expected[name]).max() + 1e-6
        assert np.abs(found[name] - expected[name]).max() < 1e-3 * scale, name
