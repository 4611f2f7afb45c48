"""Train and evaluate one variant, and measure the cost of its steps, each in a separate process."""
from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from adaptis.config import TrainConfig
from adaptis.errors import AdaptisError
from adaptis.evaluation.coco import read_json
from experiments.toy_curves.variants import BASE, CONFIG, as_overrides, config_of

TIMED = 10
"""Number of steps to time for each network."""


def relative_cost(overrides: Sequence[str]) -> float:
    """Return the CPU time of a step of a variant, relative to a step of the base."""
    base, variant = _stepper(config_of(())), _stepper(config_of(overrides))
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(TIMED):
        for step, seconds in zip((base, variant), times):
            begin = time.process_time()
            step()
            seconds.append(time.process_time() - begin)
    return statistics.median(times[1]) / statistics.median(times[0])


def train(overrides: Sequence[str], output: str) -> None:
    """Train the base with overrides; AdaptisError if that fails."""
    from adaptis.cli import main as adaptis  # loads MXNet, only in this process
    changes = [part for override in [*as_overrides(BASE), *overrides]
               for part in ('--set', override)]
    if adaptis(['train', str(CONFIG), '--output', output, *changes]):
        raise AdaptisError(f'The training of {overrides} failed.')


def evaluate(folder: str, data: str, images: int) -> dict[str, float]:
    """Return the AP of a trained variant, with random points, as ``adaptis evaluate`` names it.

    The variants have no proposal branch.  AdaptisError if the evaluation fails.
    """
    from adaptis.cli import main as adaptis  # loads MXNet, only in this process
    weights, record = Path(folder, 'final.params'), Path(folder, 'evaluation.json')
    if adaptis(['evaluate', '--checkpoint', str(weights), '--data', data, '--limit', str(images),
                '--sampling', 'random', '--out', str(record), '--quiet']):
        raise AdaptisError(f'The evaluation of {weights} failed.')
    return dict(read_json(record)['metrics']['ap'])


def _stepper(config: TrainConfig) -> Any:
    """Return a function that runs one step of a config's first stage on noise images."""
    # These load MXNet, only in this process.
    from adaptis.engine.steps import make_trainer, prepare_gradients, train_step
    from adaptis.model import get_model
    from adaptis.runtime import mx
    from adaptis.system import AdaptISSystem
    stage, rng = config.instances, np.random.default_rng(0)
    images, points, side = stage.batch_size, stage.points, stage.crop or 96
    batch = {'image': rng.integers(0, 255, (images, 3, side, side)).astype(np.uint8),
             'points': rng.integers(0, side, (images, points, 2)).astype(np.float32),
             'instances': rng.integers(0, 2, (images * points, 1, side, side)).astype(np.int8),
             'semantic': rng.integers(0, 2, (images, side, side)).astype(np.int16)}
    net = get_model(**config.model)
    net.initialize(mx.init.Xavier())
    system = AdaptISSystem(net)
    trainer = make_trainer(system, stage, 'device')
    prepare_gradients(trainer, accumulate=False)
    step = functools.partial(train_step, system, trainer, batch, [mx.cpu()])
    step()
    return step
