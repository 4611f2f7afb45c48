"""How fast things are here, each against its plain form in the same run.

    python -m experiments.benchmark [masks click panoptic training variants cost] [--width 32]
    python -m experiments.benchmark detector mask_head dense_stages unified forms

The plain form is the way of the official code: nothing hybridized, one candidate
after another, the mirrored image as a second pass, features repeated for every
point and joined to its coordinates, AdaIN from broadcast operators.  Both forms
hold the same weights, and the masks that they give are compared.  Times are medians
over alternating runs; only the ratios carry over to another machine.  ``cost`` is no comparison:
it tells what the networks of the tables need (:mod:`experiments.cost`).  ``detector`` and
``mask_head`` are about the other systems (:mod:`experiments.benchmark_detectors`),
``dense_stages`` about one of them (:mod:`experiments.benchmark_dense`), and ``unified`` sets one
beside Panoptic FPN (:mod:`experiments.benchmark_unified`).  ``forms`` runs all five systems as
Python, as graphs and as files (:mod:`experiments.benchmark_forms`).
"""
from __future__ import annotations

import argparse
import concurrent.futures.process
import json
import os
import sys
from pathlib import Path
from typing import Any, Callable

import numpy as np

from adaptis.errors import AdaptisError
from adaptis.evaluation.record import provenance
from adaptis.files import atomic_write
from experiments import (
    benchmark_dense,
    benchmark_detectors,
    benchmark_forms,
    benchmark_unified,
    cost,
    timing,
)
from experiments.process import alone, peak_mib

CANDIDATES = 30


def masks(width: int) -> dict[str, Any]:
    """Masks of 30 candidates on 96x96, averaged with the mirrored image (features included)."""
    from adaptis.inference.encoded import ImageEncoder
    from adaptis.inference.settings import PRESETS
    plain, fast = _networks(width)
    image, points = _image(96), _points(96, CANDIDATES)
    settings = PRESETS['toy_v1'].replace(flip=True)
    one_by_one = ImageEncoder(plain, settings.replace(batch_size=1))
    batched = ImageEncoder(fast, settings)
    fast.hybridize()
    timed = timing.alternate({'plain': lambda: one_by_one(image).masks_at(points),
                              'ours': lambda: batched(image).masks_at(points)})
    gap = np.abs(one_by_one(image).masks_at(points) - batched(image).masks_at(points)).max()
    return {**timed, 'largest difference of a mask': float(gap)}


def click(width: int) -> dict[str, Any]:
    """One click on 1024x1024 once the features are there."""
    from adaptis.inference.predictor import Predictor
    plain, fast = _networks(width)
    fast.hybridize()
    image = _image(1024)
    predictors = {'plain': Predictor(plain, 'toy_v1'), 'ours': Predictor(fast, 'toy_v1')}
    forms = {name: lambda p=p: p.set_image(image).mask_at(x=300, y=700).mask
             for name, p in predictors.items()}
    gap = np.abs(forms['plain']() - forms['ours']()).max()
    timed = timing.alternate({name: lambda p=p: p.mask_at(x=300, y=700)
                              for name, p in predictors.items()}, runs=3)
    return {**timed, 'largest difference of a mask': float(gap)}


def panoptic(width: int) -> dict[str, Any]:
    """The whole ``panoptic()`` of the shipped network on toy images; its width, not ``--width``."""
    from adaptis.inference.predictor import Predictor
    from adaptis.loading import load_predictor
    from adaptis.model import load_model
    from experiments.plain import make_plain
    from toy_data import ToySettings, render
    images = [render(ToySettings.default('v1', seed=7), 'test', i)[0] for i in range(6)]
    fast = load_predictor()
    plain = Predictor(make_plain(load_model('toy_v1')), fast.settings.replace(batch_size=1))

    def all_of(predictor: Any) -> Callable[[], list[Any]]:
        return lambda: [predictor.set_image(image).panoptic() for image in images]

    timed = timing.alternate({'plain': all_of(plain), 'ours': all_of(fast)}, runs=3)
    same = [np.mean(a.segment_map == b.segment_map)
            for a, b in zip(all_of(plain)(), all_of(fast)())]
    return {**timed, 'images per second': len(images) / timed['ours'],
            'pixels that agree': float(np.mean(same))}


