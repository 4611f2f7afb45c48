"""The benchmark of dense detections runs all its stages; its speed is not tested."""
from __future__ import annotations

import pytest

from adaptis.errors import AdaptisError
from experiments.benchmarks.dense_detections import COUNTS, DENSE, dense_stages

NARROW = {'fpn_channels': 32, 'class_channels': 32, 'box_channels': 32}
SMALL = DENSE._replace(name='dense_detections_r18')


def test_every_stage_is_timed_while_there_is_much_to_do(results_for_times):
    result = dense_stages(SMALL, [(96, 128)], **NARROW)
    for count in COUNTS:
        masks = result[f'masks of the image, {count} at 96x128, s']
        assert masks.shape == (count, 96, 128) and masks.any(axis=(1, 2)).all()
        whole = result[f'whole, {count} at 96x128, s']
        merged = result[f'merging, {count} at 96x128, s']
        assert whole.things and len(whole.things) <= count
        assert (whole.segment_map == merged.segment_map).mean() > 0.99
    assert {name.split(' at ')[0] for name in result} >= {'graph', 'suppression', 'labels'}


def test_fewer_instances_than_wanted_are_told(results_for_times):
    with pytest.raises(AdaptisError, match='instances in the image, not 100'):
        dense_stages(SMALL, [(32, 32)], **NARROW)
