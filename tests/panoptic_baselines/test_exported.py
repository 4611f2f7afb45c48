"""The same code runs between the graphs of a network and between its exported graphs."""
from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from adaptis.deploy.backends import BlockRunner
from adaptis.deploy.stages import Interface
from adaptis.errors import AdaptisError
from adaptis.registry import find_family, import_object
from adaptis.runtime import mx
from panoptic_baselines.zoo import get_model
from tests.panoptic_baselines.networks import (
    NETWORKS,
    TAXONOMY,
    TINY,
    TWO_STAGE,
    build,
    picture,
    same,
)

SIZES = [(64, 64), (41, 90)]


class NumPyRunner(BlockRunner):
    """Blocks that give NumPy arrays, as ONNX Runtime would."""

    def __init__(self, stages):
        super().__init__(stages, mx.current_context())
        self.asked = set()

    def run(self, stage, *arrays):
        self.asked.add(stage)
        signatures = self.stages[stage].inputs
        assert len(arrays) == len(signatures)
        for array, signature in zip(arrays, signatures):
            assert isinstance(array, np.ndarray) and array.dtype == signature.dtype
            assert len(array.shape) == len(signature.shape)
            assert all(isinstance(there, str) or here == there
                       for here, there in zip(array.shape, signature.shape)), signature
        return [output.asnumpy() for output in super().run(stage, *arrays)]


@pytest.fixture(scope='module', params=list(NETWORKS))
def case(request):
    return build(request.param)


def exported(family, net, runner, predictor):
    attributes = family.export_attributes(net)
    return import_object(family.exported_predictor)(runner, attributes, predictor.settings,
                                                    TAXONOMY)


@pytest.mark.parametrize('size', SIZES)
def test_exported_graphs_give_the_same_bit_for_bit(case, size):
    net, family, predictor = case
    runner = BlockRunner(family.export_stages(net), mx.current_context())
    other = exported(family, net, runner, predictor)
    image = picture(size)
    expected = family.evaluation_result(predictor.set_image(image))
    if net.has_instances:
        assert len(expected.objects.scores)
    same(family.evaluation_result(other.set_image(image)), expected)


@pytest.mark.parametrize('scipy', [True, False])
def test_numpy_arrays_do_as_well(case, scipy, monkeypatch):
    net, family, predictor = case
    if not scipy:
        monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
    runner = NumPyRunner(family.export_stages(net))
    other = exported(family, net, runner, predictor)
    image = picture(SIZES[1])
    expected, found = (family.evaluation_result(p.set_image(image)) for p in (predictor, other))
    # Without SciPy, boxes are pooled by another operator: what is at a threshold may change.
    assert (found.segment_map == expected.segment_map).mean() > 0.99
    if net.has_instances:
        np.testing.assert_allclose(found.objects.scores, expected.objects.scores, atol=1e-5)
    idle = {'giou_masks', 'iou_masks', 'potential', 'probabilities', 'affinity',
            *(['pool_box', 'pool_mask'] if scipy else [])}
    assert set(runner.stages) - runner.asked <= idle


def test_no_stage_sees_an_empty_batch(case):
    net, family, predictor = case
    runner = NumPyRunner(family.export_stages(net))
    other = exported(family, net, runner, predictor)
    other.settings = predictor.settings.replace(score_threshold=1.0)
    assert not [s for s in other.predict(picture((64, 64))).segments if s.isthing] \
        or not net.has_instances


def test_signatures_are_those_of_the_graphs(case):
    net, family, _ = case
    for stage in family.export_stages(net):
        inputs = [mx.nd.ones(shape) for shape in stage.example_shapes()]
        if stage.name.startswith('pool'):   # MXNet's operator trusts them
            inputs[1][:] = mx.nd.array([0, 1, 2, 3, 4])
        outputs = stage.block(*inputs)
        count = len(outputs) if isinstance(outputs, (list, tuple)) else 1
        assert len(stage.outputs) == count == len(set(stage.outputs)), stage.name
        symbols = stage.block(*(mx.sym.var(signature.name) for signature in stage.inputs))
        group = mx.sym.Group(list(symbols)) if isinstance(symbols, (list, tuple)) else symbols
        assert {s.name for s in stage.inputs} <= set(group.list_arguments()), stage.name


def test_attributes_are_plain_data_and_all_needed(case):
    net, family, predictor = case
    attributes = family.export_attributes(net)
    assert {'divisor', 'mean', 'num_things', 'num_stuff'} <= set(attributes)
    for value in attributes.values():
        assert isinstance(value, (bool, int, float, list))
    for name in attributes:
        with pytest.raises(AdaptisError, match=name):
            rest = {key: value for key, value in attributes.items() if key != name}
            import_object(family.exported_predictor)(None, rest, predictor.settings, TAXONOMY)


def test_a_missing_stage_is_named():
    family = find_family('mask_rcnn')
    net = get_model('mask_rcnn', **TINY, **TWO_STAGE)

    class Nothing:
        stages = {'another': Interface((), ())}
    predictor = import_object(family.exported_predictor)(Nothing(), family.export_attributes(net),
                                                         family.presets['toy'], TAXONOMY)
    with pytest.raises(AdaptisError, match='no stage "encoder"'):
        predictor.predict(picture((32, 32)))


def test_neither_mxnet_nor_anything_but_numpy_and_opencv_is_loaded():
    code = ('import sys\n'
            'for name in ("mxnet", "gluoncv", "scipy", "yaml", "PIL", "pycocotools", "onnx"):\n'
            '    sys.modules[name] = None\n'
            'import panoptic_baselines.exported, panoptic_baselines.families')
    subprocess.run([sys.executable, '-c', code], check=True)
