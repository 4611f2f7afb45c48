"""Every graph of all five systems, hybridized once, gives the imperative results at any size."""
from __future__ import annotations

import numpy as np
import pytest

from adaptis.deploy.stages import concrete_shape
from adaptis.model import get_model
from adaptis.registry import find_family
from adaptis.runtime import mx
from tests.adaptis.deploy.onnx_cases import initialized, random_array
from tests.panoptic_baselines.networks import build

CASES = ('adaptis', 'panoptic_fpn', 'condinst', 'dense', 'unified')
IMAGES = (64, 96), (96, 64), (64, 96)
FLAGS = {'hybridized': {}, 'static': {'static_alloc': True, 'static_shape': True}}


def export_stages(case):
    if case != 'adaptis':
        net, family, _ = build(case)
        return family.export_stages(net)
    net = initialized(get_model('adaptis_toy', width=8))
    net(mx.nd.zeros((1, 3, 32, 32)), mx.nd.zeros((1, 1, 2)))
    return find_family('adaptis').export_stages(net)


def inputs_of(stage):
    rng = np.random.default_rng(0)
    for number, (height, width) in enumerate(IMAGES):
        values = {'H': height, 'W': width, 'h': 7 + number, 'w': 12 - number, 'N': 2 + number,
                  'K': 4 + number}
        yield [mx.nd.array(random_array(rng, s, concrete_shape(s, values))) for s in stage.inputs]


def outputs(stage, arrays):
    found = stage.block(*arrays)
    return [a.asnumpy() for a in (found if isinstance(found, (list, tuple)) else [found])]


@pytest.mark.parametrize('flags', FLAGS.values(), ids=list(FLAGS))
@pytest.mark.parametrize('case', CASES)
def test_hybridized_graphs_equal_imperative_ones(case, flags):
    for stage in export_stages(case):
        batches = list(inputs_of(stage))
        stage.block.hybridize(False)
        expected = [outputs(stage, arrays) for arrays in batches]
        stage.block.hybridize(True, **flags)
        for arrays, wanted in zip(batches, expected):
            for ours, theirs in zip(outputs(stage, arrays), wanted):
                assert ours.shape == theirs.shape
                assert np.abs(ours - theirs).max() <= 1e-5 * max(np.abs(theirs).max(), 1e-3)
