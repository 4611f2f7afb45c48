"""Error messages of MXNet's C++ code and of CUDA's libraries."""
from __future__ import annotations

import pytest

from adaptis.commands import doctor as command
from adaptis.device_errors import explain_device_error
from adaptis.errors import AdaptisError
from adaptis.runtime import mx


class MXNetError(RuntimeError):
    """Stands for MXNet's own."""


def raised(message: str) -> MXNetError:
    return MXNetError('Traceback (most recent call last):\n'
                      '  File "../src/storage/./pooled_storage_manager.h", line 187\n'
                      f'MXNetError: {message}')


def cuda(text: str) -> str:
    return ('Check failed: e == cudaSuccess || e == cudaErrorCudartUnloading: '
            f'CUDA: {text}')


@pytest.mark.parametrize('message, sentence', [
    ('cudaMalloc retry failed: out of memory', 'Not enough memory on the GPU'),
    (cuda('out of memory'), 'micro_batch'),
    ('Check failed: e == CUDNN_STATUS_SUCCESS (2 vs. 0) : cuDNN: CUDNN_STATUS_ALLOC_FAILED',
     'Not enough memory on the GPU'),
    ('Failed to find any forward convolution algorithm.  with workspace size of 1073741824 bytes,'
     ' please consider reducing batch/model size or increasing the workspace size', '--tile'),
    ('Failed to allocate CPU Memory', 'Not enough memory: use smaller'),
    (cuda('CUDA driver version is insufficient for CUDA runtime version'), 'driver 450.80'),
    ('Please install cuda driver for GPU use.  No cuda driver detected.', '--ctx cpu'),
    ('Check failed: result == CUDA_SUCCESS (222 vs. 0) : CUDA Driver: CUDA_ERROR_UNSUPPORTED_PTX'
     '_VERSION the provided PTX was compiled with an unsupported toolchain.',
     'unset MXNET_USE_FUSION, or install driver 520.61'),
    ('Check failed: compileResult == NVRTC_SUCCESS (6 vs. 0) : NVRTC Compilation failed. Please set'
     ' environment variable MXNET_USE_FUSION to 0.', 'unset MXNET_USE_FUSION'),
    ('Check failed: err == cudaSuccess (209 vs. 0) : Name: mxnet_generic_kernel ErrStr:no kernel '
     'image is available for execution on the device', 'ONNX Runtime'),
    ('Check failed: e == CUBLAS_STATUS_SUCCESS (8 vs. 0) : cuBLAS: CUBLAS_STATUS_ARCH_MISMATCH',
     'does not support this GPU'),
    ('GPU context requested, but no GPUs found.', 'This GPU does not exist'),
    (cuda('invalid device ordinal'), 'CUDA_VISIBLE_DEVICES'),
    ('Invalid GPU Id 3, Valid device id should be less than device_count: 1', 'GPU does not exist'),
    (cuda('all CUDA-capable devices are busy or unavailable'), 'failed (all CUDA-capable devices'),
    ('Check failed: e == CUDNN_STATUS_SUCCESS (1 vs. 0) : cuDNN: CUDNN_STATUS_NOT_INITIALIZED',
     'failed (CUDNN_STATUS_NOT_INITIALIZED)'),
    (cuda('unknown error'), 'failed (unknown error): check `adaptis doctor`'),
])
def test_what_a_user_can_mend_is_a_sentence(message, sentence):
    told = explain_device_error(raised(message))
    assert sentence in told
    assert told[0].isupper() and told.endswith('.') and '\n' not in told and '  ' not in told


@pytest.mark.parametrize('error', [
    raised(cuda('an illegal memory access was encountered')),
    raised('Check failed: from.Size() == to.Size() (80 vs. 108) :'),
    raised('Check failed: axis < ndim: axis 2 exceeds the input dimension of 2'),
    raised('Error in operator conv0: unknown error in shape inference'),
    RuntimeError('cudaMalloc retry failed: out of memory'), ValueError('no GPUs found')])
def test_what_a_user_cannot_mend_is_not_explained(error):
    assert explain_device_error(error) is None


def test_the_trial_of_doctor_explains_them(monkeypatch):
    def fail(*_shapes, **_options):
        raise mx.MXNetError(str(raised(cuda('invalid device ordinal'))))

    monkeypatch.setattr(mx.nd, 'dot', fail)
    with pytest.raises(AdaptisError, match='This GPU does not exist'):
        command._compute()
