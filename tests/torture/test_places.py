"""Disks that are full, folders that may not be written, clocks that jump: nothing is lost."""
from __future__ import annotations

import os
import resource
import signal
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from adaptis.runtime import mx
from tests.torture.killing import adaptis, finish, leftovers
from tests.torture.test_killing import ADAPTIS, draw


def _limit_files(size: int) -> None:
    """No file may be larger, as on a full disk; without the signal that would kill the process."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


@pytest.fixture(scope='module')
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A config and a run that nothing disturbed."""
    folder = tmp_path_factory.mktemp('whole')
    (folder / 'a.yaml').write_text(ADAPTIS.format(data=draw(folder / 'data', 'v1'), steps=12))
    finish(adaptis('train', folder / 'a.yaml', '--output', folder / 'run', '--ctx', 'cpu'))
    return folder


def assert_same(a: Path, b: Path) -> None:
    first, second = mx.nd.load(str(a)), mx.nd.load(str(b))
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_array_equal(first[name].asnumpy(), second[name].asnumpy(), name)


@pytest.mark.slow
@pytest.mark.timeout(280)
def test_a_disk_that_is_full_for_checkpoints(whole: Path, tmp_path: Path) -> None:
    """The log fits, the parameters do not."""
    size = (whole / 'run' / 'final.params').stat().st_size // 2
    assert size > (whole / 'run' / 'log.jsonl').stat().st_size
    command = ('train', whole / 'a.yaml', '--output', tmp_path / 'run', '--ctx', 'cpu')
    process = adaptis(*command, preexec_fn=partial(_limit_files, size))
    output = process.communicate(timeout=250)[0]
    assert process.returncode == 1 and 'Traceback' not in output
    assert 'cannot be written' in output.splitlines()[-1]
    assert not leftovers(tmp_path / 'run') and not list((tmp_path / 'run').rglob('*.params'))
    finish(adaptis(*command, '--resume'))
    assert_same(whole / 'run' / 'final.params', tmp_path / 'run' / 'final.params')


@pytest.mark.slow
@pytest.mark.parametrize('command', ['export', 'predict', 'toy'])
def test_a_disk_that_is_full_for_other_commands(whole: Path, tmp_path: Path, command: str) -> None:
    arguments = {
        'export': ('export', '--out', tmp_path / 'made'),
        'predict': ('predict', whole / 'data' / 'test', '--out', tmp_path / 'made', '--ctx', 'cpu'),
        'toy': ('toy', '--version', 'v1', '--out', tmp_path / 'made', '--split', 'train',
                '--count', 3, '--workers', 1)}[command]
    process = adaptis(*arguments, preexec_fn=partial(_limit_files, 1000))
    output = process.communicate(timeout=250)[0]
    assert process.returncode == 1 and 'Traceback' not in output, output
    assert 'File too large' in output.splitlines()[-1]
    assert not leftovers(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason='root may write everywhere')
def test_a_folder_that_may_not_be_written(whole: Path, tmp_path: Path) -> None:
    (tmp_path / 'locked').mkdir(mode=0o500)
    process = adaptis('train', whole / 'a.yaml', '--output', tmp_path / 'locked' / 'run')
    output = process.communicate(timeout=250)[0]
    assert process.returncode == 1 and output.count('\n') == 1 and 'Permission denied' in output
