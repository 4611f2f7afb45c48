"""Training configs: YAML files, checked against dataclasses."""
from __future__ import annotations

import dataclasses
import difflib
import math
import operator
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional, Union

import yaml

from adaptis.errors import AdaptisError
from adaptis.files import atomic_write
from adaptis.registry import find_family
from adaptis.yaml_files import parse_yaml, read_yaml


@dataclass(frozen=True)
class DataConfig:
    """The data set: ``split`` is for training, ``val_split`` for validation."""

    root: str                             # folder of the data set
    augmentation: Union[str, dict[str, Any]]  # a name or transforms, see build_augmentation
    dataset: str = 'toy'                  # toy, cityscapes, vistas or coco: the layout of ``root``
    split: str = 'train'                  # split to train on; join several with "+": train+val
    val_split: str = 'test'               # split to validate and evaluate on
    annotation: str = 'panoptic'          # COCO only: panoptic, instances (may overlap), or both


@dataclass(frozen=True)
class OptimizerConfig:
    """An MXNet optimizer and its learning rate schedule."""

    lr: float                              # learning rate
    name: str = 'adam'                     # name of an MXNet optimizer: adam, sgd, ...
    lr_batch: Optional[int] = None         # batch size for which lr was chosen; null = batch_size
    backbone_lr_mult: float = 1.0          # lr factor of parameters loaded by ``pretrained_base``
    wd: float = 0.0                        # weight decay
    clip_gradient: Optional[float] = None  # limit of each gradient element
    options: dict[str, Any] = field(default_factory=dict)  # its arguments: beta1, momentum, ...
    schedule: str = 'cosine'               # lr schedule: cosine, poly, step, constant or cooldown
    final_lr: float = 0.0                  # cosine, poly and cooldown: final learning rate
    cooldown_steps: int = 0                # cooldown: number of last steps in which lr falls
    power: float = 0.9                     # poly: exponent
    milestones: list[float] = field(default_factory=list)  # step: fractions of the run: [.7, .9]
    milestone_epochs: list[float] = field(default_factory=list)  # step: or epochs, e.g. [240, 250]
    milestone_steps: list[float] = field(default_factory=list)   # step: or steps, e.g. [60000]
    factor: float = 0.1                    # step: factor for lr at each milestone
    warmup_steps: int = 0                  # number of first steps in which lr rises from 0
    warmup_factor: Optional[float] = None  # start at this fraction of lr instead of 0
    warmup_method: str = 'linear'          # or constant: stay at that fraction


@dataclass(frozen=True)
class StageConfig:
    """One stage of training; ``steps`` or ``epochs``, not both."""

    batch_size: int                        # images per process
    optimizer: OptimizerConfig             # see below
    points: Optional[int] = None           # points per image; AdaptIS requires it
    steps: Optional[int] = None            # length of the stage
    epochs: Optional[int] = None           # or its length in passes over the images
    micro_batch: Optional[int] = None      # images per forward pass; gradients are accumulated
    sampling: str = 'objects'              # or independent, one_object, ...; see sample_points
    min_object_area: int = 1               # objects with fewer pixels get no points
    ignore_object_prob: float = 0.0        # probability of a point on an ignored region
    background_prob: float = 0.0           # probability of a point on no object
    crop: Optional[Union[int, list[int]]] = None  # random crops: side or [h, w]
    scale: Optional[list[float]] = None    # random factor [low, high], applied before the crop
    short_side: Optional[Union[int, list[int]]] = None  # shorter side, applied before ``scale``
    max_side: Optional[int] = None         # upper limit of the longer side
    long_side: Optional[list[float]] = None  # random longer side [low, high], instead of these
    empty_crop_prob: float = 1.0           # probability of keeping a crop without an object
    crop_first: bool = False               # detectors: apply ``scale`` after the crop
    full_size_steps: int = 0               # number of last steps that train on whole images
    epoch_images: Optional[int] = None     # random images per epoch; null = each image once
    ema: Optional[float] = None            # decay of the moving average of the weights; null = none
    system: dict[str, Any] = field(default_factory=dict)  # arguments of the system (its losses)

    @property
    def crop_size(self) -> Optional[tuple[int, int]]:
        """``crop`` as height and width."""
        if isinstance(self.crop, list):
            return self.crop[0], self.crop[1]
        return (self.crop, self.crop) if self.crop else None


