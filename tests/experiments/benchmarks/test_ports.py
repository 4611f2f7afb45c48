"""The benchmarks of the ports run, with many detections; their speed is not tested."""
from __future__ import annotations

import pytest

from adaptis.errors import AdaptisError
from experiments.benchmarks import ports
from experiments.benchmarks.ports import COUNTS, FORMS, PORTS

SIZE = 96, 128
NARROW = {
    'panoptic_fpn': {'fpn_channels': 32, 'semantic_channels': 32, 'box_channels': 16,
                     'mask_channels': 8},
    'condinst': {'fpn_channels': 32, 'branch_channels': 16},
    'dense_detections': {'fpn_channels': 32, 'class_channels': 32, 'box_channels': 32},
    'unified': {'fpn_channels': 32, 'semantic_channels': 32, 'affinity_channels': 16,
                'box_channels': 16, 'mask_channels': 8, 'deformable': False},
}


def narrow(port):
    """The port with ResNet-18 and its arguments."""
    family = port.name.rsplit('_', 1)[0]
    return port._replace(name=f'{family}_r18'), NARROW[family]


@pytest.mark.parametrize('port', PORTS, ids=lambda port: port.name)
def test_a_port_is_timed_while_it_finds_much(port, half_a_second):
    port, options = narrow(port)
    result = ports.detector([port], [SIZE], **options)
    for form in FORMS:
        assert result[f'{port.name} at 96x128, {form}, s'] == 0.5
    assert result[f'{port.name}, pixels that agree'] > 0.99
    assert result[f'{port.name}, detections'] == 100


def test_the_mask_head_is_timed_as_a_share_of_the_whole(half_a_second):
    port, options = narrow(ports.CONDINST)
    result = ports.mask_head(port, [SIZE], **options)
    for form in FORMS:
        for count in COUNTS:
            assert result[f'{count} at 96x128, {form}, whole, s'] == 0.5
            for part in 'head', 'masks':
                assert result[f'{count} at 96x128, {form}, {part}, %'] == 100


def test_fewer_instances_than_wanted_are_told(half_a_second):
    port, options = narrow(ports.CONDINST)
    with pytest.raises(AdaptisError, match='finds 8[0-9] instances in the image, not 100'):
        ports.mask_head(port, [(64, 64)], **options)
