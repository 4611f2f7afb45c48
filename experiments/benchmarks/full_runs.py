"""How long whole trainings would take on 1, 8 and 64 GPUs, and what would limit them, on paper.

    python -m experiments.benchmarks full_runs              # prints the page from its record
    python -m experiments.benchmarks full_runs --update     # measures and estimates again (minutes)

Hours follow from the counted multiply-adds and bytes (:mod:`experiments.benchmarks.gpu_bounds`) and
an assumed utilisation, memory from ``adaptis doctor --config``.  Measured is only how many images a
core loads in a second, on made-up images (:mod:`experiments.benchmarks.loading_rate`).
"""
from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from adaptis.commands.memory import GIB, MARGIN, RESERVE, estimate
from adaptis.config import StageConfig, TrainConfig, load_config
from adaptis.evaluation.record import provenance, write_record
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
    """A training of a recipe with images of ``size`` (H, W), as the network sees them."""

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
    """A data set: its images for training, and GB of all its files that a training reads."""

    count: int
    gigabytes: float


DATA = {'cityscapes': Images(2975, 12), 'coco': Images(118_287, 21)}
_HEAD = """# Whole trainings, on paper

`python -m experiments.benchmarks full_runs --update` writes this page. **Everything on it is
calculated; no such training was run, and no GPU was there.** Measured is only how many images a
core loads. Commit {commit}.

What the numbers rest on:

- **Hours**: a step takes {passes} forward passes (backwards is about two), and {frozen} in the
  proposal stage of AdaptIS, whose features are frozen. A forward pass takes the bound of
  [Bounds on GPUs](gpu_bounds.md) with every operator by itself, divided by an assumed utilisation
  of **{least:.0%} to {most:.0%}**: that is the range. Validation and waiting are left out.
- **More GPUs than images in a batch**: each GPU gets one image, so the batch grows beyond the
  recipe's. Then there are fewer steps, and `--scale-lr` adapts the learning rate; what that does to
  the result is not known.
- **Traffic** is that of float32 gradients, for machines of {machine} GPUs: what each machine sends
  in a step, and receives. It is the same for an all-reduce in a ring, 2 (m - 1) / m times the
  gradient, and for MXNet's parameter server with one server in each of the m machines (`dist_sync`,
  `-s m`). With a single server, that one receives m gradients and sends m times the weights. MXNet
  has no all-reduce between machines. Traffic and computing are counted one after the other: the
  hours without the name of a network are those of computing alone.
- **Loading**: images a second that a machine needs, against those that one core loads here by CPU
  time, from made-up images in memory, as large as the data set's
  (`experiments/benchmarks/loading_rate.py`; {cpu}, load {load:g} on {usable} cores before).
  Machines are assumed to have {cores} cores for each GPU.
- **Memory** is what `adaptis doctor --config` estimates, plus {margin:.0%} and {reserve:g} GiB.
- **What limits** is the largest of three shares at the best utilisation: the GPUs count as 1,
  loading as cores needed / cores, the network as time of the exchange / time of the step."""
PLANNED = tuple((device, kind) for device in DEVICES for kind in kinds(device)
                if kind in ('amp', 'TF32') or 'TF32' not in kinds(device))
STATES = {'adam': 2, 'sgd': 1, 'torchsgd': 1}
MEMORY = {'RTX 3090': 24, 'A100 40 GB': 40}


def training_of(run: Run) -> Training:
    """Return what a training asks for, from the graphs of its network."""
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
    """Return how many images a stage sees, those that come again included."""
    if stage.steps is not None:
        return stage.steps * stage.batch_size
    return (stage.epochs or 0) * (stage.epoch_images or DATA[config.data.dataset].count)


def measure(run: Run) -> dict[str, Any]:
    """Return what a record keeps of a run: images a second of a core, and peaks of memory."""
    return {'loading': alone(loading_rate, run.recipe), 'memory': logged_memory(run.recipe) or [
        {'stage': each.stage, 'micro_batch': each.micro_batch, 'peak': each.peak,
         'possible': each.possible} for each in estimate(
             load_config(ROOT / 'experiments' / f'{run.recipe}.yaml'), size=run.size,
             memory=min(MEMORY.values()))]}


def logged_memory(recipe: str) -> list[dict[str, Any]]:
    """Return the peaks on one GPU that the table of memory has of a recipe, or none."""
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
    """Print the page, or measure again and write it; AdaptisError if a file cannot be written."""
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
    """Return what stands above all trainings."""
    hardware, given = record['hardware'], record['conditions']
    return _HEAD.format(
        commit=(record['commit'] or 'unknown')[:10], cpu=hardware['cpu'],
        load=given['load before'], usable=given['cores to run on'], least=UTILISATION[0],
        most=UTILISATION[1], machine=A_MACHINE, cores=CORES, margin=MARGIN - 1, reserve=RESERVE,
        passes=PASSES['joint'], frozen=PASSES['proposals'])


def section(training: Training, measured: Mapping[str, Any]) -> Iterator[str]:
    """Yield the paragraphs of a training; ``measured`` is what ``measure`` returns of it."""
    config = load_config(ROOT / 'experiments' / f'{training.recipe}.yaml')
    data, rate = DATA[config.data.dataset], measured['loading']['images a second']
    images = ', '.join(f'{stage.name} {stage.images:,} images in batches of {stage.batch}'
                       for stage in training.stages)
    gradient = training.parameters * 4e-6
    yield (f'`experiments/{training.recipe}.yaml`: {images}. The gradient has {gradient:.0f} MB. A '
           f'core loads {rate:.1f} images a second.')
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
    yield (f'With a single parameter server for {machines} machines, that one would receive '
           f'{single:.1f} GB in a step. Storage: the data set has about {data.gigabytes:g} GB, '
           f'which fit into the memory of a machine after the first epoch; a checkpoint has '
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
