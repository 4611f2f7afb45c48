"""Learning rates against values computed by hand."""
from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from adaptis.config import OptimizerConfig
from adaptis.engine.schedules import build_schedule
from adaptis.errors import AdaptisError


def rates(steps: int = 10, **options: object) -> list:
    rate = build_schedule(OptimizerConfig(lr=1.0, **options), steps)
    return [rate(step) for step in range(steps)]


def test_cosine_starts_at_lr_and_would_end_at_final_lr() -> None:
    values = rates(schedule='cosine', final_lr=0.2)
    assert values[0] == 1.0 and values[5] == pytest.approx(0.6)
    assert build_schedule(OptimizerConfig(lr=1.0, final_lr=0.2), 10)(10) == pytest.approx(0.2)
    assert values == sorted(values, reverse=True)


def test_poly() -> None:
    assert rates(schedule='poly', power=2.0)[5] == pytest.approx(0.25)


def test_steps_fall_at_their_shares_of_the_run() -> None:
    values = rates(schedule='step', milestones=[0.5, 0.8], factor=0.1)
    assert values == pytest.approx([1] * 5 + [0.1] * 3 + [0.01] * 2)


def test_steps_fall_at_the_beginning_of_their_epochs() -> None:
    config = OptimizerConfig(lr=1.0, schedule='step', milestone_epochs=[2, 3], factor=0.1)
    rate = build_schedule(config, steps=16, epoch=4)
    assert [rate(s) for s in range(16)] == pytest.approx([1] * 8 + [0.1] * 4 + [0.01] * 4)
    with pytest.raises(AdaptisError, match=r'milestone_epochs \[2.0, 5\] do not fit into 4 epochs'):
        build_schedule(dataclasses.replace(config, milestone_epochs=[2.0, 5]), 16, 4)


def test_steps_fall_at_given_steps() -> None:
    assert rates(schedule='step', milestone_steps=[3, 8]) == pytest.approx(
        [1] * 3 + [0.1] * 5 + [0.01] * 2)
    with pytest.raises(AdaptisError, match=r'milestone_steps \[11\] do not fit into 10 steps'):
        rates(schedule='step', milestone_steps=[11])


@pytest.mark.parametrize('name', ['1x', '3x'])
def test_detectron2_s_schedules(parity_root: Path, name: str) -> None:
    text = (parity_root / 'panoptic_fpn' / 'training' / 'schedule.json').read_text()
    official = json.loads(text)[name]
    rate = build_schedule(OptimizerConfig(
        lr=official['base_lr'], schedule='step', milestone_steps=official['steps'],
        warmup_steps=official['warmup_iters'], warmup_factor=official['warmup_factor']),
        official['max_iter'])
    for step, value in official['lr_at']:
        assert rate(step) == pytest.approx(value, rel=1e-12), step


def test_cooldown_falls_linearly_in_the_last_steps() -> None:
    values = rates(schedule='cooldown', cooldown_steps=4)
    assert values == pytest.approx([1] * 7 + [0.75, 0.5, 0.25])


def test_warmup_rises_linearly_and_its_first_step_learns() -> None:
    values = rates(schedule='constant', warmup_steps=4)
    assert values == pytest.approx([0.2, 0.4, 0.6, 0.8] + [1] * 6)
    assert rates(schedule='cosine', warmup_steps=4)[4] == 1.0


def test_a_constant_warmup_ends_at_once() -> None:
    values = rates(schedule='constant', warmup_steps=4, warmup_factor=0.25,
                   warmup_method='constant')
    assert values == [0.25] * 4 + [1] * 6


def test_rates_do_not_depend_on_what_was_asked_before() -> None:
    rate = build_schedule(OptimizerConfig(lr=1.0, schedule='step', milestones=[0.5]), 10)
    assert (rate(9), rate(0), rate(9)) == (pytest.approx(0.1), 1.0, pytest.approx(0.1))


@pytest.mark.parametrize('options, words', [
    ({'schedule': 'linear'}, 'no learning rate schedule "linear"'),
    ({'warmup_method': 'cosine'}, "warmup_method is 'cosine'"),
    ({'warmup_method': 'constant'}, 'with a warmup_factor'),
    ({'warmup_steps': 10}, 'do not fit into 10 steps'),
    ({'schedule': 'cooldown', 'warmup_steps': 4, 'cooldown_steps': 6}, 'do not fit'),
])
def test_mistakes_are_named(options: dict, words: str) -> None:
    with pytest.raises(AdaptisError, match=words):
        rates(**options)
