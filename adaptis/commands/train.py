"""``adaptis train``: train a config, stop and resume at will, measure the result."""
from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, Callable, Optional

from adaptis.commands.rows import beside_published, check_row, row_of, run_name
from adaptis.config import StageConfig, TrainConfig, load_config
from adaptis.errors import AdaptisError
from adaptis.loading import inference_settings
from adaptis.machine import keep_freed_memory
from adaptis.registry import ModelFamily, find_family

HELP = 'Train a network from a config; Ctrl-C stops it, --resume goes on.'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument('config', type=Path, help='for instance experiments/toy_v1_cpu.yaml')
    parser.add_argument('--resume', action='store_true',
                        help='go on from the newest checkpoint of the output folder')
    parser.add_argument('--output', type=Path, help='default: runs/<name of the config>, e.g. '
                                                   'runs/coco_r50 for experiments/coco/r50.yaml')
    parser.add_argument('--ctx', default='auto', help='auto, cpu, gpu or gpu:0,1 (default: auto)')
    parser.add_argument('--kvstore', default='device',
                        help='how gradients are added up: device, local, nccl, dist_sync or '
                        'dist_device_sync (default: device)')
    parser.add_argument('--data', help='folder of the data set, instead of data.root')
    parser.add_argument('--workers', type=int, help='data processes, instead of workers')
    parser.add_argument('--set', action='append', default=[], metavar='KEY=VALUE',
                        help='override a key of the config, e.g. instances.optimizer.lr=1e-4')


def run(args: argparse.Namespace) -> int:
    """Train and evaluate; 0 when done, 130 after Ctrl-C, 143 after SIGTERM."""
    config = load_config(args.config, _overrides(args))
    check_row(config, args.config)
    output = args.output or Path('runs') / run_name(args.config)
    _check_output(output, args.resume)
    from adaptis.engine.stopping import Stopped
    from adaptis.engine.trainer import fit
    start = _find_start(output, config, args)
    job = _prepare(config, output, args, resumed=start is not None)
    if start is not None:
        _resume(job, start)
    try:
        fit(job, start)
    except Stopped as stopped:
        if job.rank == 0:
            print('Stopped; go on with the same command and --resume.')
        return stopped.status
    if job.rank == 0:
        _finish(job)
    return 0


def _overrides(args: argparse.Namespace) -> list[str]:
    extra = list(args.set)
    if args.data is not None:
        extra.append(f'data.root={json.dumps(args.data)}')
    if args.workers is not None:
        extra.append(f'workers={args.workers}')
    return extra


def _check_output(output: Path, resume: bool) -> None:
    if output.exists() and not output.is_dir():
        raise AdaptisError(f'{output} is not a folder: give another --output.')
    if not resume and output.is_dir() and any(output.iterdir()):
        raise AdaptisError(f'{output} already holds a run: go on with --resume, or give another '
                           '--output.')


def _find_start(output: Path, config: TrainConfig, args: argparse.Namespace) -> Optional[Any]:
    """The checkpoint to go on from, if that was asked for and there is one."""
    if not args.resume:
        return None
    from adaptis.engine.checkpoint import CheckpointFolder
    from adaptis.engine.resuming import check_same_run, named_keys
    start = CheckpointFolder(output / 'checkpoints').latest()
    if start is None:
        print(f'{output} holds no checkpoint yet: starting anew.')
    else:
        check_same_run(start, config, named_keys(_overrides(args)))
    return start


def _prepare(config: TrainConfig, output: Path, args: argparse.Namespace, resumed: bool) -> Any:
    from adaptis.engine.distributed import open_store
    from adaptis.engine.steps import seed_everything
    from adaptis.engine.trainer import Run
    from adaptis.engine.validation import PointValidation, Preview, ResultValidation
    from adaptis.runtime import context
    family, settings = find_family(config.model['name']), inference_settings(config)
    train, held_out = _open_data(config)
    contexts = context(args.ctx)
    if contexts[0].device_type == 'cpu':
        keep_freed_memory()
    kvstore = open_store(args.kvstore)
    if config.precision == 'amp':
        _enable_half(contexts)
    seed_everything(config.seed, 0, 0)
    net = _build_net(family, config, contexts, train.taxonomy, resumed)
    if not family.uses_points:
        # A mistake in the settings is reported now and not after the training.
        family.make_predictor(net, settings, train.taxonomy, family.stages)
    validation = (PointValidation(held_out, config.validation, contexts[0], settings)
                  if family.uses_points else
                  ResultValidation(held_out, config.validation, family, settings))
    preview = Preview(held_out, settings, family=family)
    make_system = _system_maker(family, net, config, train.taxonomy)
    return Run(config=config, net=net, make_system=make_system, dataset=train,
               held_out=held_out, folder=output, contexts=contexts, kvstore=kvstore,
               workers=config.workers, validate=lambda: validation(net),
               picture=lambda stage: preview(net, stage), rank=getattr(kvstore, 'rank', 0),
               world=getattr(kvstore, 'num_workers', 1))


