"""The loop: learning, stopping, resuming."""
from __future__ import annotations

import itertools
import json
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from toy_setup import TinySystem, config, tiny_net, write_samples

from adaptis.config import ValidationConfig
from adaptis.data.toy import ToyDataset
from adaptis.engine.averaging import WeightAverage
from adaptis.engine.checkpoint import load_parameters
from adaptis.engine.logs import RunLog
from adaptis.engine.schedules import build_schedule
from adaptis.engine.stopping import Stopped
from adaptis.engine.trainer import Run, fit
from adaptis.errors import AdaptisError
from adaptis.runtime import mx


@pytest.fixture(scope='module')
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_samples(tmp_path_factory.mktemp('toy') / 'train', 11)


def make_run(data: Path, folder: Path, system: type = TinySystem, workers: int = 0,
             hybridize: bool = False, **changes: object) -> Run:
    folder.mkdir(exist_ok=True)
    net = tiny_net()
    net.hybridize(hybridize)
    return Run(config=config(data, **changes), net=net,
               make_system=lambda name, stage: system(net, stage=name),
               dataset=ToyDataset(data, 'train'), folder=folder, contexts=[mx.current_context()],
               workers=workers)


def parameters(net: object) -> dict:
    return {name: p.data().asnumpy() for name, p in net._collect_params_with_prefix().items()}


def assert_equal(a: dict, b: dict) -> None:
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def stopping_after(steps: int) -> type:
    """A system that receives Ctrl-C during a step."""
    class Stopping(TinySystem):
        calls = 0

        def losses(self, batch: dict) -> dict:
            Stopping.calls += 1
            if Stopping.calls == steps:
                signal.raise_signal(signal.SIGINT)
            return super().losses(batch)
    return Stopping


@pytest.mark.parametrize('stop, hybridize', [(1, False), (3, True), (7, False), (9, True)])
def test_a_resumed_run_equals_one_never_stopped(data: Path, tmp_path: Path, stop: int,
                                                hybridize: bool) -> None:
    whole = make_run(data, tmp_path / 'whole', hybridize=hybridize)
    fit(whole)
    broken = make_run(data, tmp_path / 'broken', stopping_after(stop), hybridize=hybridize)
    with pytest.raises(Stopped) as stopped:
        fit(broken)
    assert stopped.value.status == 130
    resumed = make_run(data, tmp_path / 'broken', workers=1, hybridize=hybridize)
    start = resumed.checkpoints.latest()
    load_parameters(resumed.net, start)
    fit(resumed, start)
    assert_equal(parameters(whole.net), parameters(resumed.net))


def test_sigterm_stops_as_ctrl_c_does_and_twice_stops_at_once(data: Path, tmp_path: Path) -> None:
    class Terminated(TinySystem):
        times = 1

        def losses(self, batch: dict) -> dict:
            for _ in range(self.times):
                signal.raise_signal(signal.SIGTERM)
            return super().losses(batch)

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Stopped) as stopped:
        fit(make_run(data, tmp_path / 'once', Terminated))
    assert stopped.value.status == 143
    Terminated.times = 2
    twice = make_run(data, tmp_path / 'twice', Terminated)
    with pytest.raises(KeyboardInterrupt):
        fit(twice)
    assert twice.checkpoints.latest() is None
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_loss_that_is_not_finite_ends_the_run(data: Path, tmp_path: Path) -> None:
    class Diverging(TinySystem):
        def losses(self, batch: dict) -> dict:
            return {name: loss * float('nan') for name, loss in super().losses(batch).items()}

    run = make_run(data, tmp_path / 'run', Diverging)
    with pytest.raises(AdaptisError, match='"instances" became nan at step 0 of stage instances'):
        fit(run)
    assert run.checkpoints.latest() is None


class FailsOnce(ToyDataset):
    """A data set whose tenth reading, within the third batch, fails."""

    count = 0

    def __getitem__(self, index: int) -> object:
        FailsOnce.count += 1
        if FailsOnce.count == 10:
            raise AdaptisError('image 7 is cut short')
        return super().__getitem__(index)


def assert_resumes_to_the_same(data: Path, tmp_path: Path, folder: Path, step: int) -> None:
    """What lies in ``folder`` has done ``step`` steps and leads to what an unbroken run has."""
    whole, resumed = make_run(data, tmp_path / 'whole'), make_run(data, folder)
    fit(whole)
    start = resumed.checkpoints.latest()
    assert start.position.step == step
    load_parameters(resumed.net, start)
    fit(resumed, start)
    assert_equal(parameters(whole.net), parameters(resumed.net))


