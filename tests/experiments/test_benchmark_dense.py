"""The benchmark of dense detections runs all its stages; not how fast they are."""
from __future__ import annotations

import pytest

from adaptis.errors import AdaptisError
from experiments import benchmark_dense, timing
from experiments.benchmark import MEASURES
from experiments.benchmark_dense import COUNTS, DENSE

NARROW = {'fpn_channels': 32, 'class_channels': 32, 'box_channels': 32}
SMALL = DENSE._replace(name='dense_detections_r18')


@pytest.fixture
def once(monkeypatch):
    """Run everything once instead of timing it."""
    def alternate(calls, runs=1):
        return {name: call() for name, call in calls.items()}
    monkeypatch.setattr(timing, 'alternate', alternate)


def test_every_stage_is_timed_while_there_is_much_to_do(once):
    assert MEASURES['dense_stages'] is benchmark_dense.dense_stages
    result = benchmark_dense.dense_stages(0, SMALL, [(96, 128)], **NARROW)
    for count in COUNTS:
        masks = result[f'masks of the image, {count} at 96x128, s']
        assert masks.shape == (count, 96, 128) and masks.any(axis=(1, 2)).all()
        whole = result[f'whole, {count} at 96x128, s']
        merged = result[f'merging, {count} at 96x128, s']
        assert whole.things and len(whole.things) <= count
        assert (whole.segment_map == merged.segment_map).mean() > 0.99
    assert {name.split(' at ')[0] for name in result} >= {'graph', 'suppression', 'labels'}


def test_fewer_instances_than_wanted_are_told(once):
    with pytest.raises(AdaptisError, match='instances in the image, not 100'):
        benchmark_dense.dense_stages(0, SMALL, [(32, 32)], **NARROW)
