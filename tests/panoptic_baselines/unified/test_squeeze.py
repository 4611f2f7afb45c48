from __future__ import annotations

import numpy as np
import pytest

from adaptis.errors import AdaptisError
from adaptis.runtime import mx
from panoptic_baselines.unified.squeeze import SqueezeExcitation


@pytest.mark.parametrize('dtype, tolerance', [('float64', 1e-10), ('float32', 1e-5)])
def test_golden_values(unified_kit, dtype, tolerance):
    golden = np.load(unified_kit / 'squeeze_excitation.npz')
    layer = SqueezeExcitation(16, reduction=4)
    layer.initialize()
    layer.cast(dtype)
    for i, dense in enumerate((layer.fc1, layer.fc2), start=1):
        dense.weight.set_data(mx.nd.array(golden[f'w{i}'], dtype=dtype))
        dense.bias.set_data(mx.nd.array(golden[f'b{i}'], dtype=dtype))
    x = mx.nd.array(np.stack([golden['x'], 2 * golden['x'][..., ::-1]]), dtype=dtype)
    np.testing.assert_allclose(layer.gate(mx.nd, x)[0].asnumpy(), golden['gate'], rtol=tolerance)
    imperative = layer(x).asnumpy()
    np.testing.assert_allclose(imperative[0], golden['y'], rtol=tolerance, atol=tolerance / 10)
    layer.hybridize()
    np.testing.assert_allclose(layer(x).asnumpy(), imperative, rtol=tolerance)


def test_too_few_channels():
    assert SqueezeExcitation(16).fc1.weight.shape == (1, 16)
    with pytest.raises(AdaptisError, match='reduction is 16 but must be from 1 to the 8 channels'):
        SqueezeExcitation(8)
