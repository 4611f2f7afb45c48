"""Explain device errors, such as lack of memory or an old driver, in one sentence.

MXNet reports them as ``MXNetError`` with messages from its C++ code and CUDA's libraries.  This
module imports only the standard library.
"""
from __future__ import annotations

import re
from typing import Optional

from adaptis.machine import FUSION, FUSION_RELEASE_NEEDED, RELEASE_NEEDED

_MEMORY = ('Not enough memory: use smaller images, crops or batches, or split the batches '
           '(micro_batch) or the images (--tile).')
_GPU_MEMORY = ('Not enough memory on the GPU: use smaller images, crops or batches, split the '
               'batches (micro_batch) or the images (--tile), or stop other programs on the GPU '
               '(nvidia-smi lists them).')
_OLD_DRIVER = (f'The NVIDIA driver is missing or too old for mxnet-cu112: install driver '
               f'{RELEASE_NEEDED} or newer, or use --ctx cpu.')
_FUSION = (f'MXNet cannot compile fused operators for this driver: unset {FUSION}, or install '
           f'driver {FUSION_RELEASE_NEEDED} or newer.')
_NO_CODE = ('The package mxnet-cu112 does not support this GPU, but only compute capabilities 5.0 '
            'to 8.9 (Maxwell to Ada): use --ctx cpu, another GPU, or ONNX Runtime (`adaptis '
            'export`, then --backend onnxruntime).')
_NO_GPU = ('This GPU does not exist: check `adaptis doctor` and the variable CUDA_VISIBLE_DEVICES, '
           'or use --ctx cpu.')

# A pattern in MXNet's message, CUDA's text or a library's status -> the sentence.
_CAUSES = (
    (r'driver version is insufficient|no cuda driver detected', _OLD_DRIVER),
    (r'unsupported toolchain|PTX JIT|NVRTC Compilation failed|nvrtc\w+\(.*failed with error',
     _FUSION),
    (r'no kernel image|kernel image is invalid|invalid device function|_ARCH_MISMATCH', _NO_CODE),
    (r'no CUDA-capable device|invalid device ordinal|no GPUs found|Valid device id should be',
     _NO_GPU),
    (r'out of memory|_STATUS_ALLOC_FAILED|consider reducing batch/model size|'
     r'get_temporary_buffer failed', _GPU_MEMORY),
    (r'failed to allocate|cannot allocate memory|bad_alloc', _MEMORY),
)
# The text after MXNet's names for CUDA's messages, and the statuses of CUDA's libraries.
_OF_CUDA = re.compile(r'(?:CUDA|CUDA Driver|ErrStr|cudaMalloc failed|cudaMalloc retry failed): ?'
                      r'([^\n]+)|\b((?:CUDNN|CUBLAS|CUSOLVER|CURAND)_STATUS_(?!SUCCESS)\w+)')
# Failures that no change of the program can fix.
_BROKEN = re.compile(r'busy or unavailable|initialization error|driver combination|forward compat|'
                     r'ECC error|unspecified launch failure|launch timed out|unknown error|'
                     r'shutting down|_NOT_INITIALIZED|_EXECUTION_FAILED|_INTERNAL_ERROR|'
                     r'_MAPPING_ERROR', re.IGNORECASE)


def explain_device_error(error: BaseException) -> Optional[str]:
    """Return a sentence with the cause and the remedy; None if it is not a device error.

    Errors that only bugs cause, such as an illegal memory access, are not explained, because their
    traceback says more.
    """
    if isinstance(error, MemoryError):
        return _MEMORY
    if type(error).__name__ != 'MXNetError':
        return None
    text = str(error)
    for pattern, sentence in _CAUSES:
        if re.search(pattern, text, re.IGNORECASE):
            return sentence
    found = _OF_CUDA.search(text)
    cause = (found.group(1) or found.group(2)).strip() if found else ''
    if not _BROKEN.search(cause):
        return None
    return (f'The GPU, its driver or a CUDA library failed ({cause}): check `adaptis doctor` and '
            'nvidia-smi, restart the machine, or use --ctx cpu.')
