"""``adaptis doctor --config``: the memory that training needs, and the micro_batch that fits.
"""
from __future__ import annotations

import argparse
import dataclasses
import json
import os
import re
import subprocess
import sys
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Optional

from adaptis.commands.rows import config_path
from adaptis.commands.train import set_norm_devices
from adaptis.config import StageConfig, TrainConfig, config_from_dict, load_config
from adaptis.data.batches import BatchSource
from adaptis.engine.memory_plan import (
    ENVIRONMENT,
    MOST_ELEMENTS,
    GraphMemory,
    graph_memory,
    parse_plan,
    unrecorded_peak,
)
from adaptis.engine.memory_sizes import MadeUpImages, data_facts, largest_size, make_batch
from adaptis.errors import AdaptisError
from adaptis.registry import find_family
from adaptis.types import Taxonomy

GIB = 2 ** 30
RESERVE = 2.0
"""GiB of a GPU that are kept free for CUDA, cuDNN, and the workspaces of convolutions (MXNet allows
these 1 GiB)."""
MARGIN = 1.1
"""Factor by which a step may exceed the estimate, for operators' scratch space and gaps between
arrays."""
TIME_LIMIT = 900   # seconds

_CHILD = 'from adaptis.commands.memory import child; child()'


def run(args: argparse.Namespace) -> int:
    """Print the estimates for the arguments of ``adaptis doctor``; return 0."""
    if args.devices < 1 or (args.memory is not None and not 0 < args.memory < float('inf')):
        raise AdaptisError('--devices and --memory must be positive numbers.')
    config = load_config(config_path(str(args.config)), args.set)
    found = estimate(config, args.devices, args.memory, _parse_size(args.size))
    print(json.dumps([{**dataclasses.asdict(each), 'peak': each.peak} for each in found], indent=2)
          if args.json else report(found, args.memory))
    return 0


@dataclass(frozen=True)
class Estimate:
    """Memory of a training stage on each device, in bytes.

    Attributes
    ----------
    stage : 'instances', 'proposals' or 'joint'
    micro_batch : number of images of a process in a forward pass
    images, size : number of images of one device in a forward pass, and their height and width
    parameters, gradients, optimizer, average : arrays of the trained and the fixed parameters, of
        the gradients (with several devices also those in transit), of the optimizer's state and of
        the moving average
    batch : images and targets
    activations : what the forward pass keeps for the backward pass
    backward : what the peak adds to ``activations``
    largest : number of elements of the largest array
    """

    stage: str
    micro_batch: int
    images: int
    size: tuple[int, int]
    parameters: int
    gradients: int
    optimizer: int
    average: int
    batch: int
    activations: int
    backward: int
    largest: int

    @property
    def peak(self) -> int:
        """The peak memory."""
        return sum(getattr(self, name) for name in PARTS)

    @property
    def possible(self) -> bool:
        """Whether all arrays are small enough for MXNet."""
        return self.largest <= MOST_ELEMENTS

    def fits(self, memory: float) -> bool:
        """Return whether the stage fits on a device with ``memory`` GiB."""
        return self.possible and self.peak / GIB * MARGIN + RESERVE <= memory


_TOO_LARGE = re.compile(rf'\((\d+) vs\. {MOST_ELEMENTS}\)')   # in MXNet's message
PARTS = ('parameters', 'gradients', 'optimizer', 'average', 'batch', 'activations', 'backward')


