"""The kernels that oneDNN's log names."""
from __future__ import annotations

import pytest

from adaptis.errors import AdaptisError
from experiments.benchmarks import kernels

LOG = """\
dnnl_verbose,info,oneDNN v2.4.4 (commit 5818c40f)
dnnl_verbose,info,cpu,isa:Intel AVX2
dnnl_verbose,exec,cpu,convolution,brgconv:avx512_core,forward_inference,src dst,,alg,mb1,50
@@ masks|ours
dnnl_verbose,exec,cpu,convolution,jit:avx2,forward_inference,src dst,,alg:direct,mb1_ic3,2.5
dnnl_verbose,exec,cpu,convolution,jit:avx2,forward_inference,src dst,,alg:direct,mb1_ic3,0.5
something else, entirely
dnnl_verbose,exec,cpu,reorder,jit:uni,undef,src dst,,,1x3,1
@@
dnnl_verbose,exec,cpu,sum,ref:any,undef,src dst,,,1x3,9
@@ masks|ONNX Runtime
@@
"""


def test_shares_of_the_marked_parts():
    facts, parts = kernels.read_log(LOG.splitlines())
    assert facts == {'oneDNN': 'v2.4.4', 'isa': 'Intel AVX2'}
    ours = parts['masks', 'ours']
    assert ours['seconds'] == pytest.approx(4e-3)
    assert ours['kernels'] == {'convolution jit:avx2': {'share': 0.75, 'calls': 2},
                               'reorder jit:uni': {'share': 0.25, 'calls': 1}}
    assert list(parts) == [('masks', 'ours'), ('masks', 'ONNX Runtime')]
    assert kernels.describe(ours) == 'convolution jit:avx2 75%; reorder jit:uni 25%'
    assert kernels.describe(ours, 1) == 'convolution jit:avx2 75%; others 25%'
    assert kernels.describe(parts['masks', 'ONNX Runtime']) == 'none of oneDNN'


def test_a_process_that_fails_is_a_sentence(monkeypatch):
    monkeypatch.setattr(kernels, '_CHILD', 'raise ValueError("out of order")')
    with pytest.raises(AdaptisError, match=r'cannot be looked up \(ValueError: out of order\)'):
        kernels.look(['masks'], quick=True)


@pytest.mark.slow
def test_onednn_logs_a_comparison():
    facts, parts = kernels.look(['AdaptIS, panoptic'], quick=True)
    assert facts['isa'] and parts['AdaptIS, panoptic', 'ours']['seconds'] > 0
    assert any(name.startswith('convolution ')
               for name in parts['AdaptIS, panoptic', 'ours']['kernels'])
