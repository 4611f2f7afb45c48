"""The training loop."""
from __future__ import annotations

import contextlib
import math
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np

from adaptis.config import StageConfig, TrainConfig
from adaptis.data.batches import BatchSource
from adaptis.data.loader import Loader
from adaptis.engine.checkpoint import Checkpoint, CheckpointFolder, Position, load_optimizer
from adaptis.engine.distributed import for_stage
from adaptis.engine.logs import Averages, RunLog, StageBar
from adaptis.engine.schedules import build_schedule
from adaptis.engine.steps import make_trainer, prepare_gradients, seed_everything, train_step
from adaptis.engine.stopping import Stopped, StopRequest, agree
from adaptis.errors import AdaptisError
from adaptis.evaluation.record import provenance
from adaptis.files import write_image
from adaptis.model import save_model


@dataclass
class Run:
    """What the stages of a run share.

    Attributes
    ----------
    make_system : (stage name, stage) -> system with ``losses(batch)``, ``metrics()``,
        ``parameters()``, ``state()`` and ``load_state(dict)``
    validate : () -> metrics; 'iou' among them decides which parameters are the best
    picture : stage name -> uint8 (H, W, 3)
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
    picture: Optional[Callable[[str], np.ndarray]] = None
    rank: int = 0
    world: int = 1
    held_out: Optional[Sequence[Any]] = None

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
    position = start.position if start else Position(0, 'instances', 0)
    with RunLog(run.folder, quiet=run.rank > 0) as log, StopRequest() as stop:
        log.write('start', position.index, position.stage, position.step, **provenance())
        for index, (name, stage) in enumerate(run.stages()):
            if start is None or index > start.position.index:
                _StageRun(run, index, name, stage, log, stop).train(None)
            elif index == start.position.index:
                _StageRun(run, index, name, stage, log, stop).train(start)


class _StageRun:
    def __init__(self, run: Run, index: int, name: str, stage: StageConfig, log: RunLog,
                 stop: StopRequest):
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
                if self._due(self.run.config.pictures_every, done):
                    self._show(done)
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
        if score is not None and (self.best is None or score >= self.best):
            self.best = score
            save_model(self.run.net, self.run.folder / 'best.params', self._description(done))

    def _show(self, done: int) -> None:
        if self.run.picture is None or self.run.rank > 0:
            return
        picture = self.run.picture(self.name)
        self.log.picture(self.name, done, picture)
        write_image(self.run.folder / 'pictures' / f'{self.name}-{done:08d}.png', picture)

    def _save(self, trainer: Any, done: int) -> None:
        if self.run.rank == 0:
            self.run.checkpoints.save(
                self.run.net, trainer, Position(self.index, self.name, done),
                system=self.system.state(), config=self.run.config.to_dict(), best=self.best,
                metrics=self.metrics)

    def _description(self, done: int) -> Dict[str, Any]:
        return {'stage': self.name, 'step': done, 'metrics': self.metrics,
                'config': self.run.config.to_dict()}

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
