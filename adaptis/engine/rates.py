"""Whether the learning rates of a config fit the batches that it is trained with.

A rate belongs to a number of images: those of a step, of all devices and processes together.
"""
from __future__ import annotations

import dataclasses
import os
from collections.abc import Collection, Iterator
from typing import NamedTuple

from adaptis.config import StageConfig, TrainConfig


class Misfit(NamedTuple):
    """A stage whose rate is meant for ``meant`` images, while a step has ``images``."""

    name: str
    stage: StageConfig
    meant: int
    images: int

    @property
    def rate(self) -> float:
        """The rate in proportion to the images."""
        return self.stage.optimizer.lr * self.images / self.meant


def count_processes(kvstore: str) -> int:
    """How many processes share a step, by the name of the kvstore and MXNet's variables."""
    workers = os.environ.get('DMLC_NUM_WORKER', '')
    return int(workers) if kvstore.startswith('dist') and workers.isdecimal() else 1


def complaints(config: TrainConfig, recipe: TrainConfig, processes: int,
               given: Collection[str] = ()) -> list[str]:
    """A sentence for each stage whose rate is meant for another number of images.

    Parameters
    ----------
    config : what is trained by
    recipe : the same without what the user changed: its rates belong to its batches
    processes : that share a step
    given : keys that the user has set; a rate among them is the user's own affair
    """
    shared = f' in {processes} processes' if processes > 1 else ''
    return [f'The learning rate {m.stage.optimizer.lr:g} of the stage {m.name} is meant for steps '
            f'of {m.meant} images, but they have {m.images}{shared}: --scale-lr would make it '
            f'{m.rate:g}.'
            for m in _misfits(config, recipe, processes)
            if f'{m.name}.optimizer.lr' not in given]


def scale_rates(config: TrainConfig, recipe: TrainConfig, processes: int) -> TrainConfig:
    """The config with all rates in proportion to the images of a step, which it then names."""
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
