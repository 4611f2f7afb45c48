from __future__ import annotations

import numpy as np
import pytest

from adaptis.inference import upsample as module
from adaptis.inference.upsample import upsample
from adaptis.runtime import mx


@pytest.mark.parametrize('shape, size', [
    ((3, 25, 33), (100, 131)), ((1, 64, 96), (255, 384)), ((2, 7, 5), (1, 9)), ((1, 1, 6), (4, 6)),
    ((1, 20, 20), (11, 13))])
@pytest.mark.parametrize('sparse', [True, False])
def test_equals_the_operator_bit_for_bit(shape, size, sparse, monkeypatch):
    if not sparse:   # as where SciPy is not installed
        monkeypatch.setattr(module, '_sparse', lambda: None)
    maps = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    expected = mx.nd.contrib.BilinearResize2D(mx.nd.array(maps[None]), height=size[0],
                                              width=size[1]).asnumpy()[0]
    larger = upsample(maps, size)
    assert larger.dtype == np.float32
    np.testing.assert_array_equal(larger, expected)
    np.testing.assert_array_equal(upsample(maps[0], size), expected[0])


def test_corners_stay_corners():
    larger = upsample(np.array([[1, 2], [3, 5]], np.float32), (3, 5))
    assert larger[::2, ::4].tolist() == [[1, 2], [3, 5]] and larger[1, 2] == 2.75


def test_maps_of_the_right_size_are_passed_on():
    maps = np.zeros((2, 4, 4), np.float32)
    assert upsample(maps, (4, 4)) is maps
