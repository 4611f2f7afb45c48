"""Check whether the learning rates of a config suit the batch size of the training run.

A learning rate is chosen for a number of images per step, over all devices and processes.
"""
from __future__ import annotations

import dataclasses
import os
from collections.abc import Collection, Iterator
from typing import NamedTuple

from adaptis.config import StageConfig, TrainConfig


class Misfit(NamedTuple):
    """A stage whose learning rate was chosen for ``meant`` images, while a step has ``images``."""

    name: str
    stage: StageConfig
    meant: int
    images: int

    @property
    def rate(self) -> float:
        """Return the learning rate, scaled in proportion to the images."""
        return self.stage.optimizer.lr * self.images / self.meant


def count_processes(kvstore: str) -> int:
    """Return how many processes share a step, from the kvstore's name and MXNet's variables."""
    workers = os.environ.get('DMLC_NUM_WORKER', '')
    return int(workers) if kvstore.startswith('dist') and workers.isdecimal() else 1


def complaints(config: TrainConfig, recipe: TrainConfig, processes: int,
               given: Collection[str] = ()) -> list[str]:
    """Return a sentence for each stage whose learning rate was chosen for another number of images.

    Parameters
    ----------
    config : the config of the training run
    recipe : the same without the user's overrides, so that its learning rates suit its batch sizes
    processes : number of processes that share a step
    given : keys that the user has set; learning rates among them are not reported
    """
    shared = f' in {processes} processes' if processes > 1 else ''
    return [f'The learning rate {m.stage.optimizer.lr:g} of the stage {m.name} was chosen for '
            f'{m.meant} images per step, but there are {m.images}{shared}: --scale-lr would set it '
            f'to {m.rate:g}.'
            for m in _misfits(config, recipe, processes)
            if f'{m.name}.optimizer.lr' not in given]


def scale_rates(config: TrainConfig, recipe: TrainConfig, processes: int) -> TrainConfig:
    """Return the config with learning rates scaled to the images per step, and ``lr_batch`` set."""
    changes = {}
    for m in _misfits(config, recipe, processes):
        optimizer = dataclasses.replace(
            m.stage.optimizer, lr=m.rate, lr_batch=m.images,
            final_lr=m.stage.optimizer.final_lr * m.images / m.meant)
        changes[m.name] = dataclasses.replace(m.stage, optimizer=optimizer)
    return dataclasses.replace(config, **changes)


def _misfits(config: TrainConfig, recipe: TrainConfig, processes: int) -> Iterator[Misfit]:
    for name, stage in config.stages():
        own = getattr(recipe, name) or stage
        meant = stage.optimizer.lr_batch or own.batch_size
        images = stage.batch_size * processes
        if images != meant:
            yield Misfit(name, stage, meant, images)
