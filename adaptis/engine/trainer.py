"""The training loop."""
from __future__ import annotations

import contextlib
import math
import random
import signal
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np

from adaptis.config import StageConfig, TrainConfig
from adaptis.data.batches import Batch, BatchSource
from adaptis.data.loader import Loader
from adaptis.engine.checkpoint import (
    Checkpoint,
    CheckpointFolder,
    Position,
    load_optimizer,
)
from adaptis.engine.distributed import StageStore, for_stage
from adaptis.engine.logs import Averages, RunLog, StageBar
from adaptis.engine.schedules import build_schedule
from adaptis.errors import AdaptisError
from adaptis.files import atomic_write
from adaptis.runtime import mx


class Stopped(Exception):
    """The user asked to stop; a checkpoint was written.  ``status`` is the exit status."""

    def __init__(self, status: int):
        super().__init__(f'stopped with status {status}')
        self.status = status


@dataclass
class Run:
    """What the stages of a run share.

    Attributes
    ----------
    make_system : (stage name, stage) -> system with ``losses(batch)``, ``metrics()``,
        ``parameters()``, ``state()`` and ``load_state(dict)``
    validate : () -> metrics; 'iou' among them decides which parameters are the best
    picture : () -> uint8 (H, W, 3)
    kvstore : a name, or a KVStore for distributed training
    """

    config: TrainConfig
    net: Any
    make_system: Callable[[str, StageConfig], Any]
    dataset: Sequence[Any]
    folder: Path
    contexts: List[Any]
    kvstore: Any = 'device'
    workers: int = 0
    validate: Optional[Callable[[], Dict[str, float]]] = None
    picture: Optional[Callable[[], np.ndarray]] = None
    rank: int = 0
    world: int = 1

    @property
    def checkpoints(self) -> CheckpointFolder:
        """Where the checkpoints are."""
        return CheckpointFolder(self.folder / 'checkpoints')

    def stages(self) -> List[Tuple[str, StageConfig]]:
        """The stages of the config in order: instances, then proposals (paper, section 5)."""
        both = [('instances', self.config.instances), ('proposals', self.config.proposals)]
        return [(name, stage) for name, stage in both if stage is not None]


def fit(run: Run, start: Optional[Checkpoint] = None) -> None:
    """Train all stages from the beginning or from a checkpoint whose parameters ``net`` holds.

    Raises Stopped after Ctrl-C or SIGTERM, AdaptisError for broken data or a diverging loss.
    """
    with RunLog(run.folder, quiet=run.rank > 0) as log, _StopRequest() as stop:
        for index, (name, stage) in enumerate(run.stages()):
            if start is None or index > start.position.index:
                _StageRun(run, index, name, stage, log, stop).train(None)
            elif index == start.position.index:
                _StageRun(run, index, name, stage, log, stop).train(start)


