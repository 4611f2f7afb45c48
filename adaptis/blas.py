"""Let OpenBLAS use the processor's vector instructions, even on processors newer than OpenBLAS.

NumPy, SciPy and MXNet each include an OpenBLAS, which recognises processors by their model number.
An unknown processor gets kernels from 2004: with MXNet 1.9.1 and NumPy 1.26 on an Emerald Rapids,
matrix products take two to four times as long.

This module imports nothing that loads OpenBLAS, because each copy chooses its kernels when it is
loaded.
"""
from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Optional

CORE_TYPE = 'OPENBLAS_CORETYPE'

_AVX512 = {'avx512f', 'avx512bw', 'avx512cd', 'avx512dq', 'avx512vl'}
_AVX2 = {'avx2', 'fma'}
_CPU_INFO = Path('/proc/cpuinfo')
_FIRST_PROCESSOR = 8192   # characters; the list of many cores is long


def choose_blas_kernels(cpu_info: Path = _CPU_INFO) -> None:
    """Choose kernels for this processor in the environment, unless the user has chosen some.

    These are the Skylake-X kernels with AVX-512, and the Haswell kernels on Intel's other
    processors with AVX2.  On other processors OpenBLAS decides.
    """
    if CORE_TYPE in os.environ:
        return
    kernels = _kernels(cpu_info)
    if kernels is not None:
        os.environ[CORE_TYPE] = kernels


def _kernels(cpu_info: Path) -> Optional[str]:
    try:
        with cpu_info.open(encoding='utf-8', errors='replace') as file:
            text = file.read(_FIRST_PROCESSOR)
    except OSError:   # not Linux
        return None
    flags = set(_first(text, 'flags').split())
    if flags >= _AVX512:
        return 'SkylakeX'
    if flags >= _AVX2 and _first(text, 'vendor_id') == 'GenuineIntel':
        return 'Haswell'
    return None


def _first(text: str, name: str) -> str:
    """Return the value of the first line that starts with ``name``."""
    found = re.search(rf'^{name}\s*:\s*(.*)$', text, re.MULTILINE)
    return found.group(1) if found else ''
