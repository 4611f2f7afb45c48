"""One training step, with devices, gradient accumulation and random numbers."""
from __future__ import annotations

import math
import os
import random
from collections.abc import Sequence
from typing import Any

import numpy as np

from adaptis.config import OptimizerConfig, StageConfig
from adaptis.data.batches import Batch
from adaptis.engine.distributed import StageKVStore
from adaptis.engine.precision import half_precision, scale_loss
from adaptis.errors import AdaptisError
from adaptis.runtime import mx

SYNC_ON_CPU = {'MXNET_CPU_TEMP_COPY': 4096, 'MXNET_CPU_PARALLEL_RAND_COPY': 8,
               'MXNET_CPU_WORKER_NTHREADS': 8}
"""The minimum values with which several contexts of the CPU can wait for each other.  The contexts
share workspaces, 4 by default, and one random number generator (for dropout).  Operators that wait
in SyncBatchNorm would block these for the context that they wait for.  Each context has one worker
by default, which would be blocked, too.
"""


def make_trainer(system: Any, stage: StageConfig, kvstore: Any, done: int = 0) -> Any:
    """Return a ``gluon.Trainer`` after ``done`` updates, which Adam's bias correction counts."""
    # Updates run in this process, not on the kvstore, whose states could only be pickled.
    trainer = mx.gluon.Trainer(system.parameters(), make_optimizer(stage.optimizer, done),
                               kvstore=kvstore, update_on_kvstore=False)
    if isinstance(kvstore, StageKVStore):
        # Otherwise the first step would do this after its backward pass, and copy the running
        # statistics of rank 0 at that time to all processes.
        trainer._init_kvstore()
        trainer._init_params()
    return trainer


def make_optimizer(config: OptimizerConfig, done: int = 0) -> Any:
    """Return the MXNet optimizer of a config; AdaptisError if its name or an option is unknown."""
    for key, value in config.options.items():
        if not isinstance(value, (bool, int, float)):
            raise AdaptisError(f'The optimizer option "{key}" is {value!r}: it must be a number '
                               '(YAML reads 1e-8 as text: write 1.0e-8).')
    options = {'learning_rate': config.lr, 'wd': config.wd, 'begin_num_update': done,
               **config.options}
    if config.clip_gradient is not None:
        options['clip_gradient'] = config.clip_gradient
    try:
        return mx.optimizer.create(config.name, **options)
    except (ValueError, TypeError) as error:
        raise AdaptisError(f'The optimizer "{config.name}" cannot be built: {error}.') from error


def set_backbone_lr_mult(net: Any, factor: float) -> None:
    """Multiply the learning rate of the parameters that start from ImageNet weights by ``factor``.

    Raises AdaptisError if the network has none, unless ``factor`` is 1.
    """
    parameters = net.backbone_params()
    if factor != 1 and not list(parameters.keys()):  # an empty ParameterDict is true
        raise AdaptisError('backbone_lr_mult does not apply, because the network has no backbone: '
                           'remove it.')
    for parameter in parameters.values():
        parameter.lr_mult = factor


def prepare_gradients(trainer: Any, accumulate: bool) -> None:
    """Let backward passes accumulate gradients for a batch in pieces, else overwrite them."""
    for parameter in trainer._params:
        if parameter.grad_req != 'null':
            parameter.grad_req = 'add' if accumulate else 'write'


def train_step(system: Any, trainer: Any, batch: Batch, contexts: Sequence[Any], pieces: int = 1,
               world_size: int = 1) -> dict[str, float]:
    """Do one update with the mean gradient of the whole batch; return the mean of every loss.

    The batch is divided among the contexts, and on each of them into ``pieces`` successive passes.

    Raises LossError, and changes no parameter, if a loss is not finite.
    """
    shards = [split_batch(shard, pieces) for shard in split_batch(batch, len(contexts))]
    seen: list[dict[str, Any]] = []
    if pieces > 1:
        for parameter in trainer._params:
            if parameter.grad_req != 'null':
                parameter.zero_grad()
    for parts in zip(*shards):  # all devices together, because SyncBatchNorm waits for all of them
        with half_precision(), mx.autograd.record():
            losses = _losses(system, [_on_device(part, context, system)
                                      for part, context in zip(parts, contexts)])
            totals = [scale_loss(sum(each.values()), trainer) for each in losses]
        mx.autograd.backward(totals)
        seen += losses
    means = {name: sum(float(losses[name].mean().asscalar()) for losses in seen) / len(seen)
             for name in seen[0]}
    for name, value in means.items():
        if not math.isfinite(value):
            raise LossError(name, value)
    trainer.step(len(seen) * world_size)
    return means


class LossError(AdaptisError):
    """The loss ``name`` is not finite."""

    def __init__(self, name: str, value: float):
        super().__init__(f'The loss "{name}" became {value}')


def _losses(system: Any, parts: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the losses of the parts of a batch, one part for each device.

    All devices start their networks before any result is read.  Otherwise a system that reads
    results during a step would wait for a device whose SyncBatchNorm waits for the others.
    """
    if not hasattr(system, 'forward'):
        return [system.losses(part) for part in parts]
    outputs = [system.forward(part) for part in parts]
    return [system.losses(part, output) for part, output in zip(parts, outputs)]


def _on_device(part: Batch, context: Any, system: Any) -> dict[str, Any]:
    stays = getattr(system, 'host_keys', ())  # arrays that a detector uses outside the graph
    return {key: value if key in stays else mx.nd.array(value, ctx=context, dtype='float32')
            for key, value in part.items()}


def split_batch(batch: Batch, parts: int) -> list[Batch]:
    """Split every array into equal parts along its first axis: images, or points by image."""
    check_split(len(batch['image']), parts)
    pieces = {key: np.split(value, parts) for key, value in batch.items()}
    return [{key: pieces[key][i] for key in batch} for i in range(parts)]


def check_split(images: int, parts: int) -> None:
    """Raise AdaptisError if a batch of ``images`` images cannot be split into equal parts."""
    if images % parts:
        raise AdaptisError(f'A batch of {images} images cannot be split into {parts} equal parts: '
                           'change batch_size, micro_batch or --ctx.')


def check_sync(contexts: Sequence[Any]) -> None:
    """Raise AdaptisError if SyncBatchNorm over these contexts would wait forever."""
    if len(contexts) < 2 or contexts[0].device_type != 'cpu':
        return
    given = {name: os.environ.get(name, '') for name in SYNC_ON_CPU}
    if not all(given[name].isdecimal() and int(given[name]) >= least
               for name, least in SYNC_ON_CPU.items()):
        settings = ' '.join(f'{name}={value}' for name, value in SYNC_ON_CPU.items())
        raise AdaptisError('With SyncBatchNorm, several contexts of the CPU would wait for each '
                           f'other forever: start the command with {settings} in the environment, '
                           'or use --ctx cpu.')


def seed_everything(seed: int, index: int, step: int) -> None:
    """Make all random numbers of the network in this step depend only on (seed, stage, step)."""
    state = int(np.random.SeedSequence((seed, index, step)).generate_state(1)[0]) >> 1
    mx.random.seed(state)
    np.random.seed(state)
    random.seed(state)