def test_broken_data_cost_no_step(data: Path, tmp_path: Path,
                                  capsys: pytest.CaptureFixture) -> None:
    FailsOnce.count = 0
    run = make_run(data, tmp_path / 'broken')
    run.dataset = FailsOnce(data, 'train')
    with pytest.raises(AdaptisError, match='image 7 is cut short'):
        fit(run)
    assert 'A checkpoint of step 2 of stage instances was saved' in capsys.readouterr().out
    assert_resumes_to_the_same(data, tmp_path, tmp_path / 'broken', 2)


def test_a_log_that_cannot_be_written_costs_no_step(data: Path, tmp_path: Path,
                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: RunLog, kind: str, *args: object, **values: object) -> None:
        if kind == 'train':
            raise AdaptisError('No space left on device.')

    run = make_run(data, tmp_path / 'full')
    with monkeypatch.context() as patch, pytest.raises(AdaptisError, match='No space left'):
        patch.setattr(RunLog, 'write', full)
        fit(run)
    assert_resumes_to_the_same(data, tmp_path, tmp_path / 'full', 2)


def test_a_clock_that_jumps_changes_nothing(data: Path, tmp_path: Path,
                                            monkeypatch: pytest.MonkeyPatch) -> None:
    whole, jumped = make_run(data, tmp_path / 'whole'), make_run(data, tmp_path / 'jumped')
    fit(whole)
    right, calls = time.time, itertools.count()
    monkeypatch.setattr(time, 'time', lambda: right() - 86400 * (next(calls) > 20))
    fit(jumped)
    assert next(calls) > 30
    assert_equal(parameters(whole.net), parameters(jumped.net))
    assert whole.checkpoints._names() == jumped.checkpoints._names()


class FailsLater(TinySystem):
    """Its third step fails as ``fail`` says."""

    fail = staticmethod(lambda loss: loss)
    calls = 0

    def losses(self, batch: dict) -> dict:
        type(self).calls += 1
        losses = super().losses(batch)
        return {k: self.fail(v) for k, v in losses.items()} if self.calls == 3 else losses


def test_a_loss_that_is_not_finite_leaves_the_last_good_step(data: Path, tmp_path: Path) -> None:
    class Diverges(FailsLater):
        fail = staticmethod(lambda loss: loss * float('inf'))

    run = make_run(data, tmp_path / 'run', Diverges)
    with pytest.raises(AdaptisError, match='became inf at step 2'):
        fit(run)
    stopped = make_run(data, tmp_path / 'stopped', stopping_after(2))
    with pytest.raises(Stopped):
        fit(stopped)
    for each in (run, stopped):
        start = each.checkpoints.latest()
        assert start.position.step == 2
        load_parameters(each.net, start)
    assert_equal(parameters(run.net), parameters(stopped.net))


def test_parameters_that_are_not_finite_are_not_kept(data: Path, tmp_path: Path) -> None:
    class Poisoned(FailsLater):
        def losses(self, batch: dict) -> dict:
            if self.calls == 2:
                with mx.autograd.pause():
                    self.net.body.bias.data()[:] = float('nan')
            return super().losses(batch)

    run = make_run(data, tmp_path / 'run', Poisoned)
    with pytest.raises(AdaptisError, match='became nan at step 2'):
        fit(run)
    assert run.checkpoints.latest() is None


def test_an_error_within_an_update_leaves_no_checkpoint(data: Path, tmp_path: Path) -> None:
    class Breaks(FailsLater):
        @staticmethod
        def fail(loss: object) -> None:
            raise RuntimeError('half done')

    run = make_run(data, tmp_path / 'run', Breaks)
    with pytest.raises(RuntimeError, match='half done'):
        fit(run)
    assert run.checkpoints.latest() is None


def test_what_devices_cannot_share_is_refused_before_the_first_step(data: Path,
                                                                    tmp_path: Path) -> None:
    run = make_run(data, tmp_path / 'run')
    run.contexts = [mx.cpu(i) for i in range(3)]
    with pytest.raises(AdaptisError, match='4 images cannot be split into 3'):
        fit(run)
    assert not list(run.folder.iterdir())


def test_epochs_count_whole_batches(data: Path, tmp_path: Path) -> None:
    run = make_run(data, tmp_path / 'run')
    stage = replace(run.config.instances, steps=None, epochs=3)  # 11 images, batches of 4
    run.config = replace(run.config, instances=stage, proposals=None)
    fit(run)
    assert run.checkpoints.latest().position.step == 6


