"""Train, evaluate and time each system; an interrupted run continues where it stopped."""
from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional

import numpy as np

from adaptis.config import TrainConfig, load_config
from adaptis.errors import AdaptisError
from adaptis.evaluation.record import device_name, provenance, read_json, write_record
from experiments.benchmarks.process import alone
from experiments.side_by_side import cost, found, pictures
from toy_data import COUNTS, ToySettings, generate

FOLDER = Path(__file__).parent
RESULTS = FOLDER / 'results'
SYSTEMS = ('adaptis', 'panoptic_fpn', 'condinst', 'dense_detections', 'unified')
"""Names of the configs in this folder, in the order of the report."""


class Stopped(Exception):
    """A command was interrupted, with this exit status."""

    def __init__(self, status: int):
        super().__init__(status)
        self.status = status


def draw(config: TrainConfig, workers: int) -> None:
    """Draw the scenes of a config, unless they exist already.

    Raises AdaptisError if the folder contains something else or cannot be written.
    """
    try:
        generate(ToySettings.default('street'), config.data.root, COUNTS['street'], workers)
    except ValueError as error:   # toy_data raises this for what a user can fix
        raise AdaptisError(str(error)) from error


def run(system: str, out: Path, results: Path = RESULTS, overrides: Sequence[str] = (),
        ctx: str = 'cpu') -> Path:
    """Train, evaluate and time one system; returns the path of its result.

    ``overrides`` are those of ``adaptis train --set``; ``ctx`` is the name of the device.  A system
    with a result is skipped.

    Raises Stopped if the training was interrupted, AdaptisError if it failed.
    """
    result = results / f'{system}.json'
    if result.is_file():
        return result
    config, folder = FOLDER / f'{system}.yaml', (out / system).absolute()
    more = [part for override in overrides for part in ('--set', override)]
    _command('train', config, '--output', folder, '--resume', '--ctx', ctx, *more)
    trained, checkpoint = folder / 'config.yaml', folder / 'final.params'   # with the overrides
    record, saved = folder / 'record.json', folder / 'found'
    if not record.is_file():
        _command('evaluate', trained, '--checkpoint', checkpoint, '--save', saved, '--out', record,
                 '--ctx', ctx)
    measured = _record(record)
    result.parent.mkdir(parents=True, exist_ok=True)
    alone(pictures.draw, trained, checkpoint, result.with_suffix('.jpg'), ctx)
    write_record(result, {
        'system': system, 'config': str(config.relative_to(FOLDER.parents[1])),
        'quality': measured['metrics'], 'checkpoint': measured['settings']['checkpoint'],
        'inference': measured['settings']['inference'], 'training': training(folder),
        'found': alone(found.measure, trained, saved),
        'cost': _cost(trained, checkpoint, ctx), 'seed': load_config(trained).seed,
        'overrides': list(overrides),
        **{key: measured[key] for key in ('commit', 'versions', 'hardware', 'date')}})
    return result


def time_again(system: str, out: Path, results: Path = RESULTS, ctx: str = 'cpu') -> Path:
    """Measure the cost of a trained system again, for instance on an idle machine.

    Raises AdaptisError if it is not trained.
    """
    result, folder = results / f'{system}.json', (out / system).absolute()
    content, checkpoint = _record(result), folder / 'final.params'
    if not checkpoint.is_file():
        raise AdaptisError(f'{checkpoint} does not exist: train {system} first.')
    write_record(result, {**content, 'cost': _cost(folder / 'config.yaml', checkpoint, ctx)})
    return result


def _cost(config: Path, checkpoint: Path, ctx: str) -> dict[str, Any]:
    return {**alone(cost.measure, config, checkpoint, ctx), 'device': device_name(ctx),
            'threads': os.environ.get('OMP_NUM_THREADS'), 'commit': provenance()['commit']}


def training(folder: Path) -> dict[str, Any]:
    """Return the steps, images, seconds and commits of a run, from its log.

    Pauses between stopping and resuming do not count.  ``seconds_undisturbed`` is the time that the
    run would have taken at the speed of its fastest tenth of steps, because the machine may have
    had other work as well.

    Raises AdaptisError if there is no log.
    """
    config = load_config(folder / 'config.yaml')
    batch = {name: stage.batch_size for name, stage in config.stages()}
    try:
        lines = (folder / 'log.jsonl').read_text(encoding='utf-8').splitlines()
    except OSError as error:
        raise AdaptisError(f'{folder / "log.jsonl"} cannot be read: {error.strerror}.') from error
    entries = list(map(json.loads, lines))
    records = [r for r in entries if r['kind'] == 'train']
    latest = {(r['stage'], r['step']): r for r in records}   # a resumed run repeats some
    images = {name: batch[name] * max(s for n, s in latest if n == name)
              for name in {name for name, _ in latest}}
    seconds = sum(config.log_every * batch[name] / r['images_per_second']
                  for (name, _), r in latest.items())
    speeds = {name: [r['images_per_second'] for (n, _), r in latest.items() if n == name]
              for name in images}
    undisturbed = sum(count / np.percentile(speeds[name], 90) for name, count in images.items())
    commits = dict.fromkeys(e.get('commit') for e in entries if e['kind'] == 'start')
    return {'seconds': seconds, 'seconds_undisturbed': undisturbed,
            'images': sum(images.values()), 'commits': list(commits),
            'steps': {name: count // batch[name] for name, count in images.items()}}


def load_results(folder: Path = RESULTS) -> list[dict[str, Any]]:
    """Return the existing results, in the order of the systems."""
    paths = [folder / f'{system}.json' for system in SYSTEMS]
    return [_record(path) for path in paths if path.is_file()]


def _record(path: Path) -> dict[str, Any]:
    content: Optional[dict[str, Any]] = read_json(path)
    if not isinstance(content, dict):
        raise AdaptisError(f'{path} is not a result: delete it and run the command again.')
    return content


def _command(*arguments: Any) -> None:
    """Run an ``adaptis`` command in a separate process; raises Stopped or AdaptisError."""
    command = [sys.executable, '-m', 'adaptis.cli', *map(str, arguments)]
    print(' '.join(['adaptis', *command[3:]]), flush=True)
    process = subprocess.Popen(command)
    try:
        status = process.wait()
    except KeyboardInterrupt:
        status = process.wait()   # it was interrupted as well, and saves its state
    if status in (130, 143):
        raise Stopped(status)
    if status:
        raise AdaptisError(f'"adaptis {arguments[0]}" failed: see above.')