class _StageRun:
    def __init__(self, run: Run, index: int, name: str, stage: StageConfig, log: RunLog,
                 stop: _StopRequest):
        self.run, self.index, self.name, self.stage = run, index, name, stage
        self.log, self.stop = log, stop
        self.source = BatchSource(
            run.dataset, stage.batch_size, stage.points, seed=(run.config.seed, index),
            augmentation=run.config.data.version, strategy=stage.sampling,
            min_object_area=stage.min_object_area, rank=run.rank, world=run.world)
        self.total = stage.steps or stage.epochs * len(self.source)
        self.source = replace(self.source, crop=stage.crop,
                              crop_until=self.total - stage.full_size_steps)
        self.schedule = build_schedule(stage.optimizer, self.total)
        self.system = run.make_system(name, stage)
        self.best: Optional[float] = None
        self.metrics: Dict[str, float] = {}

    def train(self, start: Optional[Checkpoint]) -> None:
        """Do the remaining steps and leave a checkpoint."""
        first = start.position.step if start else 0
        if first >= self.total:
            return
        store = for_stage(self.run.kvstore, self.name, self.run.net)
        trainer = make_trainer(self.system, self.stage, store, done=first)
        if start:
            self.system.load_state(start.system)
            self.best, self.metrics = start.best, start.metrics
            load_optimizer(trainer, start.folder / 'optimizer.npz')
        pieces = self.stage.batch_size // (self.stage.micro_batch or self.stage.batch_size)
        prepare_gradients(trainer, accumulate=pieces > 1)
        with Loader(self.source, self.run.workers) as loader, self._bar(first) as bar:
            averages, saved_at, waited = Averages(), time.monotonic(), 0.0
            for step, batch in loader.steps(first, self.total):
                seed_everything(self.run.config.seed, self.index, step)
                trainer.set_learning_rate(self.schedule(step))
                losses = train_step(self.system, trainer, batch, self.run.contexts,
                                    pieces, self.run.world)
                self._refuse_divergence(losses, step)
                averages.add(losses)
                bar.advance()
                done = step + 1
                if self._due(self.run.config.log_every, done):
                    waited, before = loader.waited, waited
                    self._report(bar, done, averages.flush(
                        self.stage.batch_size * self.run.world, waited - before))
                if self._due(self.run.config.validation.every, done):
                    self._validate(bar, done)
                if self._due(self.run.config.pictures_every, done) and self.run.picture:
                    self.log.picture(self.name, done, self.run.picture())
                status = agree(store, self.stop.status)
                if status or self._should_save(done, saved_at):
                    self._save(trainer, done)
                    saved_at = time.monotonic()
                if status:
                    raise Stopped(status)

    def _due(self, every: Optional[int], done: int) -> bool:
        return bool(every) and (done % every == 0 or done == self.total)

    def _should_save(self, done: int, saved_at: float) -> bool:
        config = self.run.config
        return (self._due(config.checkpoint_steps or self.total, done)
                or time.monotonic() - saved_at > 60 * config.checkpoint_minutes)

    def _report(self, bar: StageBar, done: int, values: Dict[str, float]) -> None:
        values.update({k: float(v) for k, v in self.system.metrics().items()})
        values['lr'] = self.schedule(done - 1)
        bar.show(values)
        self.log.write('train', self.index, self.name, done, **values)

    def _validate(self, bar: StageBar, done: int) -> None:
        if self.run.validate is None or self.run.rank > 0:
            return
        self.metrics = self.run.validate()
        self.log.write('validation', self.index, self.name, done, **self.metrics)
        bar.say(f'{self.name} {done}: ' + ', '.join(
            f'{k} {v:.4f}' for k, v in self.metrics.items()))
        score = self.metrics.get('iou')
        if score is not None and (self.best is None or score > self.best):
            self.best = score
            save_parameters(self.run.net, self.run.folder / 'best.params')

    def _save(self, trainer: Any, done: int) -> None:
        if self.run.rank > 0:
            return
        self.run.checkpoints.save(
            self.run.net, trainer, Position(self.index, self.name, done),
            system=self.system.state(), config=self.run.config.to_dict(), best=self.best,
            metrics=self.metrics)

    def _refuse_divergence(self, losses: Dict[str, float], step: int) -> None:
        for name, value in losses.items():
            if not math.isfinite(value):
                raise AdaptisError(
                    f'The loss "{name}" became {value} at step {step} of stage {self.name}: lower '
                    'the learning rate; the checkpoints written before are untouched.')

    @contextlib.contextmanager
    def _bar(self, first: int) -> Iterator[StageBar]:
        bar = StageBar(self.name, first, self.total, quiet=self.run.rank > 0)
        try:
            yield bar
        finally:
            bar.close()


def agree(store: Any, status: int) -> int:
    """Exit status of those who were asked to stop; all processes must stop at the same step."""
    if not isinstance(store, StageStore):
        return status
    votes = store.anyone(status)
    return status or (130 if votes else 0)


