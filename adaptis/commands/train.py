"""``adaptis train``: train a config, stop and resume at will."""
from __future__ import annotations

import argparse
import inspect
import json
from pathlib import Path
from typing import Any, Callable, List, Optional

from adaptis.config import StageConfig, TrainConfig, load_config
from adaptis.errors import AdaptisError

HELP = 'Train a network from a config.'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument('config', type=Path, help='for instance experiments/toy_v1_cpu.yaml')
    parser.add_argument('--resume', action='store_true',
                        help='go on from the newest checkpoint of the output folder')
    parser.add_argument('--output', type=Path, help='default: runs/<name of the config>')
    parser.add_argument('--ctx', default='auto', help='auto, cpu, gpu:0 or gpu:0,1')
    parser.add_argument('--kvstore', default='device',
                        help='how gradients are added up: device, local, nccl, dist_sync')
    parser.add_argument('--data', help='folder of the data set, instead of data.root')
    parser.add_argument('--workers', type=int, help='data processes, instead of workers')
    parser.add_argument('--set', action='append', default=[], metavar='KEY=VALUE',
                        help='override a key of the config, e.g. instances.optimizer.lr=1e-4')


def run(args: argparse.Namespace) -> int:
    """Train; 0 when done, 130 after Ctrl-C."""
    config = load_config(args.config, _overrides(args))
    output = args.output or Path('runs') / args.config.stem
    _check_output(output, args.resume)
    from adaptis.engine.trainer import Stopped, fit, save_parameters
    job, start = _prepare(config, output, args)
    try:
        fit(job, start)
    except Stopped as stopped:
        if job.rank == 0:
            print(f'Stopped; go on with: adaptis train {args.config} --output {output} --resume')
        return stopped.status
    if job.rank == 0:
        save_parameters(job.net, output / 'final.params')
        print(f'Trained: {output / "final.params"}')
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


def _prepare(config: TrainConfig, output: Path, args: argparse.Namespace) -> tuple:
    from adaptis.data.toy import ToyDataset
    from adaptis.engine.distributed import open_store
    from adaptis.engine.trainer import Run, seed_everything
    train = ToyDataset(config.data.root, config.data.split)
    held_out = ToyDataset(config.data.root, config.data.val_split)
    contexts = parse_contexts(args.ctx)
    kvstore = open_store(args.kvstore)
    rank, world = getattr(kvstore, 'rank', 0), getattr(kvstore, 'num_workers', 1)
    seed_everything(config.seed, 0, 0)
    net = _build_net(config, contexts)
    job = Run(config=config, net=net, make_system=_system_maker(net), dataset=train,
              folder=output, contexts=contexts, kvstore=kvstore, workers=config.workers,
              validate=_validation(net, held_out, config, contexts[0]), rank=rank, world=world)
    start = _resume(job, config) if args.resume else None
    if rank == 0:
        _write_config(config, output)
    return job, start


def parse_contexts(text: str) -> List[Any]:
    """'auto', 'cpu', 'gpu:0,1' as MXNet contexts; AdaptisError if there is no such device."""
    from adaptis.runtime import mx
    count = mx.context.num_gpus()
    if text == 'auto':
        return [mx.gpu(i) for i in range(count)] or [mx.cpu()]
    if text == 'cpu':
        return [mx.cpu()]
    kind, _, numbers = text.partition(':')
    try:
        wanted = [int(n) for n in (numbers or '0').split(',')]
    except ValueError:
        wanted = []
    if kind != 'gpu' or not wanted or len(set(wanted)) < len(wanted):
        raise AdaptisError(f'--ctx {text}: write auto, cpu, gpu:0 or gpu:0,1.')
    if min(wanted) < 0 or max(wanted) >= count:
        raise AdaptisError(f'--ctx {text}: MXNet sees {count} GPUs (see "adaptis doctor").')
    return [mx.gpu(i) for i in wanted]


def _build_net(config: TrainConfig, contexts: List[Any]) -> Any:
    from adaptis.model import get_model
    from adaptis.runtime import mx
    arguments = {key: value for key, value in config.model.items() if key != 'name'}
    net = _call('model', get_model, config.model['name'], **arguments)
    net.initialize(mx.init.Xavier(), ctx=contexts)
    return net


def _system_maker(net: Any) -> Callable[[str, StageConfig], Any]:
    from adaptis.system import AdaptISSystem
    return lambda name, stage: _call(f'{name}.system', AdaptISSystem, net, stage=name,
                                     **stage.system)


def _call(key: str, function: Callable, *args: Any, **kwargs: Any) -> Any:
    """Call with arguments that stand in a config; a wrong name is the user's to mend."""
    try:
        inspect.signature(function).bind(*args, **kwargs)
    except TypeError as error:
        raise AdaptisError(f'The config key {key} does not fit: {error}.') from error
    return function(*args, **kwargs)


def _validation(net: Any, dataset: Any, config: TrainConfig, context: Any) -> Callable:
    from adaptis.engine.validation import PointValidation
    validation = PointValidation(dataset, config.validation, context)
    return lambda: validation(net)


def _resume(job: Any, config: TrainConfig) -> Optional[Any]:
    from adaptis.engine.checkpoint import load_parameters
    from adaptis.engine.logs import drop_after
    start = job.checkpoints.latest()
    if start is None:
        return None
    if start.config['model'] != config.model:
        raise AdaptisError(f'{start.folder} was trained with the model {start.config["model"]}, '
                           f'but the config asks for {config.model}.')
    load_parameters(job.net, start.parameters, job.contexts)
    if job.rank == 0:
        drop_after(job.folder, start.position.index, start.position.step)
    return start


def _write_config(config: TrainConfig, output: Path) -> None:
    import yaml

    from adaptis.files import atomic_write
    with atomic_write(output / 'config.yaml') as temporary:
        temporary.write_text(yaml.safe_dump(config.to_dict(), sort_keys=False), encoding='utf-8')
