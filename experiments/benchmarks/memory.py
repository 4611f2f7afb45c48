"""How well ``adaptis doctor --config`` estimates the memory that MXNet gives a training step.

    python -m experiments.benchmarks memory [CASE ...] [--images 1 2] [--out FILE]

A case is a stage of a recipe with small images; two-stage systems learn from few RoIs.  MXNet's
profiler counts the bytes that its storage manager allocates, on the CPU and with MXNet's own
convolutions.  Their workspace (one image at a time) is included only in the measured bytes.
"""
from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from adaptis.commands.memory import estimate
from adaptis.commands.train import set_norm_devices
from adaptis.config import TrainConfig, config_from_dict, load_config
from adaptis.data.batches import BatchSource
from adaptis.engine.memory_sizes import MadeUpImages, data_facts, make_batch
from adaptis.registry import find_family
from experiments.benchmarks.measures import (
    add_record_arguments,
    conditions,
    keep_record,
    one_of,
)

ENVIRONMENT = {'MXNET_ENGINE_TYPE': 'NaiveEngine', 'MXNET_MKLDNN_ENABLED': '0',
               'MXNET_CPU_TEMP_COPY': '1',   # as on GPUs
               'OMP_NUM_THREADS': '1', 'MXNET_STORAGE_FALLBACK_LOG_VERBOSE': '0'}


class Case(NamedTuple):
    """A stage of a recipe with ``changes``, and the (height, width) of its images."""

    recipe: str
    stage: str
    size: tuple[int, int]
    changes: tuple[str, ...] = ()


CASES = {
    'adaptis': Case('cityscapes/r50', 'instances', (64, 128)),
    'adaptis_proposals': Case('cityscapes/r50', 'proposals', (64, 128)),
    'panoptic_fpn': Case('panoptic_fpn/coco_r50', 'joint', (128, 192), ('joint.system.rois=32',)),
    'condinst': Case('condinst/coco_r50_1x', 'joint', (128, 192)),
    'dense_detections': Case('dense_detections/coco_r50', 'joint', (128, 192)),
    # Random weights find few detections; the estimate assumes as many as trained weights find.
    'unified': Case('unified/coco_r50', 'joint', (128, 192),
                    ('joint.system.rois=32', 'joint.system.detections=ground_truth'))}

ROOT = Path(__file__).resolve().parents[2]
_CHILD = 'from experiments.benchmarks.memory import child; child()'


def measure(config: TrainConfig, stage: str, size: tuple[int, int], images: int,
            steps: int = 2) -> int:
    """Return the peak of bytes that MXNet allocated during ``steps`` real steps.

    They run in a separate process, on the CPU, with ``images`` synthetic images of ``size``.
    """
    task = {'config': config.to_dict(), 'stage': stage, 'size': size, 'images': images,
            'steps': steps}
    done = subprocess.run([sys.executable, '-c', _CHILD], input=json.dumps(task), text=True,
                          stdout=subprocess.PIPE, check=True, env={**os.environ, **ENVIRONMENT})
    return json.loads(done.stdout.splitlines()[-1])['peak']


def child() -> None:
    """Run what ``measure`` requests on stdin, and print the result as JSON."""
    from adaptis.runtime import mx  # loads MXNet
    task = json.load(sys.stdin)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / 'profile.json'
        mx.profiler.set_config(profile_memory=True, filename=str(file))
        mx.profiler.set_state('run')
        _train(mx, task)
        mx.profiler.set_state('stop')
        mx.profiler.dump()
        events = json.loads(file.read_text())['traceEvents']
    held = [next(iter(event['args'].values())) for event in events
            if event.get('ph') == 'C' and event['name'].startswith('Memory: cpu')]
    print(json.dumps({'peak': max(held)}))


def _train(mx: Any, task: dict[str, Any]) -> None:
    from adaptis.engine.steps import make_trainer, seed_everything, train_step  # loads MXNet
    config = config_from_dict(task['config'], 'config')
    taxonomy, _ = data_facts(config)
    family, stage = find_family(config.model['name']), dict(config.stages())[task['stage']]
    arguments = {**family.class_counts(taxonomy), **config.model}
    for key in ('pretrained_base', 'pretrained'):
        arguments.pop(key, None)
    seed_everything(0, 0, 0)
    net = family.build(set_norm_devices(arguments, 1), [mx.cpu()])
    system = family.make_system(net, taxonomy, task['stage'], **stage.system)
    source = BatchSource(MadeUpImages(taxonomy, tuple(task['size']), 1), 1, stage.points,
                         strategy=stage.sampling)
    if hasattr(system, 'targets'):
        source = dataclasses.replace(source, targets=system.targets())
    batch = make_batch(source, task['images'])
    trainer = make_trainer(system, stage, None)
    trainer.set_learning_rate(0)   # random weights would make the next outputs infinite
    for step in range(task['steps']):
        if hasattr(system, 'begin_step'):
            system.begin_step(step)
        train_step(system, trainer, batch, [mx.cpu()])


def compare(config: TrainConfig, stage: str, size: tuple[int, int],
            images: int) -> dict[str, int]:
    """Return 'estimated' and 'measured' bytes of a step with ``images`` images of ``size``."""
    changed = dataclasses.replace(dict(config.stages())[stage], batch_size=images,
                                  micro_batch=None)
    config = dataclasses.replace(config, **{stage: changed})
    first = next(each for each in estimate(config, memory=1e9, size=size)
                 if each.stage == stage)
    return {'estimated': first.peak, 'measured': measure(config, stage, size, images)}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``memory``."""
    parser.add_argument('cases', nargs='*', metavar='CASE', type=one_of('case', CASES),
                        help=f'default: all of {", ".join(CASES)}')
    parser.add_argument('--images', type=int, nargs='+', default=[1, 2])
    add_record_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Print the comparison of each case and number of images, and write the record if asked to."""
    before, rows = conditions(), {}
    for name in args.cases or CASES:
        case = CASES[name]
        config = load_config(ROOT / 'experiments' / f'{case.recipe}.yaml', case.changes)
        for images in args.images:
            found = compare(config, case.stage, case.size, images)
            rows[f'{name}, {images} images'] = found
            print(f'{name}, {images} images: estimated {found["estimated"] / 2 ** 20:.0f} MiB, '
                  f'measured {found["measured"] / 2 ** 20:.0f} MiB '
                  f'({found["estimated"] / found["measured"]:.0%})', flush=True)
    keep_record(args, rows, before)