def make_trainer(system: Any, stage: StageConfig, kvstore: Any, done: int = 0) -> Any:
    """A ``gluon.Trainer`` that has made ``done`` steps (Adam's bias correction counts them)."""
    config = stage.optimizer
    options = {'learning_rate': config.lr, 'wd': config.wd, 'begin_num_update': done,
               **config.options}
    if config.clip_gradient is not None:
        options['clip_gradient'] = config.clip_gradient
    try:
        # Updates are made here, not on the kvstore: its states could only be had by pickle.
        return mx.gluon.Trainer(system.parameters(), config.name, options, kvstore=kvstore,
                                update_on_kvstore=False)
    except (ValueError, TypeError) as error:
        raise AdaptisError(f'The optimizer "{config.name}" cannot be built: {error}.') from error


def prepare_gradients(trainer: Any, accumulate: bool) -> None:
    """Let backward passes add up if a batch is learnt in pieces, else overwrite."""
    for parameter in trainer._params:
        if parameter.grad_req != 'null':
            parameter.grad_req = 'add' if accumulate else 'write'


def train_step(system: Any, trainer: Any, batch: Batch, contexts: Sequence[Any], pieces: int = 1,
               world: int = 1) -> Dict[str, float]:
    """One update with the mean gradient of the whole batch; returns the mean of every loss.

    The batch is dealt to the contexts, and on each learnt in ``pieces`` passes one after another.
    """
    parts = [part for shard in split(batch, len(contexts)) for part in split(shard, pieces)]
    owners = [context for context in contexts for _ in range(pieces)]
    seen: List[Dict[str, Any]] = []
    if pieces > 1:
        for parameter in trainer._params:
            if parameter.grad_req != 'null':
                parameter.zero_grad()
    for part, context in zip(parts, owners):
        arrays = {key: mx.nd.array(value, ctx=context, dtype='float32')
                  for key, value in part.items()}
        with mx.autograd.record():
            losses = system.losses(arrays)
            total = sum(losses.values())
        total.backward()
        seen.append(losses)
    trainer.step(len(parts) * world)
    return {name: sum(float(losses[name].mean().asscalar()) for losses in seen) / len(seen)
            for name in seen[0]}


def split(batch: Batch, parts: int) -> List[Batch]:
    """Cut every array into equal parts along its first axis (images, or points image by image)."""
    if len(batch['image']) % parts:
        raise AdaptisError(f'A batch of {len(batch["image"])} images cannot be split into {parts} '
                           'equal parts: change batch_size, micro_batch or --ctx.')
    pieces = {key: np.split(value, parts) for key, value in batch.items()}
    return [{key: pieces[key][i] for key in batch} for i in range(parts)]


def seed_everything(seed: int, index: int, step: int) -> None:
    """Make whatever the network draws in this step a function of (seed, stage, step)."""
    state = int(np.random.SeedSequence((seed, index, step)).generate_state(1)[0]) >> 1
    mx.random.seed(state)
    np.random.seed(state)
    random.seed(state)


def save_parameters(net: Any, path: Path) -> None:
    """Parameters into a file that is whole or untouched."""
    with atomic_write(path) as temporary:
        try:
            net.save_parameters(str(temporary))
        except mx.MXNetError as error:
            raise OSError(' '.join(str(error).split())[:200]) from error


class _StopRequest:
    """Ctrl-C or SIGTERM once: stop after the running step; twice: at once."""

    def __init__(self) -> None:
        self.status = 0
        self._handlers: Dict[int, Any] = {}

    def __enter__(self) -> _StopRequest:
        for number in (signal.SIGINT, signal.SIGTERM):
            with contextlib.suppress(ValueError):  # not in the main thread: leave signals alone
                self._handlers[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *unused: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: Any) -> None:
        if self.status:
            raise KeyboardInterrupt
        self.status = 128 + number
