"""Estimates of full trainings: the arithmetic, and that the page matches the record."""
from __future__ import annotations

from pathlib import Path

import pytest

from adaptis.config import load_config
from experiments.benchmarks import full_runs, loading_rate, planning
from experiments.benchmarks.planning import Plan, Stage, Training, plan
from experiments.benchmarks.roofline import Device

ROOT = Path(__file__).resolve().parents[3]
GPU = Device('slow', {'float32': 1.0}, 100.0, 'here')
TRAINING = Training('both', 'none', [
    Stage('instances', 36_000, 8, {('slow', 'float32'): 0.07}),   # seconds of an image
    Stage('proposals', 1_000, 8, {('slow', 'float32'): 0.07})], 10 ** 8, 2)


def test_hours_by_hand():
    found = plan(TRAINING, 1, GPU, 'float32')
    seconds = 36_000 * 3 * 0.07 + 1_000 * 0.07
    assert found.hours == pytest.approx((seconds / 0.3 / 3600, seconds / 0.7 / 3600))
    assert found.step == pytest.approx((8 * 0.7, 8 * 0.3)) and found.batch == 8
    assert found.rate == pytest.approx((1 / 0.7, 1 / 0.3)) and found.exchange == 0


def test_more_gpus_than_images_in_a_batch():
    one, eight, many = (plan(TRAINING, gpus, GPU, 'float32') for gpus in (1, 8, 64))
    assert eight.hours == pytest.approx([hours / 8 for hours in one.hours])
    assert many.batch == 64 and many.step == eight.step and many.machines == 8
    # 563 steps of 64 images, and 16 of the second stage.
    assert many.hours[1] * 3600 == pytest.approx((563 * 3 + 16) * 0.1)
    # 0.4 GB: 7/8 of it out to the other servers, 7/8 of its server's share to the others.
    assert many.exchange == pytest.approx(0.7)
    assert many.network_seconds(1.25) == pytest.approx(0.56)
    assert many.network_hours(1.25)[1] == pytest.approx(many.hours[1] + 563 * 0.56 / 3600)
    assert many.rate == eight.rate == pytest.approx((8 / 0.7, 8 / 0.3))
    assert planning.at_one_server(10 ** 8, 8) == pytest.approx(3.2)
    assert planning.checkpoint_gb(TRAINING) == pytest.approx(1.2)


@pytest.mark.parametrize('core_rate, network, said', [
    (1e3, 1e3, 'the GPUs'), (0.1, 1e3, 'loading'), (1e3, 0.5, 'the network')])
def test_what_limits(core_rate, network, said):
    found = Plan(64, 64, 100, (1, 1), (1.0, 0.3), (4.0, 8.0), 0.7)
    assert planning.limit(found, core_rate, network) == said


def test_images_that_a_stage_sees():
    config = load_config(ROOT / 'experiments' / 'cityscapes' / 'r50.yaml')
    assert [full_runs.seen_images(config, stage) for _, stage in config.stages()] == [
        260 * 2975, 10 * 2975]
    config = load_config(ROOT / 'experiments' / 'condinst' / 'coco_r50_1x.yaml')
    assert full_runs.seen_images(config, config.stages()[0][1]) == 90_000 * 16


def test_a_core_loads_images_of_a_recipe(monkeypatch):
    monkeypatch.setattr(loading_rate, 'SECONDS', 0.01)
    monkeypatch.setitem(loading_rate.SIZES, 'cityscapes', ((420, 840), '.png'))
    found = loading_rate.loading_rate('cityscapes/r50')
    assert 1 < found['images a second'] < 1e4 and found['bytes'] > 10 ** 5


def test_the_page_is_that_of_the_record():
    """Of one training, as counting all of them takes its time."""
    record, text = full_runs.read(), (ROOT / full_runs.PAGE).read_text(encoding='utf-8')
    run = full_runs.RUNS[-1]
    section = full_runs.section(full_runs.training_of(run), record['runs'][run.recipe])
    assert '\n\n'.join(section).strip() in text and full_runs.head(record) in text
    assert 'no such training was run' in text
