from __future__ import annotations

import numpy as np
import pytest

from adaptis.runtime import mx
from panoptic_baselines.unified.decoder import Decoder


def pyramid(height, width, batch=1):
    return [mx.nd.random.normal(shape=(batch, 32, height >> i, width >> i)) for i in range(4)]


@pytest.mark.parametrize('deformable', [False, True])
def test_one_graph_for_every_size(deformable):
    head = Decoder(32, 5, 32, deformable)
    head.initialize(mx.init.Normal(0.1))
    images = [pyramid(8, 16), pyramid(16, 8, batch=2)]
    expected = [head(*levels).asnumpy() for levels in images]
    assert [y.shape for y in expected] == [(1, 5, 8, 16), (2, 5, 16, 8)]
    head.hybridize()
    for levels, values in zip(images, expected):
        np.testing.assert_allclose(head(*levels).asnumpy(), values, atol=1e-4)


def test_deformable_convolutions_start_as_usual_ones():
    mx.random.seed(0)
    usual, ours = (Decoder(32, 5, 32, deformable) for deformable in (False, True))
    for head in (usual, ours):
        head.initialize(mx.init.Normal(0.1))
    parameters = ours._collect_params_with_prefix()
    for name, p in usual._collect_params_with_prefix().items():
        parameters.pop(name).set_data(p.data())
    assert {name.rsplit('.', 1)[0] for name in parameters} == {'conv1.offset', 'conv2.offset'}
    levels = pyramid(8, 16)
    np.testing.assert_allclose(ours(*levels).asnumpy(), usual(*levels).asnumpy(), atol=1e-4)
    with mx.autograd.record():
        loss = (ours(*levels) ** 2).sum()
    loss.backward()
    assert all(np.abs(p.grad().asnumpy()).max() > 0 for p in parameters.values())


def test_levels_share_their_convolutions_and_meet_at_the_finest():
    head = Decoder(32, 5, 32, deformable=False)
    assert set(head._collect_params_with_prefix()) == {
        *(f'conv{i}.{name}' for i in (1, 2) for name in ('weight', 'norm.gamma', 'norm.beta')),
        'predictor.weight', 'predictor.bias'}
    assert head.predictor.weight.shape == (5, 128, 1, 1)
    head.initialize(mx.init.Normal(0.1))
    weight = head.predictor.weight
    weight.set_data(weight.data() * mx.nd.array([0] * 96 + [1] * 32).reshape((1, -1, 1, 1)))
    levels = pyramid(16, 16)
    coarse = head(*levels).asnumpy()
    own = head.predictor(mx.nd.concat(*[head.conv2(head.conv1(levels[3]))] * 4, dim=1)).asnumpy()
    # Half a cell at the borders repeats them; between centres it is linear.
    np.testing.assert_allclose(coarse[..., :4, :4], np.broadcast_to(own[..., :1, :1], (1, 5, 4, 4)),
                               atol=1e-4)
    np.testing.assert_allclose(coarse[..., 0, 4], own[..., 0, 0] * 15 / 16 + own[..., 0, 1] / 16,
                               atol=1e-4)
