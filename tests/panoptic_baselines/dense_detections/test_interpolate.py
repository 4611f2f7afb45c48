"""Resizing inside of graphs."""
from __future__ import annotations

import numpy as np
import pytest

from adaptis.runtime import mx
from panoptic_baselines.dense_detections.interpolate import PyramidConv, resize_like

nd = mx.nd


class Resize(mx.gluon.HybridBlock):
    def hybrid_forward(self, F, maps, like):
        return resize_like(F, maps, like)


@pytest.fixture(scope='module', params=[False, True], ids=['imperative', 'hybridized'])
def resize(request):
    block = Resize()
    block.hybridize(request.param)   # once for all sizes
    return block


def usual(maps, like):
    """MXNet's own operator."""
    return nd.contrib.BilinearResize2D(maps, like, mode='like', align_corners=False)


def test_official_resizing(resize, parity_root):
    d = np.load(parity_root / 'realtime' / 'ops' / 'interpolate.npz')
    pairs = [(d[f'bil_in_{i}'], d[f'bil_out_{i}']) for i in range(5)]
    for maps, expected in [*pairs, (d['x8_in'], d['x8_out'])]:
        found = resize(nd.array(maps[None]), nd.zeros((1, 1, *expected.shape[1:])))
        np.testing.assert_allclose(found.asnumpy()[0], expected, atol=2e-6)


@pytest.mark.parametrize('size, target', [((3, 5), (13, 9)), ((7, 4), (7, 4)), ((9, 8), (2, 3))])
def test_resizing_and_its_gradient_are_the_usual_ones(resize, size, target):
    maps, like = nd.random.normal(shape=(2, 3, *size)), nd.random.normal(shape=(2, 1, *target))
    weights = nd.random.normal(shape=(2, 3, *target))
    found, gradients = [], []
    for how in (resize, usual):
        maps.attach_grad()
        with mx.autograd.record():
            resized = how(maps, like)
            (resized * weights).sum().backward()
        found.append(resized.asnumpy())
        gradients.append(maps.grad.asnumpy())
    np.testing.assert_allclose(found[0], found[1], atol=2e-6)
    np.testing.assert_allclose(gradients[0], gradients[1], atol=2e-5)


def test_a_batch_takes_the_size_of_one(resize):
    found = resize(nd.random.normal(shape=(3, 2, 4, 4)), nd.zeros((1, 7, 6, 5)))
    assert found.shape == (3, 2, 6, 5)


@pytest.mark.parametrize('hybridize', [False, True])
def test_joint_convolution_is_that_of_the_concatenated_levels(hybridize):
    conv = PyramidConv(6, 8, 3)
    conv.initialize(mx.init.Normal(0.1))
    conv.bias.set_data(nd.arange(6))
    conv.hybridize(hybridize)
    for top, left in ((6, 7), (5, 1)):
        levels = [nd.random.normal(shape=(2, 8, -(-top >> i) or 1, -(-left >> i) or 1))
                  for i in range(3)]
        like = nd.zeros((1, 1, 2 * top, 2 * left))
        weight = conv.weight.data().copy()
        weight.attach_grad()
        with mx.autograd.record():
            joint = nd.concat(*(usual(x, nd.zeros((2, 1, 2 * top, 2 * left))) for x in levels),
                              dim=1)
            expected = nd.Convolution(joint, weight, conv.bias.data(), kernel=(3, 3), pad=(1, 1),
                                      num_filter=6)
            (expected ** 2).sum().backward()
        with mx.autograd.record():
            found = conv(like, *levels)
            (found ** 2).sum().backward()
        np.testing.assert_allclose(found.asnumpy(), expected.asnumpy(), atol=1e-5)
        np.testing.assert_allclose(conv.weight.grad().asnumpy(), weight.grad.asnumpy(),
                                   rtol=1e-4, atol=1e-2)
