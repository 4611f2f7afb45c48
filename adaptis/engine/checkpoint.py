"""Checkpoints: everything that a run needs to continue as if it had never stopped.

A checkpoint is a folder that is written under a temporary name and then renamed, so it is either
complete or absent:

    net.params      parameters and running statistics; together with net.json, usable on its own
    average.params  the same for the averaged weights, if the stage averages them optimizer.npz
    optimizer states as plain arrays (MXNet would pickle them) state.json      stage, step, place in
    the data, system state, metrics, config, state of the
                    mixed precision, and the digests of the other files

The random state is (seed, stage, step): every random number of a run comes from generators that are
seeded with these, see ``BatchSource`` and ``seed_everything``.  Nothing is ever unpickled.
"""
from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

import numpy as np

from adaptis.engine.averaging import WeightAverage
from adaptis.errors import AdaptisError
from adaptis.model.zoo import read_arrays, save_model, set_parameters
from adaptis.npz import NPZ_ERRORS, read_npz
from adaptis.runtime import mx

FORMAT = 1
AVERAGE = 'average.params'
NAME = re.compile(r'(\d+)-([a-z]+)-(\d{8})$')


@dataclass
class Position:
    """The progress of a run: ``step`` finished steps in stage number ``index``, named ``stage``."""

    index: int
    stage: str
    step: int


@dataclass
class Checkpoint:
    """A checkpoint on disk with verified files."""

    folder: Path
    position: Position
    system: dict[str, Any]
    config: dict[str, Any]
    best: Optional[float] = None
    metrics: dict[str, float] = field(default_factory=dict)
    scaler: dict[str, float] = field(default_factory=dict)
    data: Optional[dict[str, int]] = None   # ``BatchSource.progress``; None in older checkpoints

    @property
    def parameters(self) -> Path:
        """The file of parameters."""
        return self.folder / 'net.params'

    @property
    def average(self) -> Path:
        """The file of averaged parameters; it does not exist if the stage does not average."""
        return self.folder / AVERAGE


class CheckpointFolder:
    """The checkpoints of a run, of which the newest ``keep`` are kept."""

    def __init__(self, folder: Path, keep: int = 2):
        self.folder = folder
        self.keep = keep

    def save(self, net: Any, trainer: Any, position: Position, *, system: dict[str, Any],
             config: dict[str, Any], best: Optional[float] = None,
             metrics: Optional[dict[str, float]] = None,
             scaler: Optional[dict[str, float]] = None,
             info: Optional[dict[str, Any]] = None,
             average: Optional[WeightAverage] = None,
             data: Optional[dict[str, int]] = None) -> Path:
        """Write a checkpoint and remove old ones; AdaptisError if the disk cannot be written.

        ``info`` is stored beside the parameters, for use without the rest of the checkpoint.
        ``data`` is the place in the data, see ``BatchSource.progress``.
        """
        target = self.folder / f'{position.index}-{position.stage}-{position.step:08d}'
        if target.exists():
            return target
        state = {'format': FORMAT, 'position': vars(position), 'system': system,
                 'config': config, 'best': best, 'metrics': metrics or {}, 'scaler': scaler or {},
                 'data': data}
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._remove_leftovers()
            temporary = self.folder / f'.writing-{target.name}'
            temporary.mkdir()
            _fill(temporary, net, trainer, state, info or {}, average)
            os.replace(temporary, target)
        except (OSError, AdaptisError) as error:
            self._remove_leftovers()
            reason = getattr(error, 'strerror', None) or str(error)
            raise AdaptisError(f'The checkpoint {target} cannot be written ({reason}); earlier '
                               'ones are unchanged.') from error
        self._tidy()
        return target

    def latest(self) -> Optional[Checkpoint]:
        """Return the newest checkpoint, or None; AdaptisError if it is damaged.

        Remove what a killed run was writing or removing.
        """
        self._tidy()
        names = self._names()
        return read_checkpoint(self.folder / names[-1]) if names else None

    def _names(self) -> list[str]:
        if not self.folder.is_dir():
            return []
        return sorted(p.name for p in self.folder.iterdir() if NAME.match(p.name))

    def _tidy(self) -> None:
        """Remove old checkpoints, and leftovers, which never have the name of a checkpoint."""
        for old in self._names()[:-self.keep]:
            with contextlib.suppress(OSError):
                os.replace(self.folder / old, self.folder / f'.writing-{old}')
        self._remove_leftovers()

    def _remove_leftovers(self) -> None:
        with contextlib.suppress(OSError):
            for path in self.folder.glob('.writing-*'):
                shutil.rmtree(path, ignore_errors=True)


