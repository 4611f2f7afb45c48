"""The training loop."""
from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Callable, Optional, Union

import numpy as np

from adaptis.config import StageConfig, TrainConfig, write_config
from adaptis.data.augment import Crop, RandomScale, Rescale
from adaptis.data.batches import Batch, BatchSource
from adaptis.data.loader import Loader
from adaptis.engine.averaging import WeightAverage, averaged_parameters
from adaptis.engine.checkpoint import Checkpoint, CheckpointFolder, Position, load_optimizer
from adaptis.engine.distributed import average_statistics, stage_kvstore
from adaptis.engine.logs import STALL_REPORTS, AverageMeter, RunLog, StageProgress, StallWatch
from adaptis.engine.precision import attach_loss_scaler, reset_weight_layouts, scaler_state
from adaptis.engine.schedules import build_schedule
from adaptis.engine.steps import (
    LossError,
    check_split,
    make_optimizer,
    make_trainer,
    prepare_gradients,
    seed_everything,
    set_backbone_lr_mult,
    train_step,
)
from adaptis.engine.stopping import Stopped, StopRequest, agree
from adaptis.errors import AdaptisError
from adaptis.evaluation.record import provenance
from adaptis.evaluation.report import percent
from adaptis.files import write_image
from adaptis.inference.encoded import check_finite_weights
from adaptis.inference.likeness import dataset_statistics
from adaptis.inference.sidecar import taxonomy_to_list
from adaptis.model import save_model
from adaptis.model.zoo import read_arrays


@dataclass
class Run:
    """The state that the stages of a run share.

    Attributes
    ----------
    make_system : (stage name, stage) -> system with ``losses(batch)``, ``metrics()``,
        ``parameters()``, ``state()`` and ``load_state(dict)``; if it is not trained with points,
        also ``targets()``, and optionally ``begin_step(step)`` and ``forward(batch)``, whose result
        is then the second argument of ``losses``
    validate : () -> metrics; the first of them decides which parameters are the best
    picture : stage name -> uint8 (H, W, 3)
    kvstore : a name, or a KVStore for distributed training
    """

    config: TrainConfig
    net: Any
    make_system: Callable[[str, StageConfig], Any]
    dataset: Sequence[Any]
    folder: Path
    contexts: list[Any]
    kvstore: Any = 'device'
    workers: int = 0
    validate: Optional[Callable[[], dict[str, float]]] = None
    picture: Optional[Callable[[str], np.ndarray]] = None
    rank: int = 0
    world_size: int = 1
    held_out: Optional[Sequence[Any]] = None
    _images: Optional[dict[str, Any]] = field(default=None, repr=False)

    def description(self) -> dict[str, Any]:
        """Return what is stored beside the network's parameters: config, taxonomy, statistics."""
        if self._images is None:
            self._images = dataset_statistics(self.dataset)
        return {'config': self.config.to_dict(),
                'taxonomy': taxonomy_to_list(self.dataset.taxonomy), **self._images}

    @property
    def checkpoints(self) -> CheckpointFolder:
        """The folder of the checkpoints."""
        return CheckpointFolder(self.folder / 'checkpoints')


def fit(run: Run, start: Optional[Checkpoint] = None) -> None:
    """Train all stages from the beginning, or from a checkpoint whose parameters are in ``net``.

    Raises Stopped after Ctrl-C or SIGTERM, AdaptisError for broken data or a diverging loss.
    """
    stages = [_StageRun(run, index, name, stage)
              for index, (name, stage) in enumerate(run.config.stages())]
    position = start.position if start else Position(0, stages[0].name, 0)
    if run.rank == 0:
        write_config(run.config, run.folder / 'config.yaml')
    with RunLog(run.folder, quiet=run.rank > 0) as log, StopRequest() as stop:
        log.write('start', position.index, position.stage, position.step, **provenance())
        for stage in stages[position.index:]:
            stage.train(log, stop, start if stage.index == position.index else None)


