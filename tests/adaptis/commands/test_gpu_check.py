"""The check of a device against the CPU, tried on the CPU under another name."""
from __future__ import annotations

import json

import numpy as np
import pytest

from adaptis import machine
from adaptis.cli import main
from adaptis.commands import gpu_check
from adaptis.commands.gpu_check import Check, line, plan, run_check
from adaptis.registry import families, find_family

CHECK = Check('adaptis', 'float32', 'cpu:1')


def test_there_is_a_check_for_every_system():
    assert [find_family(model['name']) for model, _ in gpu_check.SYSTEMS.values()] == families()


def test_two_devices_are_also_checked_together():
    found = plan(['gpu:0', 'gpu:2', 'gpu:3'], ['adaptis', 'condinst'])
    assert [check.device for check in found if check.system == 'condinst'] == [
        'gpu:0', 'gpu:0', 'gpu:0,2']
    assert {check.precision for check in found} == {'float32', 'amp'}
    assert all(check.device == 'gpu:0' for check in plan(['gpu:0'], ['adaptis']))


def test_without_a_gpu_it_says_so(capsys, monkeypatch):
    monkeypatch.setattr(machine, 'query_cuda', machine.Cuda)
    assert main(['doctor', '--gpu']) == 1
    assert 'has no NVIDIA GPU, so there is nothing to check' in capsys.readouterr().err


@pytest.mark.parametrize('options, sentence', [
    (['--system', 'mask2former'], 'choose from adaptis'), (['--device', 'tpu'], 'is not a device')])
def test_wrong_options_are_a_sentence(capsys, options, sentence):
    assert main(['doctor', '--gpu', *options]) == 1
    assert sentence in capsys.readouterr().err


def test_the_device_gives_what_the_cpu_gives(capsys, tmp_path):
    report = tmp_path / 'report.json'
    status = main(['doctor', '--gpu', '--device', 'cpu:1', '--system', 'adaptis',
                   '--precision', 'float32', '--report', str(report)])
    told = json.loads(report.read_text())
    assert status == 0 and told['passed'] and 'All 1 checks passed' in capsys.readouterr().out
    check, = told['checks']
    assert set(check['errors']) == {'losses', 'gradients', 'weights', 'maps', 'pixels'}
    assert check['losses'][0] != check['losses'][1] and check['step_seconds'] > 0
    assert told['machine']['packages']['numpy']


@pytest.mark.slow
@pytest.mark.timeout(700)
@pytest.mark.parametrize('system', gpu_check.SYSTEMS)
@pytest.mark.parametrize('precision, device', [
    ('float32', 'cpu:1'), ('float32', 'cpu:1,2'), ('amp', 'cpu:1')])
def test_every_system_passes(system, precision, device):
    found = run_check(Check(system, precision, device), 600)
    assert found['passed'], found


def test_a_check_that_hangs_or_crashes_fails_alone(monkeypatch):
    monkeypatch.setattr(gpu_check, '_CHILD', 'import time; time.sleep(60)')
    assert line(run_check(CHECK, 0.2)).endswith('FAILED: it did not finish within 0.2 seconds')
    monkeypatch.setattr(gpu_check, '_CHILD', 'import os; os.abort()')
    assert 'the process ended with SIGABRT' in line(run_check(CHECK, 60))
    monkeypatch.setattr(gpu_check, '_CHILD', 'raise SystemExit("CUDA: out of memory")')
    assert 'CUDA: out of memory' in line(run_check(CHECK, 60))


def test_a_wrong_gradient_is_an_error_and_one_of_no_length_is_not():
    from adaptis.engine import device_check as tools  # loads MXNet
    rng = np.random.default_rng(0)
    gradients = {'weight': rng.normal(size=100), 'bias': 1e-9 * rng.normal(size=100)}
    expected = tools.Trained({'a': 2.0, 'b': 0.0}, gradients, 0.0)
    same = expected._replace(gradients={**gradients, 'bias': -gradients['bias']})
    assert tools.gradient_error(same, expected)[0] < 1e-6
    wrong = expected._replace(gradients={**gradients, 'weight': gradients['weight'][::-1]})
    assert tools.gradient_error(wrong, expected) == (pytest.approx(1.4, abs=0.3), 'weight')
    lost = expected._replace(gradients={**gradients, 'bias': np.full(100, np.nan)})
    assert tools.gradient_error(lost, expected)[1] == 'bias'
    assert tools.loss_error(expected._replace(losses={'a': 2.0, 'b': 0.002}),
                            expected) == pytest.approx(0.01)
