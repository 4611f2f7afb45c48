"""Estimate how long full trainings would take on 1, 8 and 64 GPUs, and what would limit them.

    python -m experiments.benchmarks full_runs              # prints the page from its record
    python -m experiments.benchmarks full_runs --update     # measures and estimates again (minutes)

Hours follow from the counted multiply-adds and bytes (:mod:`experiments.benchmarks.gpu_bounds`) and
an assumed utilisation.  Memory comes from ``adaptis doctor --config``.  The only measurement is how
many synthetic images a core loads per second (:mod:`experiments.benchmarks.loading_rate`).
"""
from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from adaptis.commands.memory import GIB, MARGIN, RESERVE, estimate
from adaptis.config import StageConfig, TrainConfig, load_config
from adaptis.evaluation.record import provenance, short_commit, write_record
from experiments.benchmarks.gpu_bounds import Case, kinds, stage_costs, whole_bound
from experiments.benchmarks.loading_rate import loading_rate
from experiments.benchmarks.markdown import seconds, table, write_text
from experiments.benchmarks.measures import Size, conditions
from experiments.benchmarks.planning import (
    A_MACHINE,
    CORES,
    GPUS,
    NETWORKS,
    PASSES,
    UTILISATION,
    Plan,
    Stage,
    Training,
    at_one_server,
    checkpoint_gb,
    limit,
    plan,
)
from experiments.benchmarks.process import alone
from experiments.benchmarks.roofline import DEVICES, total
from experiments.memory_table import LOG

ROOT = Path(__file__).resolve().parents[2]
PAGE = Path('docs', 'full_runs.md')
RECORD = ROOT / 'experiments' / 'logs' / 'full_runs.json'


class Run(NamedTuple):
    """A training of a recipe with network inputs of ``size`` (H, W)."""

    title: str
    recipe: str
    size: Size


RUNS = (
    Run('AdaptIS, Cityscapes, ResNet-50', 'cityscapes/r50', (400, 800)),
    Run('AdaptIS, Cityscapes, ResNeXt-101', 'cityscapes/x101', (400, 800)),
    Run('AdaptIS, COCO, ResNeXt-101', 'coco/x101', (544, 544)),
    Run('Panoptic FPN, COCO, ResNet-50, 1x', 'panoptic_fpn/coco_r50', (800, 1344)),
    Run('CondInst, COCO, ResNet-50, 1x', 'condinst/coco_r50_1x', (800, 1344)),
)


class Images(NamedTuple):
    """A data set: number of training images, and size of the files that training reads, in GB."""

    count: int
    gigabytes: float


DATA = {'cityscapes': Images(2975, 12), 'coco': Images(118_287, 21)}
_HEAD = """# Full trainings, on paper

`python -m experiments.benchmarks full_runs --update` writes this page. **Everything on it is
calculated; no such training was run, and no GPU was available.** The only measurement is how many
images a core loads. Commit {commit}.

The numbers are based on these assumptions:

- **Hours**: a step takes as long as {passes} forward passes (the backward pass takes about two), or
  {frozen} in the proposal stage of AdaptIS, whose features are frozen. A forward pass takes the
  bound of [Bounds on GPUs](gpu_bounds.md) with unfused operators, divided by an assumed utilisation
  of **{least:.0%} to {most:.0%}**, which gives the range. Validation and waiting are not included.
- **More GPUs than images in a batch**: each GPU gets one image, so the batch becomes larger than
  the recipe's. Then there are fewer steps, and `--scale-lr` adapts the learning rate. How this
  affects the result is not known.
- **Traffic** is the size of the float32 gradients that each machine sends and receives per step,
  with {machine} GPUs per machine. It is the same for a ring all-reduce, 2 (m - 1) / m times the
  gradient, and for MXNet's parameter server with one server on each of the m machines (`dist_sync`,
  `-s m`). A single server would receive m gradients and send the weights m times. MXNet has no
  all-reduce between machines. Traffic and computation are assumed not to overlap. Columns of hours
  without the name of a network do not include traffic.
- **Loading**: images per second that a machine needs, compared with those that one core loads here
  in CPU time, from synthetic images in memory with the size of the data set's images
  (`experiments/benchmarks/loading_rate.py`; {cpu}, load {load:g} on {usable} cores before).
  Machines are assumed to have {cores} cores per GPU.
- **Memory** is what `adaptis doctor --config` estimates, plus {margin:.0%} and {reserve:g} GiB.
- **What limits** is the largest of three ratios at the best utilisation: GPUs count as 1, loading
  as cores needed / cores, the network as time of the exchange / time of the step."""
