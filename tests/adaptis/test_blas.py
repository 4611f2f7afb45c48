"""OpenBLAS uses the instructions of processors that it does not know."""
from __future__ import annotations

import os
import subprocess
import sys

import pytest

from adaptis.blas import CORE_TYPE, choose_blas_kernels

AVX2 = 'fpu sse2 avx fma avx2'
AVX512 = f'{AVX2} avx512f avx512dq avx512cd avx512bw avx512vl avx512_fp16'
CPU_INFO = 'processor\t: 0\nvendor_id\t: {}\nmodel\t\t: 207\nflags\t\t: {}\nbugs\t\t:\n\n'


@pytest.mark.parametrize('vendor, flags, found', [
    ('GenuineIntel', AVX512, 'SkylakeX'), ('AuthenticAMD', AVX512, 'SkylakeX'),
    ('GenuineIntel', AVX2, 'Haswell'), ('AuthenticAMD', AVX2, None),
    ('GenuineIntel', AVX2.replace('fma', ''), None),
    ('GenuineIntel', AVX512.replace('avx512vl', ''), 'Haswell')])
def test_kernels_fit_the_processor(tmp_path, monkeypatch, vendor, flags, found):
    monkeypatch.delenv(CORE_TYPE, raising=False)
    info = tmp_path / 'cpuinfo'
    info.write_text(CPU_INFO.format(vendor, flags))
    choose_blas_kernels(info)
    assert os.environ.pop(CORE_TYPE, None) == found


def test_what_the_user_chose_stays(tmp_path, monkeypatch):
    monkeypatch.setenv(CORE_TYPE, 'Nehalem')
    info = tmp_path / 'cpuinfo'
    info.write_text(CPU_INFO.format('GenuineIntel', AVX512))
    choose_blas_kernels(info)
    assert os.environ[CORE_TYPE] == 'Nehalem'


def test_other_systems_decide_themselves(tmp_path, monkeypatch):
    monkeypatch.delenv(CORE_TYPE, raising=False)
    choose_blas_kernels(tmp_path / 'none')
    assert CORE_TYPE not in os.environ


def test_kernels_are_chosen_before_numpy_is_loaded():
    code = ('import os, sys, adaptis\nassert "numpy" not in sys.modules\n'
            f'print(os.environ.get("{CORE_TYPE}"))')
    environment = {name: value for name, value in os.environ.items() if name != CORE_TYPE}
    done = subprocess.run([sys.executable, '-c', code], env=environment, capture_output=True,
                          text=True, check=True)
    assert done.stdout.strip() in ('SkylakeX', 'Haswell', 'None')
