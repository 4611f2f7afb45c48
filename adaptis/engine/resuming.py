"""Going on with a run: from where, and whether the config still asks for the same."""
from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from adaptis.config import TrainConfig, stored_config
from adaptis.engine.checkpoint import Checkpoint
from adaptis.errors import AdaptisError

# What may change between two sessions of a run: where data lie, what is shown, saved and measured.
_FREE = ('data.root', 'data.val_split', 'workers', 'log_every', 'pictures_every',
         'checkpoint_minutes', 'checkpoint_steps', 'evaluation_images', 'validation', 'inference',
         'row', 'checkpoint', 'initial_weights', 'model.pretrained_base', 'model.pretrained')


def check_same_run(start: Checkpoint, config: TrainConfig, confirmed: Sequence[str] = ()) -> None:
    """Refuse to go on with another config than the one that a checkpoint was trained by.

    ``confirmed`` are keys that the user has set for this session: they may differ, but for those
    of the network.  Keys that do not change what is learnt may differ anyway.

    Raises AdaptisError naming what differs.
    """
    stored = stored_config(start.config, str(start.folder)).to_dict()
    changes = [(key, old, new) for key, old, new in _differences(stored, config.to_dict())
               if not _below(key, _FREE)]
    if any(_below(key, ['model']) for key, *_ in changes):
        raise AdaptisError(f'{start.folder} was trained with the model {stored["model"]}, but the '
                           f'config asks for {config.model}: give another --output.')
    changes = [change for change in changes if not _below(change[0], confirmed)]
    if changes:
        told = ', '.join(f'{key} {_yaml(old)} (now {_yaml(new)})' for key, old, new in changes)
        key, _, new = changes[0]
        raise AdaptisError(f'{start.folder} was trained with {told}: put the config back, or '
                           f'confirm each change, as by --set {key}={_yaml(new)}.')


def named_keys(overrides: Sequence[str]) -> list[str]:
    """The keys of ``key=value`` texts."""
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
