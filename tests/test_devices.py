"""Tests on another device fail if arrays are on several devices."""
from __future__ import annotations

import pytest

from adaptis.runtime import mx
from tests.devices import ctx_option, on_device

pytestmark = pytest.mark.device('cpu:1')


def test_a_marked_module_runs_on_its_device(request):
    if request.config.getoption('--device'):
        pytest.skip('all modules run on another device')
    assert mx.nd.ones(1).context == mx.current_context() == mx.cpu(1)
    assert ctx_option() == ['--ctx', 'cpu:1']


def test_arrays_of_several_devices_are_refused():
    with on_device('cpu:2'):
        near, far = mx.nd.ones(1), mx.nd.ones(1, ctx=mx.cpu(3))
        with pytest.raises(mx.MXNetError, match=r"on \['cpu\(2\)', 'cpu\(3\)'\]"):
            _ = near + far
        assert (near + far.as_in_context(mx.cpu(2))).asscalar() == 2
