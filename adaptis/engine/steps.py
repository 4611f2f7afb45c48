"""One step of training: on how many devices, in how many pieces, with which random numbers."""
from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np

from adaptis.config import OptimizerConfig, StageConfig
from adaptis.data.batches import Batch
from adaptis.engine.precision import half_precision, scaled
from adaptis.errors import AdaptisError
from adaptis.runtime import mx


def make_trainer(system: Any, stage: StageConfig, kvstore: Any, done: int = 0) -> Any:
    """A ``gluon.Trainer`` that has made ``done`` updates (Adam's bias correction counts them)."""
    # Updates are made here, not on the kvstore: its states could only be had by pickle.
    return mx.gluon.Trainer(system.parameters(), make_optimizer(stage.optimizer, done),
                            kvstore=kvstore, update_on_kvstore=False)


def make_optimizer(config: OptimizerConfig, done: int = 0) -> Any:
    """The MXNet optimizer of a config; AdaptisError if there is none of this name or option."""
    for key, value in config.options.items():
        if not isinstance(value, (bool, int, float)):
            raise AdaptisError(f'The optimizer option "{key}" is {value!r}: it must be a number '
                               '(YAML takes 1e-8 for text: write 1.0e-8).')
    options = {'learning_rate': config.lr, 'wd': config.wd, 'begin_num_update': done,
               **config.options}
    if config.clip_gradient is not None:
        options['clip_gradient'] = config.clip_gradient
    try:
        return mx.optimizer.create(config.name, **options)
    except (ValueError, TypeError) as error:
        raise AdaptisError(f'The optimizer "{config.name}" cannot be built: {error}.') from error


def slow_down_backbone(net: Any, factor: float) -> None:
    """Give the parameters that start from ImageNet so many times the learning rate of the others.

    Raises AdaptisError if the network has none, unless ``factor`` is 1.
    """
    parameters = net.backbone_params()
    if factor != 1 and not list(parameters.keys()):  # the dictionary itself is true even if empty
        raise AdaptisError('The network has no backbone that backbone_lr_mult could apply to: '
                           'leave that out.')
    for parameter in parameters.values():
        parameter.lr_mult = factor


def prepare_gradients(trainer: Any, accumulate: bool) -> None:
    """Let backward passes add up if a batch is learnt in pieces, else overwrite."""
    for parameter in trainer._params:
        if parameter.grad_req != 'null':
            parameter.grad_req = 'add' if accumulate else 'write'


def train_step(system: Any, trainer: Any, batch: Batch, contexts: Sequence[Any], pieces: int = 1,
               world_size: int = 1) -> dict[str, float]:
    """One update with the mean gradient of the whole batch; returns the mean of every loss.

    The batch is dealt to the contexts, and on each learnt in ``pieces`` passes one after another.
    """
    shards = [split(shard, pieces) for shard in split(batch, len(contexts))]
    seen: list[dict[str, Any]] = []
    if pieces > 1:
        for parameter in trainer._params:
            if parameter.grad_req != 'null':
                parameter.zero_grad()
    for parts in zip(*shards):  # of all devices: those of SyncBatchNorm wait for each other
        with half_precision(), mx.autograd.record():
            losses = [system.losses(_on_device(part, context, system))
                      for part, context in zip(parts, contexts)]
            totals = [scaled(sum(each.values()), trainer) for each in losses]
        mx.autograd.backward(totals)
        seen += losses
    trainer.step(len(seen) * world_size)
    return {name: sum(float(losses[name].mean().asscalar()) for losses in seen) / len(seen)
            for name in seen[0]}


def _on_device(part: Batch, context: Any, system: Any) -> dict[str, Any]:
    stays = getattr(system, 'host_keys', ())  # what a detector looks at outside the graph
    return {key: value if key in stays else mx.nd.array(value, ctx=context, dtype='float32')
            for key, value in part.items()}


def split(batch: Batch, parts: int) -> list[Batch]:
    """Cut every array into equal parts along its first axis (images, or points image by image)."""
    check_split(len(batch['image']), parts)
    pieces = {key: np.split(value, parts) for key, value in batch.items()}
    return [{key: pieces[key][i] for key in batch} for i in range(parts)]


def check_split(images: int, parts: int) -> None:
    """Raise AdaptisError if a batch of so many images has no such equal parts."""
    if images % parts:
        raise AdaptisError(f'A batch of {images} images cannot be split into {parts} equal parts: '
                           'change batch_size, micro_batch or --ctx.')


def seed_everything(seed: int, index: int, step: int) -> None:
    """Make whatever the network draws in this step a function of (seed, stage, step)."""
    state = int(np.random.SeedSequence((seed, index, step)).generate_state(1)[0]) >> 1
    mx.random.seed(state)
    np.random.seed(state)
    random.seed(state)
