"""``--kvstore dist_sync``: two processes learn what one learns from the joint batch.

The net has no BatchNorm: its statistics are those of each process's share of the batch, so that
with it two processes are not one process with a larger batch, in any framework.
"""
from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
from toy_setup import write_samples

HERE = Path(__file__).parent
ROOT = HERE.parents[2]


def test_two_workers_equal_one_with_the_joint_batch(tmp_path: Path) -> None:
    data = write_samples(tmp_path / 'data' / 'train', 12)
    environment = {**os.environ, 'PYTHONPATH': f'{ROOT}:{HERE}', 'OMP_NUM_THREADS': '1'}
    _worker(environment, data, tmp_path / 'one.npz', 8, 'device').communicate(timeout=250)
    cluster = {**environment, 'DMLC_PS_ROOT_URI': '127.0.0.1', 'DMLC_NUM_WORKER': '2',
               'DMLC_PS_ROOT_PORT': str(_free_port()), 'DMLC_NUM_SERVER': '1',
               'DMLC_NODE_HOST': '127.0.0.1'}
    helpers = [_role(cluster, role) for role in ('scheduler', 'server')]
    workers = [_worker({**cluster, 'DMLC_ROLE': 'worker'}, data, tmp_path / 'two.npz', 4,
                       'dist_sync') for _ in range(2)]
    _finish(workers, helpers)
    alone, first, second = (np.load(tmp_path / name)
                            for name in ('one0.npz', 'two0.npz', 'two1.npz'))
    for name in alone.files:
        np.testing.assert_array_equal(first[name], second[name])
        np.testing.assert_allclose(first[name], alone[name], rtol=1e-4, atol=1e-6)


def _worker(environment: dict[str, str], data: Path, output: Path, batch_size: int,
            kvstore: str) -> subprocess.Popen:
    command = [sys.executable, str(HERE / 'dist_worker.py'), str(data), str(output),
               str(batch_size), kvstore]
    return subprocess.Popen(command, env=environment, cwd=ROOT, stderr=subprocess.PIPE, text=True)


def _role(environment: dict[str, str], role: str) -> subprocess.Popen:
    # MXNet serves inside its import when it finds one of these roles.
    return subprocess.Popen([sys.executable, '-c', 'from adaptis.runtime import mx'],
                            env={**environment, 'DMLC_ROLE': role}, cwd=ROOT)


def _finish(workers: list[subprocess.Popen], helpers: list[subprocess.Popen]) -> None:
    try:
        for worker in workers:
            _, complaint = worker.communicate(timeout=250)
            assert worker.returncode == 0, complaint
    finally:
        for process in workers + helpers:
            process.kill()
            process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]