@dataclass(frozen=True)
class ValidationConfig:
    """Validation during training, on the first images of ``data.val_split``."""

    every: int = 500                       # steps; 0 = never
    images: int = 64                       # number of images
    points: int = 8                        # points per image


@dataclass(frozen=True)
class RowConfig:
    """The row of a published table that a config reproduces, see ``experiments/published``."""

    table: str                             # number of the table, for instance "2"
    row: str                               # id of the row
    paper: str = 'adaptis'                 # or panoptic_fpn, condinst, dense_detections, unified
    reduced: bool = False                  # whether the setting is smaller than the paper's


@dataclass(frozen=True)
class TrainConfig:
    """Everything that ``adaptis train`` needs."""

    data: DataConfig                       # the data set
    model: dict[str, Any]                  # name and arguments of get_model
    instances: Optional[StageConfig] = None  # AdaptIS: trains all but the proposal branch; with
                                             # initial_weights it may be null
    proposals: Optional[StageConfig] = None  # AdaptIS: then trains the proposal branch
    joint: Optional[StageConfig] = None      # the only stage of detectors
    seed: int = 0                          # random seed of weights, augmentation and points
    precision: str = 'float32'               # or amp: convolutions in half precision
    gradient_compression: Optional[float] = None  # threshold of 2-bit gradients between processes
    workers: int = 2                       # number of processes that load data; 0 = none
    log_every: int = 20                    # log every this many steps; 0 = never
    pictures_every: int = 1000             # write pictures every this many steps; 0 = never
    checkpoint_minutes: float = 10.0       # minutes between checkpoints
    checkpoint_steps: Optional[int] = None  # or steps between checkpoints
    evaluation_images: Optional[int] = None  # images of the final evaluation; null = all, 0 = none
    validation: ValidationConfig = field(default_factory=ValidationConfig)  # see below
    inference: dict[str, Any] = field(default_factory=dict)  # preset, and changed settings
    row: Optional[RowConfig] = None          # the row of a table that the config reproduces
    checkpoint: Optional[str] = None         # trained parameters to evaluate
    initial_weights: Optional[str] = None    # trained parameters to start from, or 'toy_v1'

    def stages(self) -> list[tuple[str, StageConfig]]:
        """Return the stages in order: instances, proposals (AdaptIS, section 5), or only joint."""
        every = [(name, getattr(self, name)) for name in ('instances', 'proposals', 'joint')]
        return [(name, stage) for name, stage in every if stage is not None]

    def has_fixed_sizes(self) -> bool:
        """Return whether every step computes on arrays of the same sizes.

        Without crops the image sizes vary, and in systems that are not trained with points the work
        depends on the number of detected objects.
        """
        return find_family(self.model['name']).uses_points and all(
            stage.crop and not stage.full_size_steps for _, stage in self.stages())

    def to_dict(self) -> dict[str, Any]:
        """Return the config as plain data, as stored in a checkpoint."""
        return dataclasses.asdict(self)


# Lower limits of numbers; null is not checked.
_LEAST = {'seed': 0, 'workers': 0, 'log_every': 0, 'pictures_every': 0, 'checkpoint_minutes': 0,
          'checkpoint_steps': 1, 'evaluation_images': 0, 'validation.every': 0,
          'validation.images': 1, 'validation.points': 1}
_LEAST_OF_STAGE = {'batch_size': 1, 'points': 1, 'steps': 1, 'epochs': 1, 'micro_batch': 1,
                   'min_object_area': 0, 'full_size_steps': 0, 'max_side': 1, 'epoch_images': 1,
                   'ema': 0,
                   'ignore_object_prob': 0, 'background_prob': 0, 'empty_crop_prob': 0,
                   'optimizer.lr': 0, 'optimizer.final_lr': 0, 'optimizer.factor': 0,
                   'optimizer.wd': 0, 'optimizer.clip_gradient': 0,
                   'optimizer.warmup_steps': 0, 'optimizer.cooldown_steps': 0,
                   'optimizer.lr_batch': 1, 'optimizer.backbone_lr_mult': 0,
                   'optimizer.warmup_factor': 0}
