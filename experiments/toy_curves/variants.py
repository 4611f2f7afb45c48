"""The base config, and the keys in which each variant differs from it.

The phases of a variant are trained one after another, each from the weights of the one before, for
its share of the budget.
"""
from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from adaptis.config import TrainConfig, load_config

CONFIG = Path(__file__).parents[1] / 'toy_v1_cpu.yaml'

BASE: dict[str, Any] = {
    'proposals': None, 'row': None, 'evaluation_images': 0, 'pictures_every': 0,
    'checkpoint_minutes': 60, 'validation.images': 100, 'instances.full_size_steps': 0,
    'instances.batch_size': 8, 'instances.points': 8, 'instances.ema': 0.99}

Phase = tuple[float, dict[str, Any]]
"""Share of the budget, and changes to the base."""

VARIANTS: dict[str, list[Phase]] = {
    name: [(1.0, changes)] for name, changes in {
        'base': {},
        'official_augmentation': {'data.augmentation': 'toy_v1_official'},
        'whole_images': {'instances.crop': None, 'instances.batch_size': 4},
        'points_16': {'instances.batch_size': 4, 'instances.points': 16},
        'points_4': {'instances.batch_size': 16, 'instances.points': 4},
        'lr_high': {'instances.optimizer.lr': 3e-3},
        'lr_low': {'instances.optimizer.lr': 7.5e-4},
        'no_ema': {'instances.ema': None},
        'width_24': {'model.width': 24},
        'width_32': {'model.width': 32},
    }.items()}
VARIANTS['clean_first'] = [(1 / 3, {'data.augmentation': 'toy_v2'}), (2 / 3, {})]


def config_of(overrides: Sequence[str]) -> TrainConfig:
    """Return the config of the base with overrides, as ``adaptis train --set`` takes them."""
    return load_config(CONFIG, [*as_overrides(BASE), *overrides])


def as_overrides(keys: Mapping[str, Any]) -> list[str]:
    """Return keys and values as overrides for ``--set``."""
    return [f'{key}={json.dumps(value)}' for key, value in keys.items()]
