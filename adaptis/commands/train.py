"""``adaptis train``: train a config, stop and resume at any time, and measure the result."""
from __future__ import annotations

import argparse
import socket
from pathlib import Path
from typing import Any, Callable, Optional

from adaptis.commands.rows import (
    RUNS,
    beside_published,
    check_row,
    config_path,
    row_of,
    run_name,
)
from adaptis.config import StageConfig, TrainConfig, load_config, override
from adaptis.data import check
from adaptis.data.datasets import open_dataset
from adaptis.engine.logs import truncate_log
from adaptis.engine.rates import complaints, count_processes, scale_rates
from adaptis.errors import AdaptisError
from adaptis.evaluation.record import file_facts, make_record, write_record
from adaptis.evaluation.report import format_metrics
from adaptis.loading import inference_settings
from adaptis.memory_reuse import keep_training_memory
from adaptis.registry import ModelFamily, find_family, find_mismatch
from adaptis.runtime import search_cudnn_algorithms
from adaptis.weights import weights_file

_COUNTS = ('num_classes', 'num_things', 'num_stuff')

HELP = 'Train a network from a config; Ctrl-C stops it, --resume continues it.'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument('config', type=config_path, metavar='CONFIG',
                        help='config file, or the name of a config in experiments/, e.g. '
                             'toy_v1_cpu')
    parser.add_argument('--resume', action='store_true',
                        help='continue from the newest checkpoint in the output folder')
    parser.add_argument('--output', type=Path, help='folder for checkpoints, logs and results '
                                                   '(default: runs/<name of the config>, e.g. '
                                                   'runs/coco_r50 for experiments/coco/r50.yaml)')
    parser.add_argument('--init', metavar='FILE',
                        help='start from these trained parameters, or from an included network '
                             'such as toy_v1, with a new optimizer; replaces initial_weights')
    parser.add_argument('--ctx', default='auto',
                        help='devices: auto, cpu, gpu for all GPUs, or a list such as gpu:0,1 '
                             '(default: auto)')
    parser.add_argument('--kvstore', default='device',
                        help='MXNet key-value store that sums the gradients: device, local, nccl, '
                        'dist_sync or dist_device_sync (default: device)')
    parser.add_argument('--data', help='folder of the data set; replaces data.root of the config')
    parser.add_argument('--workers', type=int, help='number of processes that load data; replaces '
                                                    'workers of the config')
    parser.add_argument('--set', action='append', default=[], metavar='KEY=VALUE',
                        help='override a key of the config, e.g. instances.optimizer.lr=1e-4; can '
                             'be repeated')
    parser.add_argument('--scale-lr', action='store_true',
                        help='if a step uses more or fewer images than in the config, scale the '
                        'learning rates in proportion')


def run(args: argparse.Namespace) -> int:
    """Train and evaluate; return 0 when done, 130 after Ctrl-C, 143 after SIGTERM."""
    config, warnings = _with_fitting_rates(load_config(args.config, _overrides(args)), args)
    check_row(config, args.config)
    output = args.output or RUNS / run_name(args.config)
    _check_output(output, args.resume)
    search_cudnn_algorithms(config.has_fixed_sizes())
    from adaptis.engine.distributed import end_together  # loads MXNet
    from adaptis.engine.stopping import Stopped  # loads MXNet
    from adaptis.engine.trainer import fit  # loads MXNet
    start = _find_start(output, config, args)
    job = _prepare(config, output, args, resumed=start is not None)
    if start is not None:
        _resume(job, start)
    if job.rank == 0:
        if job.world_size > 1:
            print(f'{job.world_size} processes are training; the one on {socket.gethostname()} '
                  f'writes {output}.')
        if warnings:
            print(*warnings, sep='\n')
    try:
        fit(job, start)
    except Stopped as stopped:
        if job.rank == 0:
            print('Stopped. To continue, repeat the command with --resume.')
        end_together(job.kvstore)
        return stopped.status
    if job.rank == 0:
        _finish(job)
    end_together(job.kvstore)
    return 0


def _overrides(args: argparse.Namespace) -> list[str]:
    extra = list(args.set)
    if args.data is not None:
        extra.append(override('data.root', args.data))
    if args.init is not None:
        extra.append(override('initial_weights', args.init))
    if args.workers is not None:
        extra.append(f'workers={args.workers}')
    return extra


def _with_fitting_rates(config: TrainConfig,
                        args: argparse.Namespace) -> tuple[TrainConfig, list[str]]:
    """Return the config, with learning rates scaled if asked for, else sentences about misfits."""
    try:
        recipe = load_config(args.config)
    except AdaptisError:  # incomplete without the overrides, so there is nothing to compare
        recipe = config
    processes = count_processes(args.kvstore)
    if args.scale_lr:
        return scale_rates(config, recipe, processes), []
    given = [text.partition('=')[0] for text in args.set]
    return config, complaints(config, recipe, processes, given)


def _check_output(output: Path, resume: bool) -> None:
    if output.exists() and not output.is_dir():
        raise AdaptisError(f'{output} is not a folder: give another --output.')
    if not resume and output.is_dir() and any(output.iterdir()):
        raise AdaptisError(f'{output} already contains a run: continue it with --resume, or give '
                           'another --output.')


def _find_start(output: Path, config: TrainConfig, args: argparse.Namespace) -> Optional[Any]:
    """Return the checkpoint to resume from; None without ``--resume`` or a checkpoint."""
    if not args.resume:
        return None
    from adaptis.engine.checkpoint import CheckpointFolder  # loads MXNet
    from adaptis.engine.resuming import check_same_run, override_keys  # loads MXNet
    start = CheckpointFolder(output / 'checkpoints').latest()
    if start is None:
        print(f'{output} contains no checkpoint yet: starting from the beginning.')
    else:
        check_same_run(start, config, override_keys(_overrides(args)))
    return start


