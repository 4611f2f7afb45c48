from __future__ import annotations

import numpy as np
import pytest

from adaptis.runtime import mx
from panoptic_baselines.layers.semantic import Upsample
from panoptic_baselines.layers.upsample import upsampled_labels, upsampled_logits
from tests.golden.reading import Arrays, stored


@pytest.mark.parametrize('size', [(29, 42), (47, 61), (15, 23)])
def test_logits_reach_the_output_size_as_official(kit, size):
    d = Arrays.load(kit / 'ops' / 'layers.npz')
    image_size = tuple(d['image_hw'])
    found = upsampled_logits(d['logits'][0], 4, image_size, size)
    np.testing.assert_allclose(*stored(found, d[f'out_{size[0]}x{size[1]}']), atol=5e-5)
    labels = upsampled_labels(d['logits'][0], 4, image_size, size)
    np.testing.assert_array_equal(labels, found.argmax(axis=0))


@pytest.mark.parametrize('repeats', [1, 7])
@pytest.mark.parametrize('scale', [2, 4])
def test_layers_upsample_as_official(kit, scale, repeats):
    d = Arrays.load(kit / 'ops' / 'layers.npz')
    x = mx.nd.tile(mx.nd.array(d['logits']), (1, repeats, 1, 1))
    for channels in (None, 5 * repeats):
        found = Upsample(scale, channels)(x).asnumpy()
        expected = np.tile(d[f'up{scale}'], (1, repeats, 1, 1))
        np.testing.assert_allclose(*stored(found, expected), atol=5e-5)


@pytest.mark.parametrize('scale', [2, 4])
def test_both_ways_to_upsample_have_one_gradient(scale):
    rng, results = np.random.default_rng(0), []
    value, weight = rng.normal(size=(2, 32, 3, 1)), rng.normal(size=(2, 32, 3 * scale, scale))
    for channels in (None, 32):
        layer, x = Upsample(scale, channels), mx.nd.array(value)
        layer.hybridize()
        x.attach_grad()
        with mx.autograd.record():
            loss = (layer(x) * mx.nd.array(weight)).sum()
        loss.backward()
        results.append(x.grad.asnumpy())
    np.testing.assert_allclose(*results, atol=1e-5)


def test_the_first_of_equal_classes_wins():
    logits = np.zeros((3, 2, 2), np.float32)
    logits[1:, 0] = 1
    labels = upsampled_labels(logits, 2, (4, 4), (4, 4))
    assert labels.dtype == np.int32
    np.testing.assert_array_equal(labels, [[1] * 4] * 3 + [[0] * 4])


def test_one_pixel_and_many_strips():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(4, 8, 8)).astype(np.float32)
    assert upsampled_labels(logits, 4, (1, 1), (1, 1))[0, 0] == logits[:, 0, 0].argmax()
    large = upsampled_logits(logits, 4, (32, 32), (700, 300))   # more than fits into one strip
    assert large.shape == (4, 700, 300)
    np.testing.assert_allclose(large[:, 350, 150], large[:, 349:352, 149:152].mean(axis=(1, 2)),
                               atol=0.05)
