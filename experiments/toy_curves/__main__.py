"""Train the variants of ``variants.py`` at equal cost and record the quality of their masks.

    python -m experiments.toy_curves [--data DIR] [--budget STEPS] [--only NAME ...] [--out DIR]
    python -m experiments.toy_curves --table
    python -m experiments.toy_curves --plot docs/images/toy_curves.svg
    python -m experiments.toy_curves --history docs/images/toy_history.svg

The budget is the cost of this many steps of the base config.  If the steps of a variant have a
different size, they and those of the base are timed in turns, in CPU seconds with one thread, so
that other work on the machine hardly affects the comparison.  In every run, the learning rate falls
to about 0 in the last 40 % of the steps.  The metric is the mean IoU of masks at 8 points in each
of the first 100 test images, with the same points for all variants, and with averaged weights if a
variant averages them.  At the end, AP is measured on the first 50, with random points.

Each variant has one record with its config, seed, commit and hardware; existing records are kept.

--history plots the whole training of the network that ships, from its logs (``history.py``).
"""
from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

from adaptis.config import TrainConfig
from adaptis.errors import AdaptisError
from adaptis.evaluation.record import provenance, write_record
from experiments.benchmarks.process import alone
from experiments.toy_curves.history import WIDER, read_history
from experiments.toy_curves.plot import plot_history, plot_records, read_curves, records_table
from experiments.toy_curves.training import evaluate, relative_cost, train
from experiments.toy_curves.variants import VARIANTS, Phase, as_overrides, config_of
from experiments.training_logs import read_log

HERE = Path(__file__).parent
RESULTS = HERE / 'results'
COOLDOWN = 0.4
"""Share of a run in which the learning rate falls."""
WARMUP = 50
VALIDATIONS = 5
AP_IMAGES = 50
COSTLY = {'model.width', 'instances.crop', 'instances.batch_size', 'instances.points'}
"""Keys that change the cost of a step; other variants are counted like the base."""


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the variants, or show their records; return the exit status."""
    args = _arguments().parse_args(argv)
    try:
        if args.table:
            print(records_table(read_curves(args.out)))
        elif args.plot is not None:
            plot_records(args.plot, read_curves(args.out))
        elif args.history is not None:
            plot_history(args.history, read_history(), WIDER)
        else:
            _run(args)
    except AdaptisError as error:
        print(f'Error: {error}', file=sys.stderr)
        return 1
    return 0


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog='python -m experiments.toy_curves',
                                     description=__doc__.partition('\n')[0])
    parser.add_argument('--data', default='data/toy_v1', help='default: %(default)s')
    parser.add_argument('--budget', type=int, default=600, metavar='STEPS',
                        help='of the base (default: %(default)s)')
    parser.add_argument('--only', nargs='+', metavar='NAME', help='variants, instead of all')
    parser.add_argument('--out', type=Path, default=RESULTS, help='default: %(default)s')
    parser.add_argument('--table', action='store_true', help='only print the records in --out')
    parser.add_argument('--plot', type=Path, metavar='SVG', help='only plot the records in --out')
    parser.add_argument('--history', type=Path, metavar='SVG',
                        help='only plot the training of the network that ships')
    return parser


def _run(args: argparse.Namespace) -> None:
    for name in args.only or VARIANTS:
        if name not in VARIANTS:
            raise AdaptisError(f'There is no variant "{name}": choose from {", ".join(VARIANTS)}.')
        path = args.out / f'{name}.json'
        if path.exists():
            print(f'{path} exists already.')
            continue
        args.out.mkdir(parents=True, exist_ok=True)
        write_record(path, _record(name, VARIANTS[name], args))


def _record(name: str, phases: Sequence[Phase], args: argparse.Namespace) -> dict[str, Any]:
    start = time.perf_counter()
    points, curve, configs = 0, [], []
    with tempfile.TemporaryDirectory() as folder:
        for number, (share, keys) in enumerate(phases):
            cost = alone(relative_cost, as_overrides(keys)) if COSTLY & set(keys) else 1.0
            steps = round(args.budget * share / cost)
            more = {**keys, **_schedule(steps, last=number == len(phases) - 1),
                    'data.root': args.data}
            if number:
                more['initial_weights'] = str(Path(folder) / str(number - 1) / 'final.params')
            output = Path(folder) / str(number)
            alone(train, as_overrides(more), str(output))
            config = config_of(as_overrides(more))
            curve += _curve(output, config, cost, curve, points)
            points += steps * config.instances.batch_size * config.instances.points
            configs.append(config.to_dict())
        ap = alone(evaluate, str(output), args.data, AP_IMAGES)
    return {'format': 1, 'name': name, 'budget': args.budget, 'curve': curve, 'configs': configs,
            'seed': configs[0]['seed'], **provenance(), 'metrics': {**curve[-1], 'ap': ap},
            'threads': os.environ.get('OMP_NUM_THREADS'),
            'seconds': round(time.perf_counter() - start)}


def _schedule(steps: int, last: bool) -> dict[str, Any]:
    return {'instances.steps': steps, 'instances.optimizer.warmup_steps': min(WARMUP, steps // 4),
            'instances.optimizer.cooldown_steps': int(COOLDOWN * steps) if last else 0,
            'validation.every': max(1, steps // VALIDATIONS)}


def _curve(output: Path, config: TrainConfig, cost: float, before: Sequence[Mapping[str, Any]],
           points: int) -> list[dict[str, Any]]:
    """Return the validations of a run: cost in steps of the base, points seen, IoU."""
    spent = before[-1]['cost'] if before else 0.0
    batch = config.instances.batch_size * config.instances.points
    return [{'cost': round(spent + record['step'] * cost, 1), 'step': record['step'],
             'points': points + record['step'] * batch, 'iou': record['iou']}
            for record in read_log(output / 'log.jsonl') if record['kind'] == 'validation']


if __name__ == '__main__':
    sys.exit(main())
