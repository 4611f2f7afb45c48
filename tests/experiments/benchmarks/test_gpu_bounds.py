"""Bounds on GPUs: what is counted, and that the page shows it."""
from __future__ import annotations

from pathlib import Path

import pytest

from adaptis.model.graph import multiply_adds, trace
from adaptis.runtime import gluoncv, mx
from experiments.benchmarks import gpu_bounds
from experiments.benchmarks.__main__ import main
from experiments.benchmarks.roofline import DEVICES, Cost, Device, graph_costs, total

ROOT = Path(__file__).resolve().parents[3]
nn = mx.gluon.nn


@pytest.fixture
def block():
    """A convolution, batch norm, ReLU, and a dense layer."""
    net = nn.HybridSequential(prefix='')
    with net.name_scope():
        net.add(nn.Conv2D(8, 3, padding=1, in_channels=4, prefix='conv_'),
                nn.BatchNorm(in_channels=8, prefix='norm_'), nn.Activation('relu'),
                nn.Dense(5, in_units=8 * 6 * 10, prefix='dense_'))
    return net


def test_a_layer_by_hand(block):
    labels = {name: name.split('_')[0] for name in block.collect_params()}
    costs = graph_costs(trace(block, (2, 4, 6, 10)), labels, 'other')
    inputs, maps, weights = 2 * 4 * 60, 2 * 8 * 60, 8 * 4 * 9 + 8
    assert costs['conv'] == Cost(2 * 60 * 8 * 4 * 9, weights, inputs + weights + maps,
                                 inputs + weights + maps)
    # Batch norm has 4 numbers a channel; the ReLU behind it belongs to the same part.
    assert costs['norm'] == Cost(0, 32, 0, 2 * maps + 32 + 2 * maps)
    dense = 5 * 480 + 5
    assert costs['dense'] == Cost(2 * 5 * 480, dense, maps + dense + 10, maps + dense + 10)
    assert total(costs.values()).multiply_adds == multiply_adds(trace(block, (2, 4, 6, 10)))


def test_weights_of_a_head_that_looks_twice(block):
    class Twice(mx.gluon.HybridBlock):
        def __init__(self):
            super().__init__()
            self.conv = block[0]

        def hybrid_forward(self, F, x):
            return self.conv(x), self.conv(x)

    labels = dict.fromkeys(block[0].collect_params(), 'head')
    cost = graph_costs(trace(Twice(), (1, 4, 6, 10)), labels, 'other')['head']
    assert cost.weights == 8 * 4 * 9 + 8 and cost.multiply_adds == 2 * 60 * 8 * 4 * 9
    assert cost.least == 2 * (4 * 60 + cost.weights + 8 * 60)


def test_resnet_50_at_224():
    """The count that its authors and torchvision give: 4.1 G, of 25.6 M weights."""
    net = gluoncv.model_zoo.get_model('resnet50_v1b')
    labels = dict.fromkeys(net.collect_params(), 'all')
    cost = graph_costs(trace(net, (1, 3, 224, 224)), labels, 'other')['all']
    assert cost.multiply_adds == 4_089_184_256
    assert cost.weights == 25_557_032 + 2 * 26_560   # and running statistics


def test_the_longer_of_both_bounds():
    device = Device('slow', {'float32': 1.0, 'amp': 4.0}, 100.0, 'here')
    cost = Cost(multiply_adds=10 ** 12, weights=1, least=10 ** 11, moved=5 * 10 ** 11)
    assert cost.bound(device, 'float32') == 4.0       # 2 s for operations, 4 s for 400 GB
    assert cost.bound(device, 'amp') == 2.0           # 0.5 s, and half the bytes
    assert cost.bound(device, 'float32', fused=False) == pytest.approx(20.0)
    assert Cost(10 ** 12, 1, 1, 1).bound(device, 'amp') == 0.5
    assert cost.intensity('float32') == 5.0 and cost.intensity('amp') == 10.0


def test_tf32_only_where_it_is_faster():
    assert [gpu_bounds.kinds(device) for device in DEVICES] == [
        ['float32', 'amp'], ['float32', 'TF32', 'amp']]


def test_the_page_shows_what_is_counted():
    case = next(case for case in gpu_bounds.CASES if case.recipe.startswith('condinst'))
    costs = gpu_bounds.stage_costs(case)
    assert list(costs) == ['backbone', 'pyramid', 'mask branch', 'dense head', 'semantic head',
                           'mask head, 100 masks']
    # Four 3x3 convolutions of 256 channels in each of two towers, on five levels, and more.
    pixels = sum(-(-100 // 2 ** k) * -(-168 // 2 ** k) for k in range(5))
    assert costs['dense head'].multiply_adds > 8 * 9 * 256 ** 2 * pixels
    section = gpu_bounds.page({case.title: costs}, 'x').split(f'## {case.title}')[1]
    assert section.strip() in (ROOT / gpu_bounds.PAGE).read_text(encoding='utf-8')


def test_a_recipe_that_is_no_case(capsys):
    assert main(['gpu_bounds', '--only', 'cityscapes/r1']) == 1
    assert 'no case "cityscapes/r1"' in capsys.readouterr().err
