"""The loop: learning, stopping, resuming."""
from __future__ import annotations

import signal
from pathlib import Path

import numpy as np
import pytest
from toy_setup import TinySystem, config, tiny_net, write_samples

from adaptis.data.toy import ToyDataset
from adaptis.engine.checkpoint import load_parameters
from adaptis.engine.stopping import Stopped
from adaptis.engine.trainer import Run, fit
from adaptis.runtime import mx


@pytest.fixture(scope='module')
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_samples(tmp_path_factory.mktemp('toy') / 'train', 11)


def make_run(data: Path, folder: Path, system: type = TinySystem, workers: int = 0,
             **changes: object) -> Run:
    folder.mkdir(exist_ok=True)
    net = tiny_net()
    return Run(config=config(data, **changes), net=net,
               make_system=lambda name, stage: system(net, stage=name),
               dataset=ToyDataset(data, 'train'), folder=folder, contexts=[mx.cpu()],
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


@pytest.mark.parametrize('stop', [1, 3, 7, 9])
def test_a_resumed_run_equals_one_never_stopped(data: Path, tmp_path: Path, stop: int) -> None:
    whole = make_run(data, tmp_path / 'whole')
    fit(whole)
    broken = make_run(data, tmp_path / 'broken', stopping_after(stop))
    with pytest.raises(Stopped) as stopped:
        fit(broken)
    assert stopped.value.status == 130
    resumed = make_run(data, tmp_path / 'broken', workers=1)
    start = resumed.checkpoints.latest()
    load_parameters(resumed.net, start)
    fit(resumed, start)
    assert_equal(parameters(whole.net), parameters(resumed.net))
