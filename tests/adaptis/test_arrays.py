"""Arrays of any backend, and the sigmoid function without SciPy."""
from __future__ import annotations

import numpy as np
from scipy import special

from adaptis.arrays import as_numpy, expit, sigmoid
from adaptis.runtime import mx


def test_arrays_of_both_kinds():
    plain = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert as_numpy(plain) is plain
    found = as_numpy(mx.nd.array(plain))
    assert isinstance(found, np.ndarray)
    np.testing.assert_array_equal(found, plain)


def test_logistic_function_without_scipy():
    values = np.linspace(-700, 700, 100_001)
    np.testing.assert_array_equal(expit(values), special.expit(values))
    with np.errstate(over='raise'):
        np.testing.assert_allclose(sigmoid(values), special.expit(values), rtol=1e-14)
    single = sigmoid(values.astype(np.float32))
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, special.expit(values.astype(np.float32)), atol=1.3e-7)
    usual = np.random.default_rng(0).normal(0, 5, 100_000).astype(np.float32)
    assert (sigmoid(usual) != special.expit(usual)).mean() < 1e-3
    with np.errstate(all='raise', under='ignore'):
        ends = np.float32([-np.inf, -3e38, -100, 100, 3e38, np.inf])
        np.testing.assert_array_equal(sigmoid(ends), [0, 0, 0, 1, 1, 1])
    assert sigmoid(0.0) == 0.5
