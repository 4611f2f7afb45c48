"""Facts about the machine that have no other test, each in a process of its own."""
import os
import subprocess
import sys

import pytest

from adaptis import machine

FAULTS_OF_LARGE_BLOCKS = """
import ctypes, resource, sys
from adaptis.memory_reuse import keep_training_memory
if sys.argv[1] == 'kept' and not keep_training_memory():
    sys.exit('unknown')
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes, libc.free.argtypes = [ctypes.c_size_t], [ctypes.c_void_p]
size = 64 << 20
for turn in range(5):
    if turn == 1:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = libc.malloc(size)
    ctypes.memset(block, 1, size)
    libc.free(block)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def _faults(how: str) -> int:
    run = subprocess.run([sys.executable, '-c', FAULTS_OF_LARGE_BLOCKS, how],
                         capture_output=True, text=True)
    if 'unknown' in run.stderr:
        pytest.skip('the C library here has no mallopt')
    assert run.returncode == 0, run.stderr
    return int(run.stdout)


def test_large_blocks_are_reused_without_touching_new_pages():
    usual, kept = _faults('usual'), _faults('kept')
    assert usual > 100
    assert kept < usual / 10


@pytest.mark.skipif(not hasattr(os, 'sched_setaffinity'), reason='the system has no affinity')
def test_cores_that_this_process_may_use():
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert machine.usable_cores() == 1
    finally:
        os.sched_setaffinity(0, before)
    assert machine.usable_cores() == len(before)