def training(width: int) -> dict[str, Any]:
    """A training step of 4 images x 12 points on 96x96."""
    plain, ours = _networks(width)
    timed = timing.alternate({'plain': _step(plain), 'ours': _step(ours)}, runs=3)
    return {**timed, 'images per second before': 4 / timed['plain'],
            'images per second after': 4 / timed['ours']}


def variants(width: int) -> dict[str, Any]:
    """A training step of 4 images x 12 points on 96x96, under other settings of MXNet."""
    threads = str(len(os.sched_getaffinity(0)))
    no_subgraphs = {'OMP_NUM_THREADS': threads, 'MXNET_SUBGRAPH_BACKEND': 'NONE'}
    seconds = {
        'plain, default environment': _step_in({'OMP_NUM_THREADS': threads}, width, plain=True),
        'plain, MXNET_SUBGRAPH_BACKEND=NONE': _step_in(no_subgraphs, width, plain=True),
        'ours, default environment': _step_in({'OMP_NUM_THREADS': threads}, width),
        'ours, MXNET_SUBGRAPH_BACKEND=NONE': _step_in(no_subgraphs, width),
        'ours, hybridized, static_alloc': _step_in(no_subgraphs, width, hybridize=True),
        'ours, one thread': _step_in({**no_subgraphs, 'OMP_NUM_THREADS': '1'}, width)}
    return {**{f'{name}, s': value for name, value in seconds.items()},
            'plain': seconds['plain, default environment'],
            'ours': seconds['ours, default environment']}


MEASURES = {'masks': masks, 'click': click, 'panoptic': panoptic, 'training': training,
            'variants': variants, **benchmark_detectors.MEASURES,
            'dense_stages': benchmark_dense.dense_stages, 'unified': benchmark_unified.unified,
            'forms': benchmark_forms.forms}


def main() -> int:
    """Measure what is asked for, each in a process of its own so that peak memory is its own."""
    parser = argparse.ArgumentParser(prog='python -m experiments.benchmark',
                                     description=__doc__.splitlines()[0])
    known = [*MEASURES, 'cost']
    parser.add_argument('what', nargs='*', help=f'of {", ".join(known)}; default: all')
    parser.add_argument('--width', type=int, default=32, help='channels of the toy network')
    parser.add_argument('--network', nargs='+', metavar='MODEL/BACKBONE',
                        help=f'of cost; default: {", ".join(cost.NETWORKS)}')
    parser.add_argument('--size', nargs='+', type=_size, metavar='HxW',
                        help='of cost; default: 1024x2048 512x512')
    parser.add_argument('--quick', action='store_true', help='cost measures everything once')
    parser.add_argument('--out', type=Path, help='also write the numbers as JSON')
    parser.add_argument('--note', help='to keep in it, for instance what else was running')
    args = parser.parse_args()
    unknown = set(args.what) - set(known)
    if unknown:
        parser.error(f'there is no measure {", ".join(sorted(unknown))}')
    conditions, results = cost.conditions(), {}
    try:
        for name in args.what or known:
            results[name] = _cost(args) if name == 'cost' else _compare(name, args.width)
    except (AdaptisError, concurrent.futures.process.BrokenProcessPool) as error:
        print(f'benchmark: {name}: {error}', file=sys.stderr)
        return 1
    if args.out:
        record = {'width': args.width, 'results': results,
                  'conditions': {**conditions, 'load after': cost.load(), 'note': args.note},
                  **provenance()}
        with atomic_write(args.out) as temporary:
            temporary.write_text(json.dumps(record, indent=1) + '\n', encoding='utf-8')
    return 0