PLANNED = tuple((device, kind) for device in DEVICES for kind in kinds(device)
                if kind in ('amp', 'TF32') or 'TF32' not in kinds(device))
STATES = {'adam': 2, 'sgd': 1, 'torchsgd': 1}
MEMORY = {'RTX 3090': 24, 'A100 40 GB': 40}


def training_of(run: Run) -> Training:
    """Return the requirements of a training, from the graphs of its network."""
    config = load_config(ROOT / 'experiments' / f'{run.recipe}.yaml')
    stages, weights = [], 0
    for name, stage in config.stages():
        rois = stage.system.get('rois', 0)
        costs = stage_costs(Case(run.title, run.recipe, run.size, stage.points or 0, rois,
                                 round(rois * stage.system.get('foreground', 1))
                                 or stage.system.get('limit', 0)))
        weights = max(weights, total(costs.values()).weights)
        stages.append(Stage(name, seen_images(config, stage), stage.batch_size, {
            (device.name, kind): whole_bound(costs, device, kind, fused=False)
            for device, kind in PLANNED}))
    optimizer = config.stages()[0][1].optimizer.name
    return Training(run.title, run.recipe, stages, weights, STATES[optimizer])


def seen_images(config: TrainConfig, stage: StageConfig) -> int:
    """Return how many images a stage processes, including repetitions."""
    if stage.steps is not None:
        return stage.steps * stage.batch_size
    return (stage.epochs or 0) * (stage.epoch_images or DATA[config.data.dataset].count)


def measure(run: Run) -> dict[str, Any]:
    """Return what a record stores for a run: images per second and core, and peaks of memory."""
    return {'loading': alone(loading_rate, run.recipe), 'memory': logged_memory(run.recipe) or [
        {'stage': each.stage, 'micro_batch': each.micro_batch, 'peak': each.peak,
         'possible': each.possible} for each in estimate(
             load_config(ROOT / 'experiments' / f'{run.recipe}.yaml'), size=run.size,
             memory=min(MEMORY.values()))]}


def logged_memory(recipe: str) -> list[dict[str, Any]]:
    """Return the peaks on one GPU from the memory table of a recipe, or none."""
    rows = json.loads(LOG.read_text(encoding='utf-8'))
    return next((row['one'] for row in rows if row['recipe'] == recipe), [])


