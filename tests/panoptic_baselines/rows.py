"""Quick versions of the rows of published tables: two steps of a small network on a miniature."""
from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable

import numpy as np

from adaptis.commands.rows import PUBLISHED
from adaptis.commands.train import set_norm_devices
from adaptis.config import TrainConfig
from adaptis.data.augment import Crop, RandomScale
from adaptis.data.batches import BatchSource
from adaptis.engine.schedules import build_schedule
from adaptis.engine.steps import make_trainer, train_step
from adaptis.evaluation.record import ROOT
from adaptis.evaluation.tables import Table, load_tables
from adaptis.registry import find_family
from adaptis.runtime import mx

EXPERIMENTS = ROOT / 'experiments'
SIZE = (32, 64)
Losses = dict[str, float]
Learnt = tuple[Any, list[Losses]]


def some_loss(config: TrainConfig, net: Any, losses: list[Losses]) -> None:
    """Every step learns something."""
    assert all(any(value > 0 for value in found.values()) for found in losses)


@dataclass(frozen=True)
class Paper:
    """The rows of a paper, and how little will do for them.

    Attributes
    ----------
    name : of the paper, and of the folder that holds its configs
    small : arguments in place of those of a network's config, so that it is narrow
    defaults : arguments that rows study, as they are where a config does not name them: networks
        that are the same learn once
    system : options in place of those of the system's config, so that a step is short
    check : raises AssertionError if two steps by a config, and what they gave, do not fit
    """

    name: str
    small: dict[str, Any]
    defaults: dict[str, Any] = field(default_factory=dict)
    system: dict[str, Any] = field(default_factory=dict)
    check: Callable[[TrainConfig, Any, list[Losses]], None] = some_loss

    @property
    def configs(self) -> list[Path]:
        """One for each row."""
        return sorted((EXPERIMENTS / self.name).glob('*.yaml'))

    @property
    def tables(self) -> dict[str, Table]:
        """The published ones by their ids."""
        return _papers()[self.name]

    def model(self, config: TrainConfig) -> dict[str, Any]:
        """That of a config on ResNet-18 and narrow, but for what the row studies."""
        model = whole(config)
        model['name'] = model['name'].rsplit('_', 1)[0] + '_r18'
        return {**self.defaults, **model, **self.small}

    def key(self, config: TrainConfig) -> str:
        """Equal for configs of which two steps are alike: how much a loss weighs, how long they
        train or a backbone that is replaced does not count."""
        stage = config.joint
        system = {k: v > 0 if k.endswith('_weight') else v for k, v in stage.system.items()}
        rates = dataclasses.replace(stage.optimizer, milestone_steps=[])
        return repr((self.name, config.data.dataset, config.data.annotation,
                     sorted(self.model(config).items()), sorted(system.items()), rates))


@functools.cache
def _papers() -> dict[str, dict[str, Table]]:
    return load_tables(EXPERIMENTS / PUBLISHED)


def whole(config: TrainConfig) -> dict[str, Any]:
    """The model of a config, without files to start from."""
    return {k: v for k, v in config.model.items() if k not in ('pretrained_base', 'pretrained')}


def learn(config: TrainConfig, dataset: Any, model: dict[str, Any],
          system: dict[str, Any]) -> Learnt:
    """The system after two steps of one image by a config, and the losses of both.

    ``model`` replaces that of the config, ``system`` some options of its system.
    """
    family, stage = find_family(config.model['name']), config.joint
    np.random.seed(0)
    mx.random.seed(0)
    net = family.build(set_norm_devices({**family.class_counts(dataset.taxonomy), **model}, 1),
                       [mx.current_context()])
    for backbone in net.backbones:
        for name, parameter in backbone._collect_params_with_prefix().items():
            if name.endswith('norm.gamma'):   # or random weights let features grow in every block
                parameter.set_data(parameter.data() / 2)
    options = {**stage.system, **system, 'hybridize': False}
    assert set(options) <= set(family.system_options())
    learner = family.make_system(net, dataset.taxonomy, 'joint', **options)
    scale = tuple(stage.scale or (1.0, 1.0))
    crop = Crop(SIZE, (1.0, 1.0) if stage.crop_first else scale) if stage.crop else None
    rescale = RandomScale(*scale) if stage.crop_first else None
    source = BatchSource(dataset, 1, None, augmentation=config.data.augmentation, crop=crop,
                         crop_until=2, rescale=rescale, targets=learner.targets())
    trainer = make_trainer(learner, stage, 'local')
    schedule = build_schedule(stage.optimizer, stage.steps, len(source))
    losses = []
    for step in range(2):
        trainer.set_learning_rate(schedule(step))
        learner.begin_step(step)
        losses.append(train_step(learner, trainer, source.batch(0), [mx.current_context()]))
    return learner, losses
