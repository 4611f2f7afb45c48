"""The bidirectional pyramid: its plan, its sizes, and that it learns."""
from __future__ import annotations

import numpy as np
import pytest

from adaptis.runtime import mx
from panoptic_baselines.layers.bifpn import BiFPN, plan


def test_plan_of_five_levels_is_the_official_one():
    assert [name for name, _, _ in plan(5)] == [
        'f3_3_4', 'f2_2_5', 'f1_1_6', 'f0_0_7', 'f1_1_7_8', 'f2_2_6_9', 'f3_3_5_10', 'f4_4_11']


def test_plans_of_other_numbers_of_levels():
    assert [name for name, _, _ in plan(3)] == ['f1_1_2', 'f0_0_3', 'f1_1_3_4', 'f2_2_5']
    assert plan(2) == [('f0_0_1', 0, [0, 1]), ('f1_1_2', 1, [1, 2])]


@pytest.mark.parametrize('top_levels, sizes', [(2, [(4, 6), (2, 3), (1, 2)]), (0, [(4, 6)])])
def test_sizes_gradients_and_graphs(top_levels, sizes):
    mx.random.seed(0)
    net = BiFPN(8, [6, 8, 12], repeats=2, top_levels=top_levels)
    net.initialize(mx.init.Normal(0.3))
    assert 'repeat0.lateral1.weight' not in net._collect_params_with_prefix()   # has 8 already
    features = [mx.nd.random.normal(shape=(2, c, 16 >> i, 24 >> i))
                for i, c in enumerate((6, 8, 12))]
    expected = [x.asnumpy() for x in net(*features)]
    assert [x.shape for x in expected] == [(2, 8, *size) for size in [(16, 24), (8, 12), *sizes]]
    net.hybridize()
    for ours, theirs in zip(net(*features), expected):
        np.testing.assert_allclose(ours.asnumpy(), theirs, atol=1e-5)
    with mx.autograd.record():
        outputs = net(*(mx.nd.slice_axis(x, axis=3, begin=0, end=12 >> i)
                        for i, x in enumerate(features)))
        sum((x ** 2 * mx.nd.random.normal(shape=x.shape)).sum() for x in outputs).backward()
    assert outputs[0].shape == (2, 8, 16, 12)
    for name, parameter in net._collect_params_with_prefix().items():
        if parameter.grad_req != 'null':   # norms take away what a bias adds
            assert name.endswith('.bias') or np.abs(parameter.grad().asnumpy()).max() > 0, name


def test_a_node_is_a_mean_by_the_positive_weights():
    net = BiFPN(1, [1, 1], repeats=1, top_levels=0)
    net.initialize(mx.init.Zero())
    coarse, fine = mx.nd.ones((1, 1, 1, 1)) * 3, mx.nd.ones((1, 1, 2, 2))
    for node, weights in ((net.repeat0.f0_0_1, (1, 3)), (net.repeat0.f1_1_2, (2, -1))):
        node.weights.set_data(mx.nd.array(weights))
        kernel = np.zeros((1, 1, 3, 3), np.float32)
        kernel[0, 0, 1, 1] = 1
        node.output.weight.set_data(mx.nd.array(kernel))
    below, above = (x.asnumpy() for x in net(fine, coarse))

    def swish(x):
        return x / (1 + np.exp(-x)) / np.sqrt(1 + 1e-5)   # and a norm of mean 0, variance 1
    np.testing.assert_allclose(below, swish(np.full((1, 1, 2, 2), (1 + 9) / (4 + 1e-4))), rtol=1e-5)
    np.testing.assert_allclose(above, swish(np.full((1, 1, 1, 1), 6 / (2 + 1e-4))), rtol=1e-5)