PRECISIONS = ('float32', 'amp')

# Keys of older versions, and their current names.
_RENAMED = {'data.version': 'data.augmentation'}


def load_config(path: Union[str, Path], overrides: Sequence[str] = ()) -> TrainConfig:
    """Read a config and its ``base``, if any, and apply ``key.key=value`` overrides.

    By default, the stage proposals samples points on one object (AdaptIS, section 5).

    Raises AdaptisError, naming the file and the key, if a key is unknown or missing or its value
    has the wrong type.
    """
    path = Path(path)
    content = _read(path)
    base = content.pop('base', None)
    if base is not None:
        parent = _read(path.parent / str(base))
        if 'base' in parent:
            raise AdaptisError(f'{path}: its base {base} also has a base, but only one level is '
                               'allowed: merge the two.')
        content = _merge(parent, content)
    for override in overrides:
        content = _merge(content, _parse_override(override))
    if isinstance(content.get('proposals'), dict):
        content = _merge({'proposals': {'sampling': 'one_object'}}, content)
    config = _build(TrainConfig, content, str(path), '')
    _check(config, str(path))
    return config


def override(key: str, value: str) -> str:
    """Return the override that sets a key to a text with any characters.

    (JSON would write characters beyond the first 65,536 as two escapes, which YAML does not join.)
    """
    return f'{key}=' + yaml.safe_dump(value, default_style='"', width=math.inf).strip()


def config_from_dict(content: Mapping[str, Any], where: str) -> TrainConfig:
    """Return the config stored in a checkpoint, even by an older version.

    Raises AdaptisError, naming the file ``where``, if it is from a newer version.
    """
    data = dict(content.get('data') or {})
    if 'version' in data:
        data['augmentation'] = data.pop('version')
    return _build(TrainConfig, {**content, 'data': data}, where, '')


def write_config(config: TrainConfig, path: Path) -> None:
    """Write a config that ``load_config`` can read."""
    with atomic_write(path) as temporary:
        temporary.write_text(yaml.safe_dump(config.to_dict(), sort_keys=False), encoding='utf-8')


def _read(path: Path) -> dict[str, Any]:
    content = read_yaml(path)
    if not isinstance(content, dict):
        raise AdaptisError(f'{path} is not a config, because it has no keys: see "adaptis '
                           'init-config".')
    return content


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def _parse_override(text: str) -> dict[str, Any]:
    key, equals, value = text.partition('=')
    if not equals or not all(key.split('.')):
        raise AdaptisError(f'--set {text}: write key=value, for instance instances.batch_size=8.')
    try:
        result = parse_yaml(value)
    except ValueError as error:
        raise AdaptisError(f'--set {text}: the value {error}.') from error
    for part in reversed(key.split('.')):
        result = {part: result}
    return result


def _build(cls: type, content: Any, path: str, where: str) -> Any:
    if not isinstance(content, dict):
        raise AdaptisError(f'{path}: {where[:-1]} must be a mapping of keys, not {content!r}.')
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls)}
    for key in content:
        if f'{where}{key}' in _RENAMED:
            raise AdaptisError(f'{path}: the key {where}{key} is now called '
                               f'{_RENAMED[where + key]}: rename it.')
        if key not in fields:
            raise AdaptisError(f'{path}: unknown key {where}{key}{_suggest(str(key), fields)}.')
    for name, spec in fields.items():
        required = (spec.default is dataclasses.MISSING
                    and spec.default_factory is dataclasses.MISSING)
        if required and name not in content:
            raise AdaptisError(f'{path}: the key {where}{name} is missing.')
    return cls(**{key: _convert(hints[key], value, path, where + key)
                  for key, value in content.items()})


