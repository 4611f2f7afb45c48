"""Disks that are full, folders that may not be written, clocks that jump: nothing is lost."""
from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from adaptis.runtime import mx
from tests.torture.killing import ENVIRONMENT, adaptis, finish, leftovers
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


def mounted(options: str, place: object) -> list[str]:
    """Return what begins a command that sees a file system of its own at ``place``; may skip."""
    begin = ['unshare', '--mount', 'sh', '-c',
             f'mount -t tmpfs -o {options} tmpfs "$0" && exec "$@"', str(place)]
    if shutil.which('unshare') is None or subprocess.run([*begin, 'true']).returncode:
        pytest.skip('needs to mount file systems')
    return begin


@pytest.mark.slow
@pytest.mark.timeout(280)
@pytest.mark.parametrize('size', ['64m', '64k'])
def test_a_small_dev_shm(whole: Path, tmp_path: Path, size: str) -> None:
    """Docker gives 64 MB.  Batches do not pass through it, so less than one batch is enough."""
    begin = mounted(f'size={size}', '/dev/shm')
    command = [sys.executable, '-m', 'adaptis', 'train', whole / 'a.yaml', '--output',
               tmp_path / 'run', '--ctx', 'cpu', '--workers', '2']
    subprocess.run([*begin, *command], check=True, env=ENVIRONMENT)
    assert_same(whole / 'run' / 'final.params', tmp_path / 'run' / 'final.params')


@pytest.mark.slow
@pytest.mark.timeout(280)
def test_a_dev_shm_that_may_not_be_written(whole: Path, tmp_path: Path) -> None:
    """Locks of several processes cannot be made there."""
    command = [sys.executable, '-m', 'adaptis', 'evaluate', '--data', whole / 'data',
               '--processes', '2', '--out', tmp_path / 'a.json', '--ctx', 'cpu']
    result = subprocess.run([*mounted('ro', '/dev/shm'), *command], env=ENVIRONMENT,
                            capture_output=True, text=True)
    assert result.returncode == 1 and 'Traceback' not in result.stderr
    assert 'Read-only file system (perhaps /dev/shm' in result.stderr.splitlines()[-1]


@pytest.mark.slow
@pytest.mark.timeout(280)
def test_a_file_system_that_may_not_be_written(whole: Path, tmp_path: Path) -> None:
    """As root, too."""
    locked = tmp_path / 'locked'
    locked.mkdir()
    begin = mounted('ro', locked)
    for command in (('train', whole / 'a.yaml', '--output', locked / 'run', '--ctx', 'cpu'),
                    ('predict', whole / 'data' / 'test', '--out', locked / 'found', '--ctx', 'cpu'),
                    ('evaluate', '--data', whole / 'data', '--limit', '1', '--ctx', 'cpu',
                     '--save', locked / 'found', '--out', tmp_path / 'a.json'),
                    ('export', '--out', locked / 'export'),
                    ('toy', '--version', 'v1', '--out', locked / 'toy', '--count', '1')):
        result = subprocess.run([*begin, sys.executable, '-m', 'adaptis', *map(str, command)],
                                env=ENVIRONMENT, capture_output=True, text=True)
        told = result.stderr.splitlines()
        assert result.returncode == 1 and 'Traceback' not in result.stderr, (command, told)
        assert str(locked) in told[-1] and 'Read-only file system' in told[-1], (command, told)
