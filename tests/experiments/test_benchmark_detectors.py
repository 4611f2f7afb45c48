"""The benchmarks of the ports run, and look at networks that are busy; not how fast they are."""
from __future__ import annotations

import pytest

from adaptis.errors import AdaptisError
from experiments import benchmark_detectors, timing
from experiments.benchmark_detectors import COUNTS, FORMS, PORTS

SIZE = 96, 128
NARROW = {
    'panoptic_fpn': {'fpn_channels': 32, 'semantic_channels': 32, 'box_channels': 16,
                     'mask_channels': 8},
    'condinst': {'fpn_channels': 32, 'branch_channels': 16},
    'dense_detections': {'fpn_channels': 32, 'class_channels': 32, 'box_channels': 32},
    'unified': {'fpn_channels': 32, 'semantic_channels': 32, 'affinity_channels': 16,
                'box_channels': 16, 'mask_channels': 8, 'deformable': False},
}


@pytest.fixture
def once(monkeypatch):
    """Run every form once instead of timing it."""
    def alternate(forms, runs=1):
        for form in forms.values():
            form()
        return dict.fromkeys(forms, 0.5)
    monkeypatch.setattr(timing, 'alternate', alternate)


def narrow(port):
    """The port with ResNet-18 and its arguments."""
    family = port.name.rsplit('_', 1)[0]
    return port._replace(name=f'{family}_r18'), NARROW[family]


@pytest.mark.parametrize('port', PORTS, ids=lambda port: port.name)
def test_a_port_is_timed_while_it_finds_much(port, once):
    port, options = narrow(port)
    result = benchmark_detectors.detector(0, [port], [SIZE], **options)
    for form in FORMS:
        assert result[f'{port.name} at 96x128, {form}, s'] == 0.5
    assert result[f'{port.name}, pixels that agree'] > 0.99
    assert result[f'{port.name}, detections'] == 100


def test_the_mask_head_is_timed_as_a_share_of_the_whole(once):
    port, options = narrow(benchmark_detectors.CONDINST)
    result = benchmark_detectors.mask_head(0, port, [SIZE], **options)
    for form in FORMS:
        for count in COUNTS:
            assert result[f'{count} at 96x128, {form}, whole, s'] == 0.5
            for part in 'head', 'masks':
                assert result[f'{count} at 96x128, {form}, {part}, %'] == 100


def test_fewer_instances_than_wanted_are_told(once):
    port, options = narrow(benchmark_detectors.CONDINST)
    with pytest.raises(AdaptisError, match='There are 8[0-9] instances in the image, not 100'):
        benchmark_detectors.mask_head(0, port, [(64, 64)], **options)
