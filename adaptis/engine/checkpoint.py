"""Checkpoints: everything a run needs to go on as if it had never stopped.

A checkpoint is a folder that is filled under a temporary name and then renamed, so that there is
either a whole one or none:

    net.params      parameters and running statistics (``net.load_parameters`` reads them)
    optimizer.npz   optimizer states as plain arrays (MXNet would pickle them)
    state.json      stage, step, system state, metrics, config, and the digests of the other two

The random state is (seed, stage, step): every random number of a run is drawn from generators
seeded by these, see ``BatchSource`` and ``train_stage``.  Nothing is ever unpickled.
"""
from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import tempfile
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Optional

import numpy as np

from adaptis.errors import AdaptisError
from adaptis.runtime import mx

FORMAT = 1
NAME = re.compile(r'(\d+)-([a-z]+)-(\d{8})$')


@dataclass
class Position:
    """Where a run is: ``step`` steps of stage number ``index`` called ``stage`` are done."""

    index: int
    stage: str
    step: int


@dataclass
class Checkpoint:
    """A checkpoint on disk, its files verified."""

    folder: Path
    position: Position
    system: Dict[str, Any]
    config: Dict[str, Any]
    best: Optional[float] = None
    metrics: Dict[str, float] = field(default_factory=dict)

    @property
    def parameters(self) -> Path:
        """The file of parameters."""
        return self.folder / 'net.params'


class CheckpointFolder:
    """The checkpoints of a run; the newest ``keep`` stay."""

    def __init__(self, folder: Path, keep: int = 2):
        self.folder = folder
        self.keep = keep

    def save(self, net: Any, trainer: Any, position: Position, *, system: Dict[str, Any],
             config: Dict[str, Any], best: Optional[float] = None,
             metrics: Optional[Dict[str, float]] = None) -> Path:
        """Write a checkpoint and remove old ones; AdaptisError if the disk refuses."""
        name = f'{position.index}-{position.stage}-{position.step:08d}'
        target = self.folder / name
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._remove_leftovers()
            if target.exists():
                return target
            temporary = Path(tempfile.mkdtemp(dir=self.folder, prefix='.writing-'))
            net.save_parameters(str(temporary / 'net.params'))
            np.savez(temporary / 'optimizer.npz', **optimizer_arrays(trainer))
            state = {'format': FORMAT, 'position': vars(position), 'system': system,
                     'config': config, 'best': best, 'metrics': metrics or {},
                     'sha256': {f.name: _digest(f) for f in sorted(temporary.iterdir())}}
            (temporary / 'state.json').write_text(json.dumps(state, indent=1))
            _sync_folder(temporary)
            os.replace(temporary, target)
        except (OSError, mx.MXNetError) as error:
            self._remove_leftovers()
            reason = ' '.join(str(getattr(error, 'strerror', None) or error).split())[:200]
            raise AdaptisError(f'The checkpoint {target} cannot be written: {reason}; the '
                               'one before it is still there.') from error
        for old in self._names()[:-self.keep]:
            shutil.rmtree(self.folder / old, ignore_errors=True)
        return target

    def latest(self) -> Optional[Checkpoint]:
        """The newest checkpoint, or None; AdaptisError if it is damaged."""
        names = self._names()
        return read_checkpoint(self.folder / names[-1]) if names else None

    def _names(self) -> List[str]:
        if not self.folder.is_dir():
            return []
        return sorted(p.name for p in self.folder.iterdir() if NAME.match(p.name))

    def _remove_leftovers(self) -> None:
        with contextlib.suppress(OSError):
            for path in self.folder.glob('.writing-*'):
                shutil.rmtree(path, ignore_errors=True)


def read_checkpoint(folder: Path) -> Checkpoint:
    """Read ``state.json`` and verify the other files; AdaptisError if anything is missing or cut."""
    try:
        state = json.loads((folder / 'state.json').read_text())
        if state['format'] != FORMAT:
            raise AdaptisError(f'The checkpoint {folder} has format {state["format"]}, written by '
                               f'another version of this program (this one reads {FORMAT}).')
        for name, digest in state['sha256'].items():
            if _digest(folder / name) != digest:
                raise AdaptisError(f'{folder / name} is cut short or damaged: remove the '
                                   'folder to resume from the checkpoint before it.')
        return Checkpoint(folder=folder, position=Position(**state['position']),
                          system=state['system'], config=state['config'], best=state['best'],
                          metrics=state['metrics'])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise AdaptisError(f'{folder} is no whole checkpoint ({type(error).__name__}: {error}): '
                           'remove it to resume from the one before it.') from error


def load_parameters(net: Any, path: Path, contexts: List[Any]) -> None:
    """Load a ``.params`` file into ``net``, all or nothing.

    Raises AdaptisError if the file is missing, cut short, or of another architecture.
    """
    try:
        stored = mx.nd.load(str(path))
    except (mx.MXNetError, OSError, ValueError) as error:
        raise AdaptisError(f'{path} cannot be read as parameters: is it cut short?') from error
    if not isinstance(stored, dict):
        raise AdaptisError(f'{path} holds no named parameters.')
    wanted = net._collect_params_with_prefix()
    difference = sorted(set(stored) ^ set(wanted)) or [
        name for name in wanted if not _fits(wanted[name].shape, stored[name].shape)]
    if difference:
        raise AdaptisError(f'{path} belongs to another architecture: it differs in '
                           f'{len(difference)} parameters, the first being {difference[0]}.')
    net.load_parameters(str(path), ctx=contexts)


def _fits(wanted: Any, stored: Any) -> bool:
    return wanted is None or (len(wanted) == len(stored)
                              and all(w in (s, 0, -1) for w, s in zip(wanted, stored)))


def optimizer_arrays(trainer: Any) -> Dict[str, np.ndarray]:
    """States of a ``gluon.Trainer`` as arrays: 'parameter.slot', in the order of its parameters."""
    arrays = {}
    for index, state in trainer._updaters[0].states.items():
        for slot, array in enumerate(_slots(state)):
            arrays[f'{index}.{slot}'] = array.asnumpy()
    return arrays


def load_optimizer(trainer: Any, path: Path) -> None:
    """Restore what ``optimizer_arrays`` gave; AdaptisError if it belongs to other parameters."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {key: stored[key] for key in stored.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise AdaptisError(f'{path} cannot be read as optimizer states: is it cut short?') from error
    optimizer, matched = trainer.optimizer, 0
    for updater, context in zip(trainer._updaters, trainer._contexts):
        matched = 0
        for index, parameter in enumerate(trainer._params):
            if f'{index}.0' not in arrays:
                continue
            weight = parameter.data(context)
            state = optimizer.create_state_multi_precision(index, weight)
            for slot, array in enumerate(_slots(state)):
                value = arrays.get(f'{index}.{slot}')
                if value is None or value.shape != array.shape:
                    raise AdaptisError(f'{path} belongs to another network or optimizer.')
                array[:] = mx.nd.array(value, dtype=value.dtype)
                matched += 1
            updater.states[index] = state
            updater.states_synced[index] = True
    if matched != len(arrays):
        raise AdaptisError(f'{path} belongs to another network or optimizer.')


def _slots(state: Any) -> List[Any]:
    if state is None:
        return []
    return list(state) if isinstance(state, (list, tuple)) else [state]


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, 'rb') as stream:
        for block in iter(lambda: stream.read(1 << 20), b''):
            digest.update(block)
    return digest.hexdigest()


def _sync_folder(folder: Path) -> None:
    for path in folder.iterdir():
        with open(path, 'rb+') as stream:
            os.fsync(stream.fileno())
