"""Measure what a training step with two processes costs on this machine, in CPU time and bytes.

    unshare -rn sh -c 'ip link set lo up && python -m experiments.distributed_cost'

``unshare`` gives the processes a separate loopback interface, so that no other traffic is counted.
Each of two workers trains a network on batches of four images.  Steps with local gradients
alternate with steps with summed gradients, and the medians of the rounds are compared.  Times are
CPU times, because two workers and a server share the available cores.
"""
from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any, Optional

import numpy as np

from adaptis.config import OptimizerConfig, StageConfig
from adaptis.engine.distributed import create_kvstore, end_together, stage_kvstore
from adaptis.engine.steps import make_trainer, prepare_gradients, train_step
from adaptis.launch.hosts import Place
from adaptis.launch.launcher import Cluster
from adaptis.launch.member import Shell
from adaptis.model import get_model
from adaptis.runtime import mx
from adaptis.system import AdaptISSystem

ROUNDS, STEPS = 7, 4
SIZE, IMAGES, POINTS = 64, 4, 8
THRESHOLD = 0.01


def main() -> int:
    """Measure with and without compression."""
    for compression in ('none', str(THRESHOLD)):
        status = Cluster(['-m', 'experiments.distributed_cost', compression],
                         [Place('localhost', 1)] * 2, Shell([], sys.executable)).run()
        if status:
            return status
    return 0


def work(compression: Optional[float]) -> None:
    """Run the steps of one worker; rank 0 prints their cost."""
    store = create_kvstore('dist_sync', compression)
    net = get_model('adaptis_toy', width=16)
    net.initialize(mx.init.Xavier())
    system, batch = AdaptISSystem(net), make_batch()
    shared = stage_kvstore(store, 'cost', net, b'equal', compression)
    stage = StageConfig(batch_size=IMAGES, points=POINTS, steps=1, optimizer=OptimizerConfig(lr=0))
    trainers = [make_trainer(system, stage, each) for each in ('device', shared)]
    costs: tuple[list[Any], list[Any]] = ([], [])
    for _ in range(ROUNDS + 1):
        for trainer, found in zip(trainers, costs):
            prepare_gradients(trainer, accumulate=False)
            shared.any_process(False)   # both workers begin together
            before = measure()
            for _ in range(STEPS):
                train_step(system, trainer, batch, [mx.cpu()])
            mx.nd.waitall()
            shared.any_process(False)
            found.append((measure() - before) / STEPS)
    if store.rank == 0:
        alone, together = (np.median(found[1:], axis=0) for found in costs)
        size = sum(p.data().size for p in trainers[1]._params if p.grad_req != 'null')
        print(f'compression {compression}: {size:,} parameters, CPU ms per step: one worker alone '
              f'{1e3 * alone[0]:.0f}, with shared gradients {1e3 * together[0]:.0f}; the server '
              f'{1e3 * together[1]:.0f}; bytes {together[2] / 1e6:.2f} MB')
    end_together(store)


def make_batch() -> dict[str, np.ndarray]:
    """Return a batch of noise in which every point has the same object."""
    rng = np.random.default_rng(0)
    masks = np.zeros((IMAGES * POINTS, 1, SIZE, SIZE), np.int8)
    masks[..., 8:30, 10:40] = 1
    return {'image': rng.integers(0, 255, (IMAGES, 3, SIZE, SIZE)).astype(np.uint8),
            'points': np.full((IMAGES, POINTS, 2), 20, np.float32), 'instances': masks,
            'semantic': masks[::POINTS, 0].astype(np.int16)}


def measure() -> np.ndarray:
    """Return the CPU seconds of this worker and of the server, and the bytes on the loopback."""
    return np.array([time.process_time(), server_seconds(), loopback_bytes()])


def server_seconds() -> float:
    """Return the CPU seconds of the servers of this cluster."""
    port = f'DMLC_PS_ROOT_PORT={os.environ["DMLC_PS_ROOT_PORT"]}'.encode()
    ticks = 0
    for folder in Path('/proc').glob('[0-9]*'):
        try:
            variables = (folder / 'environ').read_bytes().split(b'\0')
            if port in variables and b'DMLC_ROLE=server' in variables:
                ticks += sum(map(int, (folder / 'stat').read_text().split()[13:15]))
        except OSError:   # it has ended, or belongs to somebody else
            continue
    return ticks / os.sysconf('SC_CLK_TCK')


def loopback_bytes() -> int:
    """Return how many bytes the loopback has sent."""
    lines = Path('/proc/net/dev').read_text().splitlines()
    return next(int(line.split()[9]) for line in lines if line.strip().startswith('lo:'))


if __name__ == '__main__':
    if sys.argv[1:]:
        work(None if sys.argv[1] == 'none' else float(sys.argv[1]))
    else:
        sys.exit(main())
