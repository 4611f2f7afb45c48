"""``adaptis train``: train a config, stop and resume at will, measure the result."""
from __future__ import annotations

import argparse
import inspect
import json
from pathlib import Path
from typing import Any, Callable, List, Optional

from adaptis.config import StageConfig, TrainConfig, inference_settings, load_config
from adaptis.errors import AdaptisError

HELP = 'Train a network from a config; Ctrl-C stops it, --resume goes on.'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument('config', type=Path, help='for instance experiments/toy_v1_cpu.yaml')
    parser.add_argument('--resume', action='store_true',
                        help='go on from the newest checkpoint of the output folder')
    parser.add_argument('--output', type=Path, help='default: runs/<name of the config>')
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
    output = args.output or Path('runs') / args.config.stem
    _check_output(output, args.resume)
    from adaptis.engine.stopping import Stopped
    from adaptis.engine.trainer import fit
    job = _prepare(config, output, args)
    start = _resume(job, config) if args.resume else None
    try:
        fit(job, start)
    except Stopped as stopped:
        if job.rank == 0:
            print('Stopped; go on with the same command and --resume.')
        return stopped.status
    if job.rank == 0:
        _finish(job)
    return 0


def _overrides(args: argparse.Namespace) -> List[str]:
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


def _prepare(config: TrainConfig, output: Path, args: argparse.Namespace) -> Any:
    from adaptis.data.toy import ToyDataset
    from adaptis.engine.distributed import open_store
    from adaptis.engine.steps import seed_everything
    from adaptis.engine.trainer import Run
    from adaptis.engine.validation import PointValidation, Preview
    from adaptis.runtime import context
    train = ToyDataset(config.data.root, config.data.split)
    held_out = ToyDataset(config.data.root, config.data.val_split)
    contexts = context(args.ctx)
    kvstore = open_store(args.kvstore)
    seed_everything(config.seed, 0, 0)
    net = _build_net(config, contexts)
    validation = PointValidation(held_out, config.validation, contexts[0])
    preview = Preview(held_out, inference_settings(config))
    return Run(config=config, net=net, make_system=_system_maker(net, config), dataset=train,
               held_out=held_out, folder=output, contexts=contexts, kvstore=kvstore,
               workers=config.workers, validate=lambda: validation(net),
               picture=lambda stage: preview(net, stage), rank=getattr(kvstore, 'rank', 0),
               world=getattr(kvstore, 'num_workers', 1))


def _build_net(config: TrainConfig, contexts: List[Any]) -> Any:
    from adaptis.model import get_model
    from adaptis.runtime import mx
    arguments = {key: value for key, value in config.model.items() if key != 'name'}
    net = get_model(config.model['name'], **arguments)
    net.initialize(mx.init.Xavier(), ctx=contexts)
    return net


def _system_maker(net: Any, config: TrainConfig) -> Callable[[str, StageConfig], Any]:
    from adaptis.system import AdaptISSystem
    known = [name for name in inspect.signature(AdaptISSystem).parameters
             if name not in ('net', 'stage')]
    for name in ('instances', 'proposals'):
        stage = getattr(config, name)
        unknown = sorted(set(stage.system) - set(known)) if stage else []
        if unknown:
            raise AdaptisError(f'The config key {name}.system has no {unknown[0]}; '
                               f'known: {", ".join(known)}.')
        if stage:
            AdaptISSystem(net, stage=name, **stage.system)  # its mistakes are told now, not later
    return lambda name, stage: AdaptISSystem(net, stage=name, **stage.system)


def _resume(job: Any, config: TrainConfig) -> Optional[Any]:
    from adaptis.engine.checkpoint import load_parameters
    from adaptis.engine.logs import drop_after
    start = job.checkpoints.latest()
    if start is None:
        print(f'{job.folder} holds no checkpoint yet: starting anew.')
        return None
    if start.config['model'] != config.model:
        raise AdaptisError(f'{start.folder} was trained with the model {start.config["model"]}, '
                           f'but the config asks for {config.model}.')
    load_parameters(job.net, start)
    if job.rank == 0:
        drop_after(job.folder, start.position.index, start.position.step)
    return start


def _finish(job: Any) -> None:
    """Write the network, measure it on the held-out images, and say where all that is."""
    from adaptis.engine.validation import evaluate_net
    from adaptis.evaluation.record import make_record, write_record
    from adaptis.evaluation.report import format_metrics
    from adaptis.model import save_model
    path = job.folder / 'final.params'
    save_model(job.net, path, {'config': job.config.to_dict()})
    print(f'Trained: {path}')
    count = job.config.evaluation_images
    if count == 0:
        return
    metrics, settings = evaluate_net(job.net, job.held_out, job.config, count)
    record = make_record(metrics, settings, label=job.folder.resolve().name)
    write_record(job.folder / 'evaluation.json', record)
    print(format_metrics(metrics))
