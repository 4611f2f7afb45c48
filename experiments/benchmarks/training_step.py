"""Where the time of a training step of the toy network goes, and what limits it.

    OMP_NUM_THREADS=1 python -m experiments.benchmarks training_step [parts kernels sizes]

Times are CPU seconds, which other programs disturb less than wall-clock seconds.  Only those of
``kernels`` are wall-clock times, because oneDNN logs them.
"""
from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from typing import Any, Callable, NamedTuple

import numpy as np

from adaptis.config import OptimizerConfig, StageConfig
from adaptis.errors import AdaptisError
from adaptis.memory_reuse import keep_training_memory
from experiments.benchmarks.measures import Size, add_measure_arguments, parse_size, run_measures

MARK = 'the steps that count'
RUNS = 5


class Step(NamedTuple):
    """The size of a step: width of the network, images, points per image, image size."""

    width: int
    images: int
    points: int
    size: Size


def parts(step: Step) -> dict[str, Any]:
    """Measure the seconds of the parts of a step, each separately."""
    from adaptis.engine.averaging import WeightAverage, averaged_parameters  # loads MXNet
    from adaptis.runtime import mx  # loads MXNet
    net, system, trainer, batch = _prepare(step)
    _update(system, trainer, batch)
    average = WeightAverage(averaged_parameters(net, system.parameters()), 0.999)
    clock = _Clock()
    for _ in range(RUNS):
        data = clock.time('arrays', lambda: {key: mx.nd.array(value, dtype='float32')
                                             for key, value in batch.items()})
        with mx.autograd.record():
            maps = clock.time('features, forward', lambda data=data: net.encoder(data['image']))
        features, queries, semantic = (_leaf(m) for m in maps[:3])
        with mx.autograd.record():
            logits = clock.time('head, forward', lambda d=data, f=features, q=queries:
                                net.point_head(f, q, d['points']))
        masks = _leaf(logits)
        with mx.autograd.record():
            losses = clock.time('losses, forward', lambda d=data, m=masks, s=semantic:
                                _losses(system, d, m, s))
        clock.time('losses, backward', losses.backward)
        clock.time('head, backward', lambda y=logits, m=masks: y.backward(m.grad))
        clock.time('features, backward', lambda m=maps[:3], leaves=(features, queries, semantic):
                   mx.autograd.backward(list(m), [leaf.grad for leaf in leaves]))
        clock.time('update', lambda: trainer.step(1, ignore_stale_grad=True))
        clock.time('average of the weights', lambda: average.update(10 ** 6))
    return clock.medians()


def kernels(step: Step) -> dict[str, Any]:
    """Read the milliseconds and rates of oneDNN's kernels in a step from its log, slowest first."""
    environment = {**os.environ, 'MKLDNN_VERBOSE': '1'}
    program = ('from experiments.benchmarks import training_step as t; '
               f't.show_steps(t.Step{tuple(step)!r})')
    done = subprocess.run([sys.executable, '-c', program], env=environment, capture_output=True,
                          text=True, check=False)
    if done.returncode:
        raise AdaptisError(f'The step failed: {done.stderr.strip().splitlines()[-1]}')
    times: dict[str, list[float]] = defaultdict(list)
    for line in done.stdout.split(MARK)[1].splitlines():
        problem, _, ms = line.rpartition(',')
        if ',exec,' in problem:
            times[problem].append(float(ms))
    spent: dict[str, float] = defaultdict(float)
    for problem, ms in times.items():   # the minimum is the least disturbed time
        kind = ' '.join(problem.split(',exec,')[1].split(',')[1:4])
        spent[kind] += min(ms) * len(ms) / RUNS
    if not spent:
        raise AdaptisError('MXNet logged no kernels: this build has no oneDNN.')
    products = multiply_adds(step)
    convolutions = sum(ms for name, ms in spent.items() if name.startswith('convolution'))
    slowest = sorted(spent.items(), key=lambda item: -item[1])[:12]
    return {**{f'{name}, ms': ms for name, ms in slowest}, 'all kernels, ms': sum(spent.values()),
            'convolutions, ms': convolutions,
            # A gradient costs twice the forward pass, and a multiply-add is two operations.
            'convolutions, G operations': 6 * products / 1e9,
            'convolutions, G operations per second': 6 * products / 1e6 / convolutions}


def sizes(step: Step) -> dict[str, Any]:
    """Measure the seconds of a step with different numbers of points and image sizes."""
    found = {}
    for points in (8, 16, 32):
        found[f'{points} points, s'] = _time_step(step._replace(points=points))
    for side in (48, 64, 96):
        found[f'{side}x{side}, s'] = _time_step(step._replace(size=(side, side)))
    return found