def _prepare(config: TrainConfig, output: Path, args: argparse.Namespace, resumed: bool) -> Any:
    # These load MXNet.
    from adaptis.engine.distributed import create_kvstore
    from adaptis.engine.steps import seed_everything
    from adaptis.engine.trainer import Run
    from adaptis.engine.validation import PointValidation, Preview, ResultValidation
    from adaptis.runtime import get_contexts
    family, settings = find_family(config.model['name']), inference_settings(config)
    train, held_out = _open_data(config)
    contexts = get_contexts(args.ctx)
    if contexts[0].device_type == 'cpu':
        keep_training_memory()
    kvstore = create_kvstore(args.kvstore, config.gradient_compression)
    if config.precision == 'amp':
        _enable_half(contexts)
    seed_everything(config.seed, 0, 0)
    net = _build_net(family, config, contexts, train.taxonomy, resumed)
    if config.initial_weights is not None and not resumed:
        _load_initial_weights(net, config.initial_weights, family)
    if not family.uses_points:
        # Reports a mistake in the settings now instead of after training.
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
               world_size=getattr(kvstore, 'num_workers', 1))


def _open_data(config: TrainConfig) -> tuple[Any, Any]:
    """Open the training and the validation split; AdaptisError if anything is wrong with them."""
    data = config.data
    train, held_out = (open_dataset(data.dataset, data.root, split, annotation=data.annotation)
                       for split in (data.split, data.val_split))
    for dataset, key in ((train, 'split'), (held_out, 'val_split')):
        if dataset.annotations is None:
            raise AdaptisError(f'The split "{getattr(data, key)}" of {data.root} has no ground '
                               f'truth, which training needs: choose another data.{key}.')
        check.quick_check(dataset)
    difference = check.compare_categories([train, held_out])
    if difference:
        raise AdaptisError(difference)
    return train, held_out


def _enable_half(contexts: list[Any]) -> None:
    from adaptis.engine.precision import enable_mixed_precision  # loads MXNet
    half = enable_mixed_precision(contexts)
    print(f'Training steps use {half} where it is safe.')


def _build_net(family: ModelFamily, config: TrainConfig, contexts: list[Any], taxonomy: Any,
               resumed: bool) -> Any:
    from adaptis.engine.steps import check_sync  # loads MXNet
    family.check_taxonomy(config.model, taxonomy)
    counts = family.class_counts(taxonomy)
    arguments = {**counts, **config.model}
    if any(arguments[name] != count for name, count in counts.items()):
        raise AdaptisError(f'The data set has {len(taxonomy)} classes, {taxonomy.num_stuff} of '
                           f'them stuff: correct model.{" and ".join(counts)} or leave it out.')
    if resumed:
        for key in ('pretrained_base', 'pretrained'):
            arguments.pop(key, None)  # a checkpoint replaces these weights
    arguments = set_norm_devices(arguments, len(contexts))
    if 'SyncBatchNorm' in arguments.values():
        check_sync(contexts)
    return family.build(arguments, contexts)


def _load_initial_weights(net: Any, name: str, family: ModelFamily) -> None:
    """Load trained parameters, whose classes may differ, into a new network.

    Raises AdaptisError if they belong to another network.
    """
    from adaptis.model.zoo import read_info  # loads MXNet
    path = weights_file(name)
    found, wanted = read_info(path).get('model'), net.description
    if isinstance(found, dict) and 'name' in found:
        keys = sorted({*wanted, *family.expand_options({'name': wanted['name']})} - set(_COUNTS))
        mismatch = find_mismatch(wanted, found, keys)
        if mismatch:
            key, asked, there = mismatch
            raise AdaptisError(f'{path} contains a network with {key} {there}, but the config asks '
                               f'for {asked}: give other initial weights or change model.{key}.')
        if find_mismatch(wanted, found, _COUNTS):
            print(f'{name} was trained on other classes, so the classification layers start from '
                  'random weights.')
    family.load_pretrained(net, path)


def set_norm_devices(arguments: dict[str, Any], devices: int) -> dict[str, Any]:
    """Return a network's arguments with the number of devices that SyncBatchNorm synchronises.

    On a single device SyncBatchNorm becomes BatchNorm.  Some networks also have normalisation
    outside the backbone, in options such as ``head_norm``.
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
        make(name, stage)  # reports mistakes now instead of later
    return make


def _resume(job: Any, start: Any) -> None:
    from adaptis.engine.checkpoint import load_parameters  # loads MXNet
    load_parameters(job.net, start)
    if job.rank == 0:
        truncate_log(job.folder, start.position.index, start.position.step)


def _finish(job: Any) -> None:
    """Write the network, measure it on the held-out images, and print where the files are."""
    from adaptis.engine.validation import evaluate_network  # loads MXNet
    from adaptis.model import save_model  # loads MXNet
    path = job.folder / 'final.params'
    save_model(job.net, path, job.description())
    print(f'Trained: {path}')
    count = job.config.evaluation_images
    if count == 0:
        return
    metrics, settings = evaluate_network(job.net, job.held_out, job.config, count)
    settings['checkpoint'] = file_facts(path)
    record = make_record(metrics, settings, label=job.folder.resolve().name,
                         **row_of(job.config, count))
    write_record(job.folder / 'evaluation.json', record)
    print(format_metrics(metrics))
    if job.config.row is not None:
        print(beside_published(record))