def estimate(config: TrainConfig, devices: int = 1, memory: Optional[float] = None,
             size: Optional[tuple[int, int]] = None) -> list[Estimate]:
    """Return the memory of each stage, first for the ``micro_batch`` of the config.

    Smaller ones follow, either all of them or, with ``memory`` in GiB, until one fits.  Nothing is
    computed and no data set is read.  A separate process plans the steps.

    Parameters
    ----------
    devices : number of devices that share the batch of a process
    size : (height, width) of the images of a batch, instead of the largest that the config allows

    Raises AdaptisError if the config does not limit the size, or a step cannot be planned.
    """
    taxonomy, image = data_facts(config)
    task = {'config': config.to_dict(), 'devices': devices, 'memory': memory, 'stages': [
        (name, size or largest_size(stage, image, name)) for name, stage in config.stages()],
        'taxonomy': [dataclasses.asdict(c) for c in taxonomy.categories]}
    try:
        done = subprocess.run([sys.executable, '-c', _CHILD], input=json.dumps(task), text=True,
                              capture_output=True, timeout=TIME_LIMIT, check=False,
                              env={**os.environ, **ENVIRONMENT})
    except subprocess.TimeoutExpired as error:
        raise AdaptisError(f'Planning the steps took more than {TIME_LIMIT} seconds and was '
                           'stopped.') from error
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{')]
    wrong = next((line['error'] for line in lines if 'error' in line), None)
    if wrong or done.returncode:
        last = (done.stderr.strip().splitlines() or ['no message'])[-1]
        raise AdaptisError(wrong or f'Planning the steps failed ({last}).')
    return [Estimate(**{**line, 'size': tuple(line['size'])}) for line in lines]


def child() -> None:
    """Plan the steps of the task on stdin; print one JSON object per estimate, or an error."""
    try:
        for found in _plan(json.load(sys.stdin)):
            print(json.dumps(dataclasses.asdict(found)), flush=True)
    except AdaptisError as error:
        print(json.dumps({'error': str(error)}), flush=True)
    except Exception:   # the engine is stopped, so the interpreter could not exit
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)


def report(found: Sequence[Estimate], memory: Optional[float] = None) -> str:
    """Return a table of estimates, and the ``micro_batch`` that fits into ``memory`` GiB."""
    lines = []
    for stage in dict.fromkeys(each.stage for each in found):
        rows = [each for each in found if each.stage == stage]
        lines += [f'{stage}: images of {rows[0].size[0]}x{rows[0].size[1]}, GiB on each device',
                  *_table(rows), *_advice(rows, memory), '']
    return '\n'.join(lines) + (
        f'Add about {RESERVE:g} GiB for CUDA and cuDNN with its workspaces, and up to '
        f'{MARGIN - 1:.0%} for scratch space and gaps.')


def _parse_size(text: Optional[str]) -> Optional[tuple[int, int]]:
    if text is None:
        return None
    height, _, width = text.partition('x')
    if not (height.isdecimal() and width.isdecimal() and int(height) and int(width)):
        raise AdaptisError(f'--size {text}: write HEIGHTxWIDTH, e.g. 800x1333.')
    return int(height), int(width)


def _table(rows: Sequence[Estimate]) -> Iterator[str]:
    yield f'  {"micro_batch":>11}{"peak":>8}' + ''.join(f'{name:>13}' for name in PARTS)
    for row in rows:
        peak = f'{row.peak / GIB:8.1f}' if row.possible else f'{"-":>8}'
        yield f'  {row.micro_batch:>11}{peak}' + ''.join(
            f'{getattr(row, name) / GIB:13.2f}' for name in PARTS)


def _advice(rows: Sequence[Estimate], memory: Optional[float]) -> Iterator[str]:
    impossible = [row for row in rows if not row.possible]
    if impossible:
        row = min(impossible, key=lambda each: each.micro_batch)
        yield (f'  With micro_batch {row.micro_batch} an array has {row.largest:,} elements, but '
               f'MXNet allows at most {MOST_ELEMENTS:,}.')
    if memory is None:
        return
    fitting = [row for row in rows if row.fits(memory)]
    if not fitting:
        yield (f'  Nothing fits into {memory:g} GiB: use more devices (--devices), smaller images '
               'or precision: amp.')
    elif fitting[0] is rows[0]:
        yield f'  It fits into {memory:g} GiB.'
    else:
        yield (f'  For {memory:g} GiB: --set {rows[0].stage}.micro_batch='
               f'{fitting[0].micro_batch}')


def _plan(task: dict[str, Any]) -> Iterator[Estimate]:
    from adaptis.engine.dry_run import Recorder  # loads MXNet
    config = config_from_dict(task['config'], 'The config')
    taxonomy = Taxonomy.from_list(task['taxonomy'], 'The data set')
    recorder = Recorder()
    if config.precision == 'amp':
        from adaptis.engine.precision import enable_mixed_precision  # loads MXNet
        enable_mixed_precision([recorder.context])
    family = find_family(config.model['name'])
    arguments = {**family.class_counts(taxonomy), **config.model}
    for key in ('pretrained_base', 'pretrained'):
        arguments.pop(key, None)   # the values of the weights do not matter
    net = family.build(set_norm_devices(arguments, 1), [recorder.context])
    for (name, stage), (_, size) in zip(config.stages(), task['stages']):
        # Not hybridized, because a hybridized block hides its inner graph; both need the same
        # memory.
        options = {**stage.system, 'hybridize': False}
        system = family.make_system(net, taxonomy, name, **options)
        for micro_batch in _choices(stage, task['devices']):
            found = _estimate_if_possible(recorder, system, name, stage, tuple(size), micro_batch,
                                          task['devices'], taxonomy)
            yield found
            if task['memory'] and found.fits(task['memory']):
                break