def test_epochs_end_where_they_would_if_the_batches_change(data: Path, tmp_path: Path) -> None:
    """11 images: 6 epochs are 12 steps of batches of 4, and 30 steps of batches of 2."""
    def made(system: type, size: int) -> Run:
        run = make_run(data, tmp_path / 'run', system)
        stage = replace(run.config.instances, steps=None, epochs=6, batch_size=size)
        return replace(run, config=replace(run.config, instances=stage, proposals=None,
                                           log_every=1))

    with pytest.raises(Stopped):
        fit(made(stopping_after(5), 4))   # 2 epochs and 4 images
    resumed = made(TinySystem, 2)
    start = resumed.checkpoints.latest()
    assert start.data == {'epochs': 2, 'images': 4}
    fit(resumed, start)
    lines = (tmp_path / 'run' / 'log.jsonl').read_text().splitlines()
    rates = [record['lr'] for record in map(json.loads, lines) if record['kind'] == 'train']
    assert len(rates) == 5 + 18
    # The cosine after the warm-up: 12 of 30 steps are done, as 5 of 12 were before.
    expected = build_schedule(resumed.config.instances.optimizer, 30, 5)
    np.testing.assert_allclose(rates[5:], [expected(step) for step in range(12, 30)])
    end = resumed.checkpoints.latest()
    assert end.position.step == 23 and end.data == {'epochs': 6, 'images': 0}
    fit(made(TinySystem, 4), end)   # nothing is left to do


def test_validation_decides_what_is_best_and_time_when_to_save(data: Path, tmp_path: Path) -> None:
    scores = iter([0.1, 0.5, 0.2, 0.3])
    run = make_run(data, tmp_path / 'run', checkpoint_minutes=0.0)
    run.config = replace(run.config, proposals=None,
                         validation=ValidationConfig(every=2))
    run.validate = lambda: {'iou': next(scores)}
    fit(run)
    assert json.loads((run.folder / 'best.json').read_text())['step'] == 4
    latest = run.checkpoints.latest()
    assert latest.best == 0.5 and latest.metrics == {'iou': 0.3}
    assert len(list((run.folder / 'checkpoints').iterdir())) == 2


def with_average(run: Run, decay: float = 0.5) -> Run:
    run.config = replace(run.config, instances=replace(run.config.instances, ema=decay))
    return run


@pytest.mark.parametrize('stop', [3, 7, 9])
def test_averaged_weights_survive_a_stop(data: Path, tmp_path: Path, stop: int) -> None:
    whole = with_average(make_run(data, tmp_path / 'whole'))
    fit(whole)
    plain = make_run(data, tmp_path / 'plain')
    fit(plain)
    assert any((a != b).any() for a, b in zip(parameters(whole.net).values(),
                                              parameters(plain.net).values()))
    broken = with_average(make_run(data, tmp_path / 'broken', stopping_after(stop)))
    with pytest.raises(Stopped):
        fit(broken)
    resumed = with_average(make_run(data, tmp_path / 'broken'))
    start = resumed.checkpoints.latest()
    load_parameters(resumed.net, start)
    fit(resumed, start)
    assert_equal(parameters(whole.net), parameters(resumed.net))


def test_the_average_is_what_is_validated_and_ends_the_stage(data: Path, tmp_path: Path) -> None:
    run = with_average(make_run(data, tmp_path / 'run', checkpoint_steps=1), decay=0.9)
    run.config = replace(run.config, proposals=None, validation=ValidationConfig(every=1))
    seen, own = [], []

    def validate() -> dict[str, float]:
        seen.append(parameters(run.net))
        return {'iou': 0.5}

    class Watched(TinySystem):
        def losses(self, batch: dict) -> dict:
            own.append(parameters(self.net))
            return super().losses(batch)

    run.validate, run.make_system = validate, lambda name, stage: Watched(run.net, stage=name)
    fit(run)
    name = 'head.weight'
    average = own[0][name]
    for step, after in enumerate(own[1:]):   # the last weights of all are never seen
        decay = min(0.9, (1 + step) / (10 + step))
        average = decay * average + (1 - decay) * after[name]
        np.testing.assert_allclose(seen[step][name], average, rtol=1e-5)
    assert_equal(seen[-1], parameters(run.net))
    stored = run.checkpoints.latest()
    assert stored.average.read_bytes() == stored.parameters.read_bytes()


def test_the_average_of_another_network_is_refused(data: Path, tmp_path: Path) -> None:
    run = make_run(data, tmp_path / 'run')
    average = WeightAverage(run.net._collect_params_with_prefix(), 0.9)
    with pytest.raises(AdaptisError, match='have no .* of shape .*another network'):
        average.load({})


def test_a_loss_that_stalls_is_told_and_logged(data: Path, tmp_path: Path,
                                               monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('adaptis.engine.logs.STALL_REPORTS', 1)
    run = make_run(data, tmp_path / 'run')
    optimizer = replace(run.config.instances.optimizer, lr=0.0)
    run.config = replace(run.config, proposals=None, log_every=1, seed=4,
                         instances=replace(run.config.instances, optimizer=optimizer))
    fit(run)
    records = [json.loads(line) for line in (run.folder / 'log.jsonl').read_text().splitlines()]
    told = [record for record in records if record['kind'] == 'stalled']
    assert told and all(record['last'] >= record['before'] for record in told)