def read_checkpoint(folder: Path) -> Checkpoint:
    """Read ``state.json`` and verify the other files; AdaptisError if one is missing or damaged."""
    try:
        state = json.loads((folder / 'state.json').read_text())
        if state['format'] != FORMAT:
            raise AdaptisError(f'The checkpoint {folder} has format {state["format"]}, but this '
                               f'version of AdaptIS reads format {FORMAT}: resume with the version '
                               'that wrote it, or remove the folder.')
        for name, digest in state['sha256'].items():
            if _digest(folder / name) != digest:
                raise AdaptisError(f'{folder / name} is cut short or damaged: remove the folder to '
                                   'resume from the previous checkpoint.')
        return Checkpoint(folder=folder, position=Position(**state['position']),
                          system=state['system'], config=state['config'], best=state['best'],
                          metrics=state['metrics'], scaler=state.get('scaler', {}),
                          data=state.get('data'))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise AdaptisError(f'{folder} is not a complete checkpoint ({type(error).__name__}: '
                           f'{error}): remove it to resume from the previous one.') from error


def load_parameters(net: Any, checkpoint: Checkpoint) -> None:
    """Set all parameters of an initialised network, or none of them if there is an error.

    Raises AdaptisError if the checkpoint belongs to another architecture.
    """
    set_parameters(net, read_arrays(checkpoint.parameters), checkpoint.parameters)


def optimizer_arrays(trainer: Any) -> dict[str, np.ndarray]:
    """Return the states of a ``gluon.Trainer``: 'parameter.slot', in the order of parameters."""
    arrays = {}
    for index, state in trainer._updaters[0].states.items():
        for slot, array in enumerate(_slots(state)):
            arrays[f'{index}.{slot}'] = array.asnumpy()
    return arrays


def load_optimizer(trainer: Any, path: Path) -> None:
    """Restore what ``optimizer_arrays`` returned; AdaptisError if it is for other parameters."""
    try:
        arrays = read_npz(path)
    except NPZ_ERRORS as error:
        raise AdaptisError(f'{path} contains no optimizer states, perhaps because it is cut short: '
                           'remove its checkpoint to resume from the previous one.') from error
    for updater, context in zip(trainer._updaters, trainer._contexts):
        matched = 0
        for index, parameter in enumerate(trainer._params):
            if f'{index}.0' not in arrays:
                continue
            weight = parameter.data(context)
            state = trainer.optimizer.create_state_multi_precision(index, weight)
            for slot, array in enumerate(_slots(state)):
                value = arrays.get(f'{index}.{slot}')
                if value is None or value.shape != array.shape:
                    raise AdaptisError(f'{path} belongs to another network or optimizer: give '
                                       'another --output.')
                array[:] = mx.nd.array(value, dtype=value.dtype)
                matched += 1
            updater.states[index] = state
            updater.states_synced[index] = True
    if matched != len(arrays):
        raise AdaptisError(f'{path} belongs to another network or optimizer: give another '
                           '--output.')


def _fill(folder: Path, net: Any, trainer: Any, state: dict[str, Any],
          info: dict[str, Any], average: Optional[WeightAverage]) -> None:
    described = {**{k: state[k] for k in ('position', 'metrics')}, **info}
    save_model(net, folder / 'net.params', described)
    if average is not None:
        with average.in_use():
            save_model(net, folder / AVERAGE, described)
    buffer = io.BytesIO()  # on a full disk, NumPy's archive would raise a second error
    np.savez(buffer, **optimizer_arrays(trainer))
    (folder / 'optimizer.npz').write_bytes(buffer.getvalue())
    digests = {f.name: _digest(f) for f in sorted(folder.iterdir())}
    (folder / 'state.json').write_text(json.dumps({**state, 'sha256': digests}, indent=1),
                                       encoding='utf-8')
    _sync_files(folder)


def _slots(state: Any) -> list[Any]:
    if state is None:
        return []
    return list(state) if isinstance(state, (list, tuple)) else [state]


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, 'rb') as stream:
        for block in iter(lambda: stream.read(1 << 20), b''):
            digest.update(block)
    return digest.hexdigest()


def _sync_files(folder: Path) -> None:
    for path in folder.iterdir():
        with open(path, 'rb+') as stream:
            os.fsync(stream.fileno())
