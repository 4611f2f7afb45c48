"""Learning rates as pure functions of the step.

The schedulers of MXNet and GluonCV have a state, so a resumed run depends on how they catch up.
These functions have no state.
"""
from __future__ import annotations

import math
from typing import Callable

from adaptis.config import OptimizerConfig
from adaptis.errors import AdaptisError

SCHEDULES = ('cosine', 'poly', 'step', 'constant', 'cooldown')


def build_schedule(config: OptimizerConfig, steps: int,
                   epoch: int = 1) -> Callable[[int], float]:
    """Return the learning rate of every step 0 <= step < ``steps``; an epoch has ``epoch`` steps.

    First the learning rate rises linearly over ``warmup_steps`` from 0, or from ``warmup_factor``
    times ``lr``; if ``warmup_method`` is 'constant', it stays at that factor.  Then ``schedule``
    applies to the rest: 'cosine' and 'poly' fall from ``lr`` to ``final_lr``, which they would
    reach at step ``steps``; 'step' multiplies by ``factor`` at each of ``milestones`` (fractions of
    ``steps``), ``milestone_epochs`` or ``milestone_steps``; 'cooldown' stays at ``lr`` and falls
    linearly to ``final_lr`` in the last ``cooldown_steps``, so that you can extend or shorten a run
    at any time before they begin.

    Raises AdaptisError for an unknown schedule, a warm-up or cool-down longer than the run, or a
    milestone beyond its end.
    """
    if config.schedule not in SCHEDULES:
        raise AdaptisError(f'There is no learning rate schedule "{config.schedule}": choose from '
                           f'{", ".join(SCHEDULES)}.')
    if config.warmup_method not in ('linear', 'constant') or (
            config.warmup_method == 'constant' and config.warmup_factor is None):
        raise AdaptisError(f'warmup_method is {config.warmup_method!r}: it must be linear, or '
                           'constant with a warmup_factor.')
    if config.warmup_steps + config.cooldown_steps >= steps:
        raise AdaptisError(f'{config.warmup_steps} warmup_steps and {config.cooldown_steps} '
                           f'cooldown_steps do not fit into {steps} steps: lower them, or train '
                           'longer.')
    drops = [share * steps for share in config.milestones]
    drops += [number * epoch for number in config.milestone_epochs] + config.milestone_steps
    if config.milestone_epochs and max(drops) > steps:
        raise AdaptisError(f'The milestone_epochs {config.milestone_epochs} do not fit into '
                           f'{steps / epoch:g} epochs: lower them, or leave them out ([]).')
    if config.milestone_steps and max(drops) > steps:
        raise AdaptisError(f'The milestone_steps {config.milestone_steps} do not fit into '
                           f'{steps} steps: lower them, or leave them out ([]).')

    def rate(step: int) -> float:
        if step < config.warmup_steps:
            return _warmup(config, step)
        done = (step - config.warmup_steps) / (steps - config.warmup_steps)
        if config.schedule == 'cooldown':
            done = max(0.0, (step - steps + config.cooldown_steps) / max(config.cooldown_steps, 1))
        if config.schedule == 'step':
            return config.lr * config.factor ** sum(step >= drop for drop in drops)
        return config.final_lr + (config.lr - config.final_lr) * _shape(config, done)

    return rate


def _warmup(config: OptimizerConfig, step: int) -> float:
    if config.warmup_factor is None:
        return config.lr * (step + 1) / (config.warmup_steps + 1)
    if config.warmup_method == 'constant':
        return config.lr * config.warmup_factor
    done = step / config.warmup_steps
    return config.lr * (config.warmup_factor * (1 - done) + done)


def _shape(config: OptimizerConfig, done: float) -> float:
    if config.schedule == 'cosine':
        return 0.5 * (1 + math.cos(math.pi * done))
    if config.schedule == 'poly':
        return (1 - done) ** config.power
    return 1 - done if config.schedule == 'cooldown' else 1.0