def page(record: Mapping[str, Any]) -> str:
    """Return the page of a record."""
    trainings = [training_of(run) for run in RUNS]
    parts = [head(record)]
    for training in trainings:
        parts += [f'## {training.title}', *section(training, record['runs'][training.recipe])]
    return '\n\n'.join(parts) + '\n'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``full_runs``."""
    parser.add_argument('--update', action='store_true',
                        help='measure and estimate again; write the record and docs/full_runs.md')


def run(args: argparse.Namespace) -> None:
    """Print the page, or measure again and write it; AdaptisError if writing fails."""
    if args.update:
        before = conditions()
        runs = {}
        for each in RUNS:
            runs[each.recipe] = measure(each)
            print(f'{each.title}: {runs[each.recipe]["loading"]}', flush=True)
        write_record(RECORD, {'runs': runs, 'conditions': before, **provenance()})
        write_text(PAGE, page(read()))
        print(f'Wrote {RECORD.relative_to(ROOT)} and {PAGE}.')
    else:
        print(page(read()))


def read() -> dict[str, Any]:
    """Return the record."""
    return json.loads(RECORD.read_text(encoding='utf-8'))


def head(record: Mapping[str, Any]) -> str:
    """Return the text above all trainings."""
    hardware, given = record['hardware'], record['conditions']
    return _HEAD.format(
        commit=short_commit(record['commit'], 10), cpu=hardware['cpu'],
        load=given['load before'], usable=given['cores to run on'], least=UTILISATION[0],
        most=UTILISATION[1], machine=A_MACHINE, cores=CORES, margin=MARGIN - 1, reserve=RESERVE,
        passes=PASSES['joint'], frozen=PASSES['proposals'])


def section(training: Training, measured: Mapping[str, Any]) -> Iterator[str]:
    """Yield the paragraphs of a training; ``measured`` is the result of ``measure`` for it."""
    config = load_config(ROOT / 'experiments' / f'{training.recipe}.yaml')
    data, rate = DATA[config.data.dataset], measured['loading']['images a second']
    images = ', '.join(f'{stage.name} {stage.images:,} images in batches of {stage.batch}'
                       for stage in training.stages)
    gradient = training.parameters * 4e-6
    yield (f'`experiments/{training.recipe}.yaml`: {images}. The gradients have {gradient:.0f} MB. '
           f'A core loads {rate:.1f} images per second.')
    lines = []
    for device, kind in PLANNED:
        for gpus in GPUS:
            found = plan(training, gpus, device, kind)
            lines.append([f'{gpus} x {device.name}, {kind}', *_plan_cells(found, rate)])
    yield table(['GPUs', 'batch', 'hours', *(f'hours, {name}' for name in NETWORKS), 'step',
                 'images a second, a machine',
                 f'cores for loading, of {CORES} a GPU', 'GB sent in a step',
                 *(f'that takes, {name}' for name in NETWORKS), 'what limits, 10 Gbit/s',
                 '100 Gbit/s'], lines)
    yield _memory_sentence(measured['memory'])
    machines = max(GPUS) // A_MACHINE
    single = at_one_server(training.parameters, machines)
    yield (f'With {machines} machines, a single parameter server would receive '
           f'{single:.1f} GB per step. Storage: the data set has about {data.gigabytes:g} GB, '
           f'which stay in the memory of a machine after the first epoch; a checkpoint has '
           f'{checkpoint_gb(training):.2f} GB.')


def _plan_cells(found: Plan, rate: float) -> list[str]:
    step = ' - '.join(map(seconds, sorted(found.step)))
    return [str(found.batch), _span(found.hours),
            *(_span(found.network_hours(speed)) if found.exchange else '' for speed in
              NETWORKS.values()), step, _span(found.rate),
            _span(found.cores(rate)), f'{found.exchange:.2f}' if found.exchange else '',
            *(seconds(found.network_seconds(speed)) for speed in NETWORKS.values()),
            *(limit(found, rate, speed) for speed in NETWORKS.values())]


def _span(ends: tuple[float, float]) -> str:
    low, high = sorted(ends)
    digits = 0 if low >= 10 else 1 if low >= 1 else 2
    return f'{low:,.{digits}f} - {high:,.{digits}f}'


def _memory_sentence(peaks: Sequence[Mapping[str, Any]]) -> str:
    said = []
    for stage in dict.fromkeys(peak['stage'] for peak in peaks):
        rows = [peak for peak in peaks if peak['stage'] == stage]
        fits = [f'{_largest(rows, gib)} in {gib} GB ({name})' for name, gib in MEMORY.items()]
        said.append(f'{stage} {rows[0]["peak"] / GIB:.1f} GiB for {rows[0]["micro_batch"]} images '
                    f'on one GPU; images that fit: {", ".join(fits)}')
    return f'Memory: {"; ".join(said)}. A GPU whose share of a batch is larger needs `micro_batch`.'


def _largest(rows: Sequence[Mapping[str, Any]], gib: float) -> str:
    """The largest micro_batch among the estimated ones that fits."""
    return next((str(row['micro_batch']) for row in rows
                 if row['possible'] and row['peak'] / GIB * MARGIN + RESERVE <= gib), 'none')