def _convert(hint: Any, value: Any, path: str, key: str) -> Any:
    """Return ``value`` as the type ``hint``; AdaptisError if it has another type."""
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) is Union:
        return _convert_union(arguments, value, path, key)
    if dataclasses.is_dataclass(hint):
        return _build(hint, value, path, key + '.')
    if typing.get_origin(hint) is list and isinstance(value, list):
        return [_convert(arguments[0], item, path, key) for item in value]
    if typing.get_origin(hint) is dict and isinstance(value, dict):
        for name in value:
            if not isinstance(name, str):
                raise AdaptisError(f'{path}: {key} has the key {name!r}: keys must be text.')
        return value
    if hint is float:
        value = _as_float(value)
    if isinstance(hint, type) and isinstance(value, hint) and not (
            hint is int and isinstance(value, bool)):
        return value
    name = getattr(typing.get_origin(hint) or hint, '__name__', str(hint))
    raise AdaptisError(f'{path}: {key} must be of type {name}, not {value!r}.')


def _convert_union(hints: Sequence[Any], value: Any, path: str, key: str) -> Any:
    """Return None if allowed; convert lists and mappings by their hint, others by the first.
    """
    if value is None and type(None) in hints:
        return None
    same = [hint for hint in hints if typing.get_origin(hint) is type(value)]
    return _convert(same[0] if same else hints[0], value, path, key)


def _as_float(value: Any) -> Any:
    if isinstance(value, (int, str)) and not isinstance(value, bool):
        try:
            return float(value)  # YAML 1.1 reads 5e-4 as text, because it has no point
        except ValueError:
            return value
    return value