def _open_data(config: TrainConfig) -> tuple[Any, Any]:
    """What to learn from and what to validate on; AdaptisError if anything about them is wrong."""
    from adaptis.data import check
    from adaptis.data.datasets import open_dataset
    data = config.data
    train, held_out = (open_dataset(data.dataset, data.root, split, annotation=data.annotation)
                       for split in (data.split, data.val_split))
    for dataset, key in ((train, 'split'), (held_out, 'val_split')):
        if dataset.annotations is None:
            raise AdaptisError(f'The split "{getattr(data, key)}" of {data.root} has no ground '
                               f'truth: choose another data.{key}.')
        check.quick(dataset)
    difference = check.compare_categories([train, held_out])
    if difference:
        raise AdaptisError(difference)
    return train, held_out


def _enable_half(contexts: list[Any]) -> None:
    from adaptis.engine.precision import enable
    print(f'Training steps compute in {enable(contexts)} where MXNet takes it for safe.')


def _build_net(family: ModelFamily, config: TrainConfig, contexts: list[Any], taxonomy: Any,
               resumed: bool) -> Any:
    counts = family.class_counts(taxonomy)
    arguments = {**counts, **config.model}
    if any(arguments[name] != count for name, count in counts.items()):
        raise AdaptisError(f'The data set has {len(taxonomy)} classes, {taxonomy.num_stuff} of '
                           f'them stuff: model.{" and ".join(counts)} must say so, or nothing.')
    if resumed:
        for key in ('pretrained_base', 'pretrained'):
            arguments.pop(key, None)  # a checkpoint replaces those weights
    return family.build(for_devices(arguments, len(contexts)), contexts)


def for_devices(arguments: dict[str, Any], devices: int) -> dict[str, Any]:
    """A network's arguments with SyncBatchNorm told of its devices, if there are several.

    Of some networks other parts than the backbone have it, too, as ``head_norm`` and the like.
    """
    synchronised = [name for name, value in arguments.items()
                    if value == 'SyncBatchNorm' and name.endswith(('norm_layer', '_norm'))]
    if not synchronised:
        return arguments
    options = dict(arguments.get('norm_kwargs') or {})
    options.pop('num_devices', None)
    if devices > 1:
        return {**arguments, 'norm_kwargs': {**options, 'num_devices': devices}}
    options.pop('key', None)
    return {**arguments, **dict.fromkeys(synchronised, 'BatchNorm'), 'norm_kwargs': options}


def _system_maker(family: ModelFamily, net: Any, config: TrainConfig,
                  taxonomy: Any) -> Callable[[str, StageConfig], Any]:
    def make(name: str, stage: StageConfig) -> Any:
        return family.make_system(net, taxonomy, name, **stage.system)

    known = family.system_options()
    for name, stage in config.stages():
        unknown = sorted(set(stage.system) - set(known))
        if unknown:
            raise AdaptisError(f'The config key {name}.system has no {unknown[0]}; '
                               f'known: {", ".join(known)}.')
        make(name, stage)  # its mistakes are told now, not later
    return make


def _resume(job: Any, start: Any) -> None:
    from adaptis.engine.checkpoint import load_parameters
    from adaptis.engine.logs import drop_after
    load_parameters(job.net, start)
    if job.rank == 0:
        drop_after(job.folder, start.position.index, start.position.step)


def _finish(job: Any) -> None:
    """Write the network, measure it on the held-out images, and say where all that is."""
    from adaptis.engine.validation import evaluate_net
    from adaptis.evaluation.record import make_record, write_record
    from adaptis.evaluation.report import format_metrics
    from adaptis.model import save_model
    path = job.folder / 'final.params'
    save_model(job.net, path, job.description())
    print(f'Trained: {path}')
    count = job.config.evaluation_images
    if count == 0:
        return
    metrics, settings = evaluate_net(job.net, job.held_out, job.config, count)
    record = make_record(metrics, settings, label=job.folder.resolve().name,
                         **row_of(job.config, count))
    write_record(job.folder / 'evaluation.json', record)
    print(format_metrics(metrics))
    if job.config.row is not None:
        print(beside_published(record))
