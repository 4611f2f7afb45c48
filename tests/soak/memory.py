"""Do one thing many times in this process and report how its memory grows.

    python -m tests.soak.memory predict|train COUNT [--sizes N]

Prints JSON: resident memory in MiB after a quarter, half and all of the rounds, and the growth per
round in KiB over the last half.
"""
from __future__ import annotations

import argparse
import json
import resource
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Callable, Optional

import numpy as np

LARGEST = 96


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run, print, return 0."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('what', choices=('predict', 'train'))
    parser.add_argument('count', type=int)
    parser.add_argument('--sizes', type=int, default=60, help='how many sizes of images')
    args = parser.parse_args(arguments)
    rng = np.random.default_rng(0)
    sizes = rng.integers(24, LARGEST + 1, (args.sizes, 2))
    step = (_predictions if args.what == 'predict' else _trainings)()
    marks = {}
    for done in range(1, args.count + 1):
        # Every size comes once before any comes again.
        step(*(int(side) for side in sizes[(done - 1) % args.sizes]))
        if done in (args.count // 4, args.count // 2, args.count):
            marks[done] = _resident()
    half, whole = args.count // 2, args.count
    print(json.dumps({'mib': {k: round(v / 2 ** 20, 1) for k, v in marks.items()},
                      'kib_per_round': (marks[whole] - marks[half]) / 1024 / (whole - half)}))
    return 0


def _predictions() -> Callable[[int, int], None]:
    from adaptis.inference.predictor import Predictor
    from adaptis.model import get_model
    net = get_model('adaptis_toy', width=4)
    net.initialize()
    net.hybridize()
    predictor = Predictor(net)
    predictor.settings = predictor.settings.replace(max_candidates=4)
    rng = np.random.default_rng(1)

    def predict(height: int, width: int) -> None:
        predictor.set_image(rng.integers(0, 256, (height, width, 3)).astype(np.uint8))
        predictor.mask_at(x=width // 2, y=height // 2)
        predictor.panoptic()
    return predict


def _trainings() -> Callable[[int, int], None]:
    from adaptis.config import OptimizerConfig, StageConfig
    from adaptis.engine.steps import make_trainer, prepare_gradients, train_step
    from adaptis.model import get_model
    from adaptis.runtime import mx
    from adaptis.system import AdaptISSystem
    net = get_model('adaptis_toy', width=4)
    net.initialize()
    net.hybridize()
    system = AdaptISSystem(net)
    stage = StageConfig(batch_size=2, points=3, steps=1, optimizer=OptimizerConfig(lr=1e-4))
    trainer = make_trainer(system, stage, 'device')
    prepare_gradients(trainer, accumulate=False)
    rng = np.random.default_rng(1)

    def train(height: int, width: int) -> None:
        batch: dict[str, Any] = {
            'image': rng.integers(0, 256, (2, 3, height, width)).astype(np.uint8),
            'points': (rng.random((2, 3, 2)) * (height - 1, width - 1)).astype(np.float32),
            'instances': rng.integers(0, 2, (6, 1, height, width)).astype(np.int8),
            'semantic': rng.integers(0, 2, (2, height, width)).astype(np.int16)}
        train_step(system, trainer, batch, [mx.cpu()])
    return train


def _resident() -> int:
    return int(Path('/proc/self/statm').read_text().split()[1]) * resource.getpagesize()


if __name__ == '__main__':
    sys.exit(main())