def _suggest(key: str, known: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(key, list(known), n=1)
    return f' (did you mean {close[0]}?)' if close else f' (known: {", ".join(known)})'


def _check(config: TrainConfig, path: str) -> None:
    if not isinstance(config.model.get('name'), str):
        raise AdaptisError(f'{path}: the key model.name is missing.')
    if config.precision not in PRECISIONS:
        raise AdaptisError(f'{path}: precision must be one of {", ".join(PRECISIONS)}, '
                           f'not {config.precision}.')
    _check_least(config, _LEAST, f'{path}: ')
    _check_compression(config, path)
    _check_stages(config, path)


def _check_compression(config: TrainConfig, path: str) -> None:
    threshold = config.gradient_compression
    if threshold is None:
        return
    if not 0 < threshold < math.inf:
        raise AdaptisError(f'{path}: gradient_compression is a threshold for gradients: it must be '
                           f'greater than 0, not {threshold}.')
    if config.precision == 'amp':
        raise AdaptisError(f'{path}: gradient_compression needs precision float32, because amp '
                           'scales the gradients by a varying factor.')


def _check_stages(config: TrainConfig, path: str) -> None:
    name = config.model['name']
    try:
        family = find_family(name)
    except AdaptisError as error:
        raise AdaptisError(f'{path}: {error}') from error
    first, *others = family.stages
    if getattr(config, first) is None:
        if not any(getattr(config, other) for other in others):
            raise AdaptisError(f'{path}: the key {first} is missing.')
        if config.initial_weights is None:
            raise AdaptisError(f'{path}: the key {first} is missing. Only a training that starts '
                               'from initial_weights (or --init) can leave it out.')
    for key, stage in config.stages():
        if key not in family.stages:
            raise AdaptisError(f'{path}: {name} has no stage {key}; its stages are '
                               f'{" and ".join(family.stages)}.')
        if family.uses_points and stage.points is None:
            raise AdaptisError(f'{path}: the key {key}.points is missing.')
        if not family.uses_points and stage.points is not None:
            raise AdaptisError(f'{path}: {name} is not trained with points: remove {key}.points.')
        _check_stage(stage, f'{path}: {key}')


def _check_stage(stage: StageConfig, where: str) -> None:
    if (stage.steps is None) == (stage.epochs is None):
        raise AdaptisError(f'{where} needs either steps or epochs, and not both.')
    _check_least(stage, _LEAST_OF_STAGE, f'{where}.')
    if stage.batch_size % (stage.micro_batch or 1):
        raise AdaptisError(f'{where}.micro_batch must divide batch_size.')
    if stage.empty_crop_prob > 1 or stage.ignore_object_prob + stage.background_prob > 1:
        raise AdaptisError(f'{where}.empty_crop_prob must be at most 1, and so must the sum of '
                           'ignore_object_prob and background_prob.')
    if stage.ema is not None and stage.ema >= 1:
        raise AdaptisError(f'{where}.ema is the weight of the old average: it must be less than 1.')
    drops = (stage.optimizer.milestones, stage.optimizer.milestone_epochs,
             stage.optimizer.milestone_steps)
    if sum(map(bool, drops)) > 1:
        raise AdaptisError(f'{where}.optimizer has several of milestones, milestone_epochs and '
                           'milestone_steps: keep only one of them.')
    if not all(0 < share < 1 for share in stage.optimizer.milestones):
        raise AdaptisError(f'{where}.optimizer.milestones are {stage.optimizer.milestones}: they '
                           'must be fractions of the run, between 0 and 1. For others, use '
                           'milestone_epochs or milestone_steps.')
    _check_crop(stage, where)


def _check_crop(stage: StageConfig, where: str) -> None:
    sides = stage.crop if isinstance(stage.crop, list) else [stage.crop or 1] * 2
    if len(sides) != 2 or min(sides) < 1 or stage.crop == 0:
        raise AdaptisError(f'{where}.crop must be a side, or [height, width], of at least 1, '
                           f'not {stage.crop}.')
    scale = stage.scale or [1.0, 1.0]
    if stage.scale == [] or len(scale) != 2 or not 0 < scale[0] <= scale[1] < float('inf'):
        raise AdaptisError(f'{where}.scale must be [low, high], both greater than 0, not '
                           f'{stage.scale}.')
    if stage.crop is None and stage.scale is not None:
        raise AdaptisError(f'{where}.scale needs crop, because all images of a batch must have the '
                           'same size.')
    _check_long_side(stage, where)
    for key in ('short_side', 'max_side'):
        if getattr(stage, key) is not None and stage.crop is None and stage.points is not None:
            raise AdaptisError(f'{where}.{key} needs crop, because all images of a batch must have '
                               'the same size.')
    sides = stage.short_side if isinstance(stage.short_side, list) else [stage.short_side or 1]
    if not sides or min(sides) < 1 or stage.short_side == 0:
        raise AdaptisError(f'{where}.short_side must be at least 1, or a list of such sides, not '
                           f'{stage.short_side}.')
    if isinstance(stage.short_side, list) and stage.crop is not None:
        raise AdaptisError(f'{where}.short_side must be a single number with crop: use scale to '
                           'vary the size.')
    if stage.crop_first and (stage.scale is None or stage.points is not None):
        raise AdaptisError(f'{where}.crop_first needs crop and scale; it is not for AdaptIS, '
                           'because the images of a batch then differ in size.')


def _check_long_side(stage: StageConfig, where: str) -> None:
    if stage.long_side is None:
        return
    low, high = stage.long_side if len(stage.long_side) == 2 else (0, 0)
    if not 1 <= low <= high < float('inf'):
        raise AdaptisError(f'{where}.long_side must be [low, high], both at least 1, not '
                           f'{stage.long_side}.')
    if stage.crop is None:
        raise AdaptisError(f'{where}.long_side needs crop, because all images of a batch must have '
                           'the same size.')
    if stage.scale or stage.short_side or stage.max_side:
        raise AdaptisError(f'{where}.long_side replaces scale, short_side and max_side: '
                           'leave them out.')


def _check_least(settings: Any, least: Mapping[str, int], where: str) -> None:
    for key, low in least.items():
        value = operator.attrgetter(key)(settings)
        if value is not None and not value >= low:  # rejects NaN, too
            raise AdaptisError(f'{where}{key} must be at least {low}, not {value}.')
