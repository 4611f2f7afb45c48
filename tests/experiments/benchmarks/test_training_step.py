"""The benchmarks of a training step run; their speed is not tested."""
from __future__ import annotations

import pytest

from experiments.benchmarks import training_step
from experiments.benchmarks.training_step import Step

TINY = Step(width=4, images=1, points=2, size=(16, 16))


def test_parts_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_step, 'RUNS', 1)
    parts = training_step.parts(TINY)
    assert parts.pop('sum, s') == pytest.approx(sum(parts.values()))
    assert {'head, backward, s', 'update, s'} < set(parts) and min(parts.values()) > 0


def test_sizes_change_one_thing_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_step, '_time_step', lambda step: step.points * step.size[0])
    found = training_step.sizes(TINY)
    assert found['32 points, s'] == 32 * 16 and found['96x96, s'] == 2 * 96


def test_kernels_are_read_from_the_log() -> None:
    found = training_step.kernels(TINY)
    assert 0 < found['convolutions, ms'] < found['all kernels, ms']
    assert any('forward_training' in name for name in found)


def test_every_point_costs_the_same() -> None:
    none, one, two = (training_step.multiply_adds(TINY._replace(points=n)) for n in range(3))
    assert two - one == one - none > 0
