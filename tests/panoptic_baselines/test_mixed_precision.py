"""Training in mixed precision: every system, with and without cached graphs, on the CPU."""
from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from adaptis.deploy.stages import trace_symbol
from adaptis.engine import precision
from adaptis.engine.half_operators import (
    HALF,
    cast_array,
    mixed_graph,
    operator_types,
    wrap_operator,
)
from adaptis.engine.steps import train_step
from adaptis.errors import AdaptisError
from adaptis.model import get_model as get_adaptis
from adaptis.model import load_model
from adaptis.registry import find_family
from adaptis.runtime import mx
from adaptis.system import AdaptISSystem
from panoptic_baselines.zoo import get_model
from tests.panoptic_baselines.networks import NETWORKS, TINY
from tests.panoptic_baselines.training import TAXONOMY, host_batch, scene

SIZES = {'num_things': 2, 'num_stuff': 2}


@pytest.fixture
def amp(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Mixed precision of a CPU, only for this test."""
    if mx.current_context().device_type != 'cpu':
        pytest.skip('these are the types of a CPU')
    for owner, name in ((mx.nd, 'CachedOp'), (precision._Now, 'enabled')):
        monkeypatch.setattr(owner, name, getattr(owner, name))
    monkeypatch.setattr(precision, '_operators', [])
    try:
        assert precision.enable_mixed_precision([mx.current_context()]) == 'bfloat16'
    except AdaptisError as error:
        pytest.skip(str(error))
    yield


def make_system(case: str, hybridize: bool) -> Any:
    mx.random.seed(0)
    if case == 'adaptis':
        return AdaptISSystem(load_model('toy_v1'), hybridize=hybridize)
    name, options, _ = NETWORKS[case]
    net, family = get_model(name, **{**TINY, **SIZES, **options}), find_family(name)
    net.initialize(mx.init.Xavier())
    return family.make_system(net, TAXONOMY, 'joint', hybridize=hybridize)


def make_batch(case: str, system: Any) -> dict[str, np.ndarray]:
    if case != 'adaptis':
        return host_batch(system, scene(), scene(objects=((4, 4, 30, 50, 2),)))
    sample = scene()
    masks = np.stack([sample.instances == k for k in (5, 10)])[:, None].astype(np.float32)
    return {'image': sample.image.transpose(2, 0, 1)[None].astype(np.float32),
            'points': np.array([[[20, 20], [40, 50]]], np.float32), 'instances': masks,
            'semantic': (sample.semantic > 1)[None].astype(np.float32)}


def step(case: str, hybridize: bool, amp: bool, scale: float = 2.0 ** 16
         ) -> tuple[dict, np.ndarray]:
    """Losses and the gradient of a step; the scale of the loss is taken out again."""
    system = make_system(case, hybridize)
    batch = make_batch(case, system)
    trainer = mx.gluon.Trainer(system.parameters(), 'sgd', {'learning_rate': 0.0})
    if amp:
        precision.attach_loss_scaler(trainer, {'scale': scale, 'next': scale})
    np.random.seed(0)
    losses = train_step(system, trainer, batch, [mx.current_context()])
    gradients = np.concatenate([p.grad().asnumpy().ravel() / (scale if amp else 1)
                                for p in system.parameters().values() if p.grad_req != 'null'])
    return losses, gradients


def assert_near(found: tuple[dict, np.ndarray], expected: tuple[dict, np.ndarray],
                loss: float, angle: float) -> None:
    """Losses differ by ``loss`` of their size, or 0.03; gradients point in nearly one direction.

    Rounding to bfloat16 changes a number by up to 2 ** -9 of its size, and the errors of some 40
    roundings on the way through a network add up like a random walk: 40 ** 0.5 * 2 ** -9 = 0.012.
    Where a step chooses (which proposals to learn from), a near tie can fall the other way; that
    changes a loss of few boxes by more, hence the 0.03.
    """
    for name, value in expected[0].items():
        assert found[0][name] == pytest.approx(value, rel=loss, abs=0.03), name
    lengths = [np.linalg.norm(gradient) for gradient in (found[1], expected[1])]
    assert np.isfinite(found[1]).all()
    assert found[1] @ expected[1] > angle * lengths[0] * lengths[1]
    assert lengths[0] == pytest.approx(lengths[1], rel=0.2)


SYSTEMS = pytest.mark.parametrize('case', ['adaptis', *(
    pytest.param(case, marks=pytest.mark.slow)
    for case in ('panoptic_fpn', 'condinst', 'dense', 'unified'))])


@SYSTEMS
def test_a_step_is_near_float32_hybridized_or_not(case: str, amp: None,
                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    graphs: list[Any] = []

    def record(symbol: Any, half: str) -> Any:
        graphs.append(symbol)
        return mixed_graph(symbol, half)
    monkeypatch.setattr(precision, 'mixed_graph', record)
    half, graph_half = step(case, False, True), step(case, True, True)
    monkeypatch.setattr(precision._Now, 'enabled', None)
    monkeypatch.setattr(precision, '_operators', [])
    expected = step(case, False, False)
    assert any(half[0][name] != value for name, value in expected[0].items())
    assert_near(half, expected, 0.03, 0.98)
    assert_near(graph_half, half, 0.005, 0.995)
    for graph in graphs:
        check_types_on_a_gpu(graph)


@SYSTEMS
def test_a_step_with_the_types_of_a_gpu(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Imperative, in float16: only the products of a convolution are added up in another way."""
    expected = step(case, False, False)
    monkeypatch.setattr(precision, '_operators', [
        (module, name, plain, wrap_operator(in_float32(plain) if name in HALF['float16'] else plain,
                                            precision._PREFIXES.get(module, '') + name, 'float16'))
        for module in precision._MODULES
        for name, plain in precision._generated_operators(module)])
    found = step(case, False, True, scale=64.0)   # training finds it by halving
    assert any(found[0][name] != value for name, value in expected[0].items())
    assert_near(found, expected, 0.01, 0.99)


def in_float32(operator: Any) -> Any:
    """A convolution of halves for the CPU, where MXNet has none: as tensor cores do it."""
    def convolve(*arrays: Any, **options: Any) -> Any:
        arrays = [cast_array(array, 'float32') for array in arrays]
        return cast_array(operator(*arrays, **options), 'float16')
    return convolve


@pytest.mark.slow
@pytest.mark.parametrize('case', [*NETWORKS, 'deformable', 'adaptis_deeplab'])
def test_every_graph_takes_the_types_of_a_gpu(case: str) -> None:
    if case == 'adaptis_deeplab':
        name, net = case, get_adaptis(case, backbone='resnet50', num_classes=19, num_stuff=11)
    else:
        name, options, _ = NETWORKS['unified' if case == 'deformable' else case]
        more = {'deformable': True} if case == 'deformable' else {}
        net = get_model(name, **{**TINY, **options, **more})
    net.initialize()
    for stage in find_family(name).export_stages(net):
        check_types_on_a_gpu(trace_symbol(stage))


SUMS = {'sum', 'mean', 'dot', 'batch_dot', '_np_cumsum', 'softmax', 'log_softmax', 'norm',
        '_contrib_SyncBatchNorm', 'GroupNorm', 'LayerNorm', 'InstanceNorm', 'L2Normalization',
        'sigmoid', 'exp', 'log', '_contrib_arange_like', '_contrib_ROIAlign'}


def check_types_on_a_gpu(graph: Any) -> None:
    """With the lists for GPUs, every operator accepts its types and no sum is over halves."""
    mixed = mixed_graph(graph, 'float16')
    assert mixed.list_inputs() == graph.list_inputs()
    float32 = dict.fromkeys(mixed.list_arguments(), 'float32')
    assert np.float16 not in mixed.infer_type(**float32)[1]
    internals = mixed.get_internals()
    described = json.loads(internals.tojson(remove_amp_cast=False))
    types = dict(zip(((n, output) for n, output, *_ in described['heads']),
                     internals.infer_type(**float32)[1]))
    for node in described['nodes']:
        inputs = [types[number, output] for number, output, *_ in node['inputs']]
        if node['op'] in SUMS:
            assert np.float16 not in inputs, node['name']
        if node['op'] in HALF['float16']:
            assert set(inputs) == {np.float16}, node['name']
        if node['op'] == 'BatchNorm':
            assert set(inputs[1:]) == {np.float32}, node['name']


@pytest.mark.parametrize('half, stride, computes_half', [
    ('bfloat16', (2, 2), False), ('bfloat16', '(1, 2)', False), ('bfloat16', '(1, 1)', True),
    ('bfloat16', None, True), ('float16', (2, 2), True)])
def test_a_convolution_with_a_stride_is_in_float32_on_a_cpu(half: str, stride: Any,
                                                            computes_half: bool) -> None:
    """oneDNN may leave the gradient of its weight unset, on maps that are one pixel wide."""
    types = operator_types('Convolution', {'stride': stride, 'kernel': (3, 3)}, [True, False], half)
    assert types == ([computes_half] * 2, computes_half)


def test_sums_of_batch_norm_are_in_float32() -> None:
    """Its maps may be float16: a sum of 160,000 values of 2 would not fit one."""
    x = mx.nd.ones((1, 1, 400, 400), dtype='float16') * 2
    x[0, 0, ::2] += 0.5
    with mx.autograd.record():
        y = mx.nd.BatchNorm(x, mx.nd.ones(1), mx.nd.zeros(1), mx.nd.zeros(1), mx.nd.ones(1),
                            fix_gamma=False)
    np.testing.assert_allclose(np.unique(y.asnumpy()), [-1, 1], atol=0.01)


def test_a_network_computes_in_float32_outside_a_step(amp: None) -> None:
    """Also hybridized, with a graph that was cached inside one, or before."""
    for first in (True, False):
        net = mx.gluon.nn.HybridSequential()
        net.add(mx.gluon.nn.Conv2D(4, 3, in_channels=2), mx.gluon.nn.BatchNorm(in_channels=4))
        net.initialize(mx.init.Normal(1))
        x = mx.nd.random.normal(shape=(1, 2, 8, 8))
        expected = net(x).asnumpy()
        net.hybridize()
        found = {}
        for half in (first, not first):
            with precision.half_precision() if half else contextlib.nullcontext():
                found[half] = net(x).asnumpy()
        np.testing.assert_allclose(found[False], expected, rtol=1e-5, atol=1e-6)
        assert 1e-4 < np.abs(found[True] - expected).max() < 0.1