class _StageRun:
    def __init__(self, run: Run, index: int, name: str, stage: StageConfig):
        self.run, self.index, self.name, self.stage = run, index, name, stage
        source = BatchSource(
            run.dataset, stage.batch_size, stage.points, seed=(run.config.seed, index),
            augmentation=run.config.data.augmentation, strategy=stage.sampling,
            min_object_area=stage.min_object_area,
            crop=_crop(replace(stage, scale=None) if stage.crop_first else stage),
            empty_crop_prob=stage.empty_crop_prob, ignore_object_prob=stage.ignore_object_prob,
            background_prob=stage.background_prob, rank=run.rank, world_size=run.world_size,
            rescale=_rescale(stage), epoch_images=stage.epoch_images)
        self.total = stage.steps or stage.epochs * len(source)
        self.source = replace(source, crop_until=self.total - stage.full_size_steps)
        self.schedule = build_schedule(stage.optimizer, self.total, len(source))
        self.pieces = stage.batch_size // (stage.micro_batch or stage.batch_size)
        # Report mistakes, even in the last stage, before the first step.
        make_optimizer(stage.optimizer)
        set_backbone_lr_mult(run.net, stage.optimizer.backbone_lr_mult)
        check_split(stage.batch_size, len(run.contexts) * self.pieces)
        self.ahead = 0   # steps by which the schedule is ahead, see _find_place
        self.best: Optional[float] = None
        self.metrics: dict[str, float] = {}
        self.watch = StallWatch()

    def train(self, log: RunLog, stop: StopRequest, start: Optional[Checkpoint]) -> None:
        """Do the remaining steps and write checkpoints."""
        first = start.position.step if start else 0
        if start and start.data is not None:
            self._find_place(first, start.data)
        if first >= self.total:
            return
        self.log = log
        self.system = self.run.make_system(self.name, self.stage)
        set_backbone_lr_mult(self.run.net, self.stage.optimizer.backbone_lr_mult)
        store = stage_kvstore(self.run.kvstore, self.name, self.run.net, self._digest(first),
                              self.run.config.gradient_compression)
        scaler = start.scaler if start else {}
        trainer = make_trainer(self.system, self.stage, store, scaler.get('updates', first))
        if self.run.config.precision == 'amp':
            attach_loss_scaler(trainer, scaler)
        prepare_gradients(trainer, accumulate=self.pieces > 1)
        self.average = self._make_average()
        if start:
            self._restore(trainer, start)
        with Loader(self._source(), self.run.workers) as loader, self._bar(first) as bar, \
                self._rescued(trainer, bar, first, stop):
            averages, saved_at, clock = AverageMeter(), time.monotonic(), time.perf_counter()
            for step, batch in loader.steps(first, self.total):
                losses = self._step(trainer, step, batch)
                self.done = step + 1
                averages.add(losses, time.perf_counter() - clock)
                bar.advance()
                self._tell(store, bar, step + 1, averages, loader)
                status, save = agree(store, stop.status, self._should_save(step + 1, saved_at))
                if status or save:
                    average_statistics(store, self.run.net, self.average)
                    self._save(trainer, step + 1)
                    saved_at = time.monotonic()
                if status:
                    raise Stopped(status)
                clock = time.perf_counter()

    def _find_place(self, first: int, data: dict[str, int]) -> None:
        """Continue in the data where a checkpoint stopped, perhaps with fewer or more processes.

        The count of steps continues.  A stage defined by ``epochs`` ends, and changes its learning
        rate, at the same epochs as without a change of processes; one defined by ``steps``, at the
        same steps.
        """
        self.source = self.source.resumed(first, data)
        if self.stage.epochs is not None:
            self.ahead = self.source.ahead
            self.total -= self.ahead
            self.source = replace(self.source, crop_until=self.total - self.stage.full_size_steps)

    def _digest(self, first: int) -> bytes:
        """Return a digest of what must be the same in all processes."""
        config = {**self.run.config.to_dict(), 'workers': None}
        config['data'] = {**config['data'], 'root': None}   # it may differ between machines
        same = [config, self.name, first, self.source.ahead, len(self.run.dataset)]
        return hashlib.sha256(repr(same).encode()).digest()

    def _source(self) -> BatchSource:
        """Return the batch source for the system of this stage."""
        targets = getattr(self.system, 'targets', None)
        return self.source if targets is None else replace(self.source, targets=targets())

    def _restore(self, trainer: Any, start: Checkpoint) -> None:
        self.system.load_state(start.system)
        self.best, self.metrics = start.best, start.metrics
        load_optimizer(trainer, start.folder / 'optimizer.npz')
        if self.average is not None and start.average.is_file():
            self.average.load(read_arrays(start.average))

    def _make_average(self) -> Optional[WeightAverage]:
        if self.stage.ema is None:
            return None
        chosen = averaged_parameters(self.run.net, self.system.parameters())
        return WeightAverage(chosen, self.stage.ema)

    def _average(self, step: int) -> None:
        """Update the average of the weights; after the last step, copy it to the network."""
        if self.average is None:
            return
        self.average.update(step)
        if step + 1 == self.total:
            self.average.adopt()

    def _averaged(self) -> contextlib.AbstractContextManager[None]:
        """Return a context in which the network uses its averaged weights, if there are any."""
        return contextlib.nullcontext() if self.average is None else self.average.in_use()

    def _step(self, trainer: Any, step: int, batch: Batch) -> dict[str, float]:
        self.whole = False
        seed_everything(self.run.config.seed, self.index, step)
        trainer.set_learning_rate(self.schedule(step + self.ahead))
        if hasattr(self.system, 'begin_step'):
            self.system.begin_step(step)
        try:
            losses = train_step(self.system, trainer, batch, self.run.contexts, self.pieces,
                                self.run.world_size)
            self._average(step)
            self.whole = True
            return losses
        except LossError as error:
            self.whole = True
            raise AdaptisError(f'{error} at step {step} of stage {self.name}: lower the learning '
                               'rate; earlier checkpoints are unchanged.') from error

    @contextlib.contextmanager
    def _rescued(self, trainer: Any, bar: StageProgress, first: int,
                 stop: StopRequest) -> Iterator[None]:
        """Write a checkpoint of the finished steps if the block fails, for instance on broken data.

        No checkpoint is written if the error came within an update, or if parameters are not
        finite.  Raises Stopped if the block fails because the terminal was closed.
        """
        self.done, self.whole = first, True
        try:
            yield
        except Stopped:
            raise
        except Exception as error:
            status = stop.after_hang_up(error)
            if self.whole and self.done > first and self.run.rank == 0:
                with contextlib.suppress(AdaptisError):   # the first error explains the problem
                    check_finite_weights(self.run.net)
                    self._save(trainer, self.done)
                    bar.write_line(f'A checkpoint of step {self.done} of stage {self.name} was '
                                   'saved: once the problem is fixed, repeat the command with '
                                   '--resume.')
            if status:
                raise Stopped(status) from error
            raise

    def _tell(self, store: Any, bar: StageProgress, done: int, averages: AverageMeter,
              loader: Loader) -> None:
        """Do what is due after this step: log numbers, validate, write pictures."""
        config = self.run.config
        if self._due(config.log_every, done):
            images = self.stage.batch_size * self.run.world_size
            names = averages.names
            values = averages.flush(images, loader.wait_seconds)
            losses = {name: values[name] for name in names}
            self._warn_of_stall(bar, done, sum(losses.values()))
            bar.show(losses)
            self._report(done, values)
        looks = [self._due(every, done) for every in (config.validation.every,
                                                      config.pictures_every)]
        if any(looks):
            average_statistics(store, self.run.net, self.average)
        if looks[0]:
            self._validate(bar, done)
        if looks[1]:
            self._show(done)
        if any(looks) and config.precision == 'amp':
            reset_weight_layouts(self.run.net)

    def _due(self, every: Optional[int], done: int) -> bool:
        return bool(every) and (done % every == 0 or done == self.total)

    def _should_save(self, done: int, saved_at: float) -> bool:
        config = self.run.config
        return (self._due(config.checkpoint_steps or self.total, done)
                or time.monotonic() - saved_at > 60 * config.checkpoint_minutes)

    def _report(self, done: int, values: dict[str, float]) -> None:
        values.update({k: float(v) for k, v in self.system.metrics().items()})
        values['lr'] = self.schedule(done - 1 + self.ahead)
        self.log.write('train', self.index, self.name, done, **values)

    def _warn_of_stall(self, bar: StageProgress, done: int, loss: float) -> None:
        means = self.watch.add(loss)
        if means is None:
            return
        before, last = means
        steps = STALL_REPORTS * self.run.config.log_every
        self.log.write('stalled', self.index, self.name, done, before=before, last=last)
        bar.write_line(
            f'{self.name} {done}: the loss no longer falls: its mean was {before:.4g} over {steps} '
            f'steps and is {last:.4g} over the last {steps}. If this continues, change the '
            'learning rate or stop.')

    def _validate(self, bar: StageProgress, done: int) -> None:
        if self.run.validate is None or self.run.rank > 0:
            return
        with self._averaged():
            self.metrics = self.run.validate()
            self._keep_best(done)
        self.log.write('validation', self.index, self.name, done, **self.metrics)
        bar.write_line(f'{self.name} {done}: ' + ', '.join(
            f'{name.replace("_", " ")} {percent(value)}' for name, value in self.metrics.items()))

    def _keep_best(self, done: int) -> None:
        score = next(iter(self.metrics.values()), None)
        if score is not None and (self.best is None or score >= self.best):
            self.best = score
            save_model(self.run.net, self.run.folder / 'best.params', self._description(done))

    def _show(self, done: int) -> None:
        if self.run.picture is None or self.run.rank > 0:
            return
        with self._averaged():
            picture = self.run.picture(self.name)
        self.log.picture(self.name, done, picture)
        write_image(self.run.folder / 'pictures' / f'{self.name}-{done:08d}.png', picture)

    def _save(self, trainer: Any, done: int) -> None:
        if self.run.rank == 0:
            self.run.checkpoints.save(
                self.run.net, trainer, Position(self.index, self.name, done),
                system=self.system.state(), config=self.run.config.to_dict(), best=self.best,
                metrics=self.metrics, scaler=scaler_state(trainer),
                info=self.run.description(), average=self.average,
                data=self.source.progress(done))

    def _description(self, done: int) -> dict[str, Any]:
        return {'stage': self.name, 'step': done, 'metrics': self.metrics,
                **self.run.description()}

    @contextlib.contextmanager
    def _bar(self, first: int) -> Iterator[StageProgress]:
        bar = StageProgress(self.name, first, self.total, quiet=self.run.rank > 0)
        try:
            yield bar
        finally:
            bar.close()


def _crop(stage: StageConfig) -> Optional[Crop]:
    if stage.crop_size is None:
        return None
    low, high = stage.scale or (1.0, 1.0)
    long_side = None if stage.long_side is None else tuple(stage.long_side)
    return Crop(stage.crop_size, (low, high), stage.short_side, stage.max_side, long_side)


def _rescale(stage: StageConfig) -> Union[Rescale, RandomScale, None]:
    if stage.crop_first:
        return RandomScale(*stage.scale)
    if stage.crop_size or not (stage.short_side or stage.max_side):
        return None
    sides = stage.short_side if isinstance(stage.short_side, list) else [stage.short_side]
    return Rescale(tuple(filter(None, sides)), stage.max_side)