MEASURES = {'parts': parts, 'kernels': kernels, 'sizes': sizes}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``training_step``; defaults are those of toy_v1_long.yaml."""
    add_measure_arguments(parser, MEASURES)
    parser.add_argument('--width', type=int, default=16, help='width of the toy network')
    parser.add_argument('--images', type=int, default=8)
    parser.add_argument('--points', type=int, default=8, help='points per image')
    parser.add_argument('--size', type=parse_size, default=(64, 64), metavar='HxW')


def run(args: argparse.Namespace) -> None:
    """Print the figures, and write the record if asked to."""
    step = Step(args.width, args.images, args.points, args.size)
    run_measures(MEASURES, args, step, step=step._asdict())


def show_steps(step: Step) -> None:
    """Run some steps before and some after printing ``MARK``, for oneDNN's log."""
    from adaptis.runtime import mx  # loads MXNet
    _, system, trainer, batch = _prepare(step)
    for turn in range(2 + RUNS):
        if turn == 2:
            print(MARK, flush=True)
        _update(system, trainer, batch)
        mx.nd.waitall()


def multiply_adds(step: Step) -> float:
    """Return the multiply-adds of the forward pass of a step, as counted in the graph."""
    from adaptis.model import get_model, graph  # loads MXNet
    net = get_model('adaptis_toy', width=step.width)
    net.initialize()
    encoder = graph.trace(net.encoder.without_proposals(), (1, 3, *step.size))
    share, head = net.point_head.split()
    shared = graph.trace(share, encoder.outputs[0])
    point = graph.trace(head, shared.outputs[0], encoder.outputs[1], (1, 1, 2))
    image, point = (sum(map(graph.multiply_adds, group)) for group in
                    ((encoder, shared), (point,)))
    return step.images * (image + step.points * point)


class _Clock:
    """CPU seconds of named calls, including the asynchronous work that they start."""

    def __init__(self) -> None:
        self._times: dict[str, list[float]] = defaultdict(list)

    def time(self, name: str, call: Callable[[], Any]) -> Any:
        from adaptis.runtime import mx  # loads MXNet
        mx.nd.waitall()
        began = time.process_time()
        result = call()
        mx.nd.waitall()
        self._times[name].append(time.process_time() - began)
        return result

    def medians(self) -> dict[str, float]:
        """Return the median of each call by name, and their sum."""
        found = {f'{name}, s': statistics.median(times) for name, times in self._times.items()}
        return {**found, 'sum, s': sum(found.values())}


def _time_step(step: Step) -> float:
    _, system, trainer, batch = _prepare(step)
    _update(system, trainer, batch)
    clock = _Clock()
    for _ in range(RUNS):
        clock.time('step', lambda: _update(system, trainer, batch))
    return clock.medians()['sum, s']


def _prepare(step: Step) -> tuple[Any, Any, Any, dict[str, np.ndarray]]:
    """Return a network with random weights, its system and trainer, and a batch of discs."""
    from adaptis.engine.steps import make_trainer, prepare_gradients  # loads MXNet
    from adaptis.model import get_model  # loads MXNet
    from adaptis.runtime import mx  # loads MXNet
    from adaptis.system import AdaptISSystem  # loads MXNet
    keep_training_memory()   # as `adaptis train` does
    mx.random.seed(0)
    net = get_model('adaptis_toy', width=step.width, proposals=False)
    net.initialize(mx.init.Xavier())
    system = AdaptISSystem(net)
    stage = StageConfig(batch_size=step.images, points=step.points, steps=1,
                        optimizer=OptimizerConfig(lr=1e-4))
    trainer = make_trainer(system, stage, 'device')
    prepare_gradients(trainer, accumulate=False)
    return net, system, trainer, _batch(step)


def _batch(step: Step) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    count, (height, width) = step.images * step.points, step.size
    points = rng.uniform(0, np.array(step.size) - 1, (step.images, step.points, 2))
    rows, cols = np.mgrid[:height, :width]
    offsets = [(rows - row) ** 2 + (cols - col) ** 2 for row, col in points.reshape(count, 2)]
    masks = (np.stack(offsets) < (min(step.size) / 5) ** 2).astype(np.int8)
    return {'image': rng.integers(0, 256, (step.images, 3, *step.size)).astype(np.uint8),
            'points': points.astype(np.float32), 'instances': masks[:, None],
            'semantic': masks.reshape(step.images, step.points, *step.size).max(axis=1)}


def _update(system: Any, trainer: Any, batch: dict[str, np.ndarray]) -> None:
    from adaptis.engine.steps import train_step  # loads MXNet
    from adaptis.runtime import mx  # loads MXNet
    train_step(system, trainer, batch, [mx.current_context()])


def _losses(system: Any, data: dict[str, Any], masks: Any, semantic: Any) -> Any:
    return sum(system.losses(data, (masks, semantic)).values())


def _leaf(array: Any) -> Any:
    """Return the same values without gradient."""
    leaf = array.detach()
    leaf.attach_grad()
    return leaf
