"""The memory of training: estimated, and as MXNet allocates it."""
from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from adaptis.cli import main
from adaptis.commands.memory import GIB, Estimate, estimate, report
from adaptis.config import load_config
from adaptis.errors import AdaptisError
from experiments.benchmarks.memory import CASES, compare

ROOT = Path(__file__).resolve().parents[3]
EXPERIMENTS = ROOT / 'experiments'


def made(micro_batch: int, gib: float, largest: int = 1) -> Estimate:
    return Estimate('joint', micro_batch, micro_batch, (800, 1333), parameters=0, gradients=0,
                    optimizer=0, average=0, batch=0, activations=int(gib * GIB), backward=0,
                    largest=largest)


def test_the_advice_is_the_largest_micro_batch_that_fits():
    found = [made(16, 30), made(8, 15), made(4, 8)]
    assert '--set joint.micro_batch=8' in report(found, 24)
    assert 'It fits into 36 GiB' in report(found, 36)
    assert 'Nothing fits into 8 GiB' in report(found, 8)
    assert '--set' not in report(found)


def test_arrays_that_mxnet_cannot_count_are_told_and_never_fit():
    text = report([made(16, 30, 2 ** 31), made(8, 15)], 80)
    assert 'With micro_batch 16 an array has 2,147,483,648 elements' in text
    assert '--set joint.micro_batch=8' in text


def test_the_estimate_is_what_mxnet_allocates():
    config = load_config(EXPERIMENTS / 'toy_v1_cpu.yaml')
    found = compare(config, 'instances', (48, 64), 2)
    assert 0.85 < found['estimated'] / found['measured'] < 1.05, found


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize('name', CASES)
def test_the_estimate_of_every_system_is_what_mxnet_allocates(name):
    """Measured bytes include the scratch space of convolutions, which weighs most at small sizes.
    """
    case = CASES[name]
    config = load_config(EXPERIMENTS / f'{case.recipe}.yaml', case.changes)
    found = compare(config, case.stage, case.size, 1)
    assert 0.75 < found['estimated'] / found['measured'] < 1.1, found


@pytest.mark.slow
def test_more_devices_and_half_precision_need_less():
    config = load_config(EXPERIMENTS / 'toy_v1_cpu.yaml')
    one, four = (estimate(config, devices, 1e9)[0] for devices in (1, 4))
    assert one.images == 4 * four.images
    assert four.activations == pytest.approx(one.activations / 4, rel=0.01)
    half = estimate(dataclasses.replace(config, precision='amp'), 1, 1e9)[0]
    assert half.activations < 0.8 * one.activations and half.parameters == one.parameters


def test_a_batch_must_split_among_the_devices():
    with pytest.raises(AdaptisError, match='cannot be divided among 3 devices'):
        estimate(load_config(EXPERIMENTS / 'toy_v1_cpu.yaml'), devices=3)


@pytest.mark.parametrize('options, sentence', [
    (['--size', '5'], 'write HEIGHTxWIDTH'), (['--memory', '0'], 'must be positive'),
    (['--devices', '0'], 'must be positive'), (['--set', 'a'], 'write key=value')])
def test_wrong_options_are_a_sentence(capsys, options, sentence):
    status = main(['doctor', '--config', str(EXPERIMENTS / 'toy_v1_cpu.yaml'), *options])
    assert status == 1 and sentence in capsys.readouterr().err


@pytest.mark.slow
def test_a_step_with_arrays_that_mxnet_cannot_count_is_impossible():
    config = load_config(EXPERIMENTS / 'dense_detections' / 'coco_r50.yaml')
    whole, *smaller = estimate(config, memory=24, size=(800, 1333))
    # 133 classes at every pixel of 16 images
    assert whole.micro_batch == 16 and whole.largest == 16 * 133 * 800 * 1344
    assert not whole.possible and smaller[-1].fits(24)