def _choices(stage: StageConfig, devices: int) -> list[int]:
    """Return the micro-batch sizes that can replace that of a stage, largest first."""
    own = stage.micro_batch or stage.batch_size
    found = [n for n in range(own, 0, -1) if stage.batch_size % n == 0 and n % devices == 0]
    if not found:
        raise AdaptisError(f'A batch of {own} images cannot be divided among {devices} devices: '
                           'change --devices, batch_size or micro_batch.')
    return found


def _estimate_if_possible(recorder: Any, system: Any, name: str, stage: StageConfig,
                          size: tuple[int, int], micro_batch: int, *rest: Any) -> Estimate:
    """Return an estimate, without memory if an array is too large for MXNet."""
    from adaptis.runtime import mx  # loads MXNet
    try:
        return _estimate(recorder, system, name, stage, size, micro_batch, *rest)
    except mx.MXNetError as error:
        refused = _TOO_LARGE.search(str(error))
        if not refused:
            raise
    return Estimate(name, micro_batch, micro_batch // rest[0], size, *[0] * len(PARTS),
                    largest=int(refused[1]))


def _estimate(recorder: Any, system: Any, name: str, stage: StageConfig, size: tuple[int, int],
              micro_batch: int, devices: int, taxonomy: Taxonomy) -> Estimate:
    from adaptis.engine.dry_run import array_bytes  # these load MXNet
    from adaptis.engine.steps import make_optimizer
    images = micro_batch // devices
    source = BatchSource(MadeUpImages(taxonomy, size, 1), 1, stage.points,
                         strategy=stage.sampling)
    if hasattr(system, 'targets'):
        source = dataclasses.replace(source, targets=system.targets())
    host = getattr(system, 'host_keys', ())
    batch = {key: value if key in host else recorder.put(value)
             for key, value in make_batch(source, images).items()}
    arrays = sum(array_bytes(value) for key, value in batch.items() if key not in host)
    graph, paused = _run(recorder, system, batch)
    everything = system.net.collect_params().values()
    # Parameters that only another stage trains have gradients, too.
    gradients = array_bytes([p.data() for p in everything if p.grad_req != 'null'])
    trained = [p for p in system.parameters().values() if p.grad_req != 'null']
    weights, optimizer = [p.data() for p in trained], make_optimizer(stage.optimizer)
    kept = graph.kept + max(0, graph.inputs - arrays)
    return Estimate(
        stage=name, micro_batch=micro_batch, images=images, size=size,
        parameters=array_bytes([p.data() for p in everything]),
        gradients=gradients * (2 if devices > 1 else 1),
        optimizer=array_bytes([optimizer.create_state(i, w) for i, w in enumerate(weights)]),
        average=array_bytes(weights) if stage.ema is not None else 0, batch=arrays,
        activations=kept,
        backward=max(graph.peak, paused) - graph.kept, largest=graph.largest)


def _run(recorder: Any, system: Any, batch: dict[str, Any]) -> tuple[GraphMemory, int]:
    """Return the memory of a step's graph, and the peak memory of what autograd does not record."""
    from adaptis.engine.dry_run import logged, mx  # these load MXNet
    from adaptis.engine.precision import half_precision
    if hasattr(system, 'begin_step'):
        system.begin_step(0)
    recorder.restart()
    lines: list[str] = []
    with logged(lines):
        with half_precision(), mx.autograd.record():
            total = sum(system.losses(batch).values())
        total.backward()
    shapes = [p.shape for p in system.net.collect_params().values()]
    graph = graph_memory(parse_plan(lines), shapes)
    return graph, unrecorded_peak(recorder.tape, graph.kept)
