"""Resume a run: check that the config still describes the same training."""
from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from adaptis.config import TrainConfig, config_from_dict
from adaptis.engine.checkpoint import Checkpoint
from adaptis.errors import AdaptisError

# Keys that may change when a run is resumed: location of data, logging, saving and evaluation.
_FREE = ('data.root', 'data.val_split', 'workers', 'log_every', 'pictures_every',
         'checkpoint_minutes', 'checkpoint_steps', 'evaluation_images', 'validation', 'inference',
         'row', 'checkpoint', 'initial_weights', 'model.pretrained_base', 'model.pretrained')


def check_same_run(start: Checkpoint, config: TrainConfig, confirmed: Sequence[str] = ()) -> None:
    """Refuse to resume with a config other than the one that a checkpoint was trained with.

    ``confirmed`` are keys that the user has set for this session.  They may differ, except those of
    the network and of a stage that has ended.  Keys that do not affect training may always differ.

    Raises AdaptisError naming the differences.
    """
    stored = config_from_dict(start.config, str(start.folder)).to_dict()
    changes = [(key, old, new) for key, old, new in _differences(stored, config.to_dict())
               if not _below(key, _FREE)]
    if any(_below(key, ['model']) for key, *_ in changes):
        raise AdaptisError(f'{start.folder} was trained with the model {stored["model"]}, but the '
                           f'config asks for {config.model}: give another --output.')
    ended = [name for name, _ in config.stages()][:start.position.index]
    for key, old, new in changes:
        if _below(key, ended):
            raise AdaptisError(f'{start.folder} has finished the stage {key.partition(".")[0]} '
                               f'with {key} {_yaml(old)}, so it can no longer be changed to '
                               f'{_yaml(new)}: restore the old value, or give another --output.')
    changes = [change for change in changes if not _below(change[0], confirmed)]
    if changes:
        told = ', '.join(f'{key} {_yaml(old)} (now {_yaml(new)})' for key, old, new in changes)
        key, _, new = changes[0]
        raise AdaptisError(f'{start.folder} was trained with {told}: restore the config, or '
                           f'confirm each change, for example with --set {key}={_yaml(new)}.')


def override_keys(overrides: Sequence[str]) -> list[str]:
    """Return the keys of ``key=value`` texts."""
    return [text.partition('=')[0] for text in overrides]


def _differences(old: Mapping[str, Any], new: Mapping[str, Any],
                 where: str = '') -> Iterator[tuple[str, Any, Any]]:
    for key in dict.fromkeys((*old, *new)):
        a, b = old.get(key), new.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            yield from _differences(a, b, f'{where}{key}.')
        elif a != b:
            yield where + key, a, b


def _below(key: str, parents: Sequence[str]) -> bool:
    return any(key == parent or key.startswith(parent + '.') for parent in parents)


def _yaml(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=10_000).partition('\n')[0]