def _compare(name: str, width: int) -> dict[str, Any]:
    result = alone(_measure, name, width)
    _show(name, result)
    return result


def _cost(args: argparse.Namespace) -> dict[str, Any]:
    rows = {}
    for task in cost.tasks(args.network, args.size, args.quick):
        print(f'cost: {task.name}', file=sys.stderr, flush=True)
        rows[task.name] = alone(task.function, *task.arguments)
    print(cost.table(rows), flush=True)
    return rows


def _size(text: str) -> tuple[int, int]:
    height, _, width = text.partition('x')
    if not (height.isdecimal() and width.isdecimal() and int(height) and int(width)):
        raise argparse.ArgumentTypeError(f'{text!r} is no HEIGHTxWIDTH')
    return int(height), int(width)


def _measure(name: str, width: int) -> dict[str, Any]:
    result = MEASURES[name](width)
    peak = peak_mib()
    ratio = {'ratio': result['plain'] / result['ours']} if 'plain' in result else {}
    return {**result, **ratio, 'peak memory, MiB': round(peak)}


def _show(name: str, result: dict[str, Any]) -> None:
    print(f'{name}: {MEASURES[name].__doc__.splitlines()[0]}')
    for key, value in result.items():
        text = f'{1e3 * value:.1f} ms' if key in ('plain', 'ours') else f'{value:.4g}'
        print(f'    {key:50} {text}')
    sys.stdout.flush()


def _step(net: Any, hybridize: bool = False) -> Callable[[], Any]:
    """One update of a network from a fixed batch."""
    from adaptis.config import OptimizerConfig, StageConfig
    from adaptis.engine.steps import make_trainer, prepare_gradients, train_step
    from adaptis.runtime import mx
    from adaptis.system import AdaptISSystem
    stage = StageConfig(batch_size=4, points=12, steps=1, optimizer=OptimizerConfig(lr=1e-4))
    system = AdaptISSystem(net)
    if hybridize:
        net.hybridize(static_alloc=True)
    trainer = make_trainer(system, stage, 'device')
    prepare_gradients(trainer, accumulate=False)
    rng = np.random.default_rng(0)
    batch = {'image': rng.integers(0, 256, (4, 3, 96, 96)),
             'points': rng.uniform(0, 95, (4, 12, 2)),
             'instances': rng.integers(0, 2, (48, 1, 96, 96)),
             'semantic': rng.integers(0, 2, (4, 96, 96))}
    return lambda: train_step(system, trainer, batch, [mx.cpu()])


def _step_in(environment: dict[str, str], width: int, plain: bool = False,
             hybridize: bool = False) -> float:
    """Median seconds of a training step in a process with these environment variables."""
    before = dict(os.environ)
    os.environ.update(environment)
    try:
        return alone(_time_step, width, plain, hybridize)
    finally:
        os.environ.clear()
        os.environ.update(before)


def _time_step(width: int, plain: bool, hybridize: bool) -> float:
    net = _networks(width)[0 if plain else 1]
    return timing.alternate({'step': _step(net, hybridize)}, runs=3)['step']


def _networks(width: int) -> tuple[Any, Any]:
    """The plain form and ours, with equal weights."""
    from adaptis.model import get_model
    from adaptis.runtime import mx
    from experiments.plain import make_plain
    mx.random.seed(0)
    nets = [get_model('adaptis_toy', width=width) for _ in range(2)]
    for net in nets:
        net.initialize(mx.init.Xavier())
    source, target = (net._collect_params_with_prefix() for net in nets)
    for name, parameter in source.items():
        target[name].set_data(parameter.data())
    return make_plain(nets[0]), nets[1]


def _image(side: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (side, side, 3)).astype(np.uint8)


def _points(side: int, count: int) -> np.ndarray:
    return np.random.default_rng(1).uniform(0, side - 1, (count, 2)).astype(np.float32)


if __name__ == '__main__':
    sys.exit(main())
