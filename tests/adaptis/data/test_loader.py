"""Worker processes: same batches, no deadlock, no hang when they fail."""
from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
from samples import Broken, Buggy, Dying, Hanging, MadeUp

from adaptis.data.batches import BatchSource
from adaptis.data.loader import Loader
from adaptis.errors import AdaptisError

HERE = Path(__file__).parent
ROOT = HERE.parents[2]


def source(dataset: MadeUp) -> BatchSource:
    return BatchSource(dataset, batch_size=2, points=2, seed=(1,))


@pytest.mark.parametrize('workers', [0, 1, 3])
def test_batches_come_in_order_whatever_the_number_of_workers(workers: int) -> None:
    expected = source(MadeUp(9))
    with Loader(expected, workers) as loader:
        steps = list(loader.steps(3, 12))
    assert [step for step, _ in steps] == list(range(3, 12))
    for step, batch in steps:
        for key, value in expected.batch(step).items():
            np.testing.assert_array_equal(batch[key], value)
    assert loader.wait_seconds > 0


def test_batches_larger_than_a_pipe_do_not_block() -> None:
    big = BatchSource(MadeUp(8, size=200), batch_size=4, points=8)  # 1.9 MB each
    with Loader(big, 2) as loader:
        assert sum(1 for _ in loader.steps(0, 6)) == 6


def test_leaving_early_ends_the_workers() -> None:
    with Loader(source(MadeUp(9)), 2) as loader:
        next(loader.steps(0, 100))
        pids = [worker.pid for worker in loader._workers]
    assert not any(alive(pid) for pid in pids)


@pytest.mark.parametrize('dataset, words', [
    (Broken(8), 'image 5 is cut short'),
    (Buggy(8), 'ZeroDivisionError: one over none'),
    (Dying(8), 'A data worker was killed, perhaps .* ran out. Continue'),
])
def test_a_worker_that_fails_is_an_error_not_a_hang(dataset: MadeUp, words: str) -> None:
    with Loader(source(dataset), 1, timeout=30) as loader, \
            pytest.raises(AdaptisError, match=words):
        list(loader.steps(0, 8))


def test_a_killed_worker_is_noticed() -> None:
    with Loader(source(MadeUp(9)), 1, timeout=30) as loader:
        steps = loader.steps(0, 10_000)
        next(steps)
        os.kill(loader._workers[0].pid, signal.SIGKILL)
        with pytest.raises(AdaptisError, match='A data worker was killed'):
            list(steps)


@pytest.mark.parametrize('how', ['file', 'stdin'])
def test_scripts_without_a_main_guard(tmp_path: Path, how: str) -> None:
    """Workers do not import the main module, unless what they work on is defined there."""
    script = tmp_path / 'script.py'
    script.write_text(textwrap.dedent('''
        import sys
        sys.path.insert(0, HERE)
        from adaptis.data.batches import BatchSource
        from adaptis.data.loader import Loader
        from adaptis.evaluation.parallel import parallel_map
        from samples import MadeUp
        print('begin')
        with Loader(BatchSource(MadeUp(4), batch_size=2, points=2), 2) as loader:
            print(len(list(loader.steps(0, 3))), 'batches')
        print(sum(parallel_map(abs, [-1, 2], 2)))
    ''').replace('HERE', repr(str(HERE))))
    command = [sys.executable, '-'] if how == 'stdin' else [sys.executable, str(script)]
    result = subprocess.run(command, input=script.read_text() if how == 'stdin' else None,
                            capture_output=True, text=True, timeout=120, cwd=tmp_path,
                            env={**os.environ, 'PYTHONPATH': str(ROOT)})
    assert result.stdout.split('\n') == ['begin', '3 batches', '3', ''], result.stderr


def test_data_sets_of_the_main_module(tmp_path: Path) -> None:
    script = tmp_path / 'script.py'
    script.write_text(textwrap.dedent('''
        import sys
        sys.path.insert(0, HERE)
        from adaptis.data.batches import BatchSource
        from adaptis.data.loader import Loader
        from samples import MadeUp
        class Own(MadeUp):
            pass
        if __name__ == '__main__':
            with Loader(BatchSource(Own(4), batch_size=2, points=2), 1) as loader:
                print(len(list(loader.steps(0, 3))), 'batches')
    ''').replace('HERE', repr(str(HERE))))
    result = subprocess.run([sys.executable, str(script)], capture_output=True, text=True,
                            timeout=120, env={**os.environ, 'PYTHONPATH': str(ROOT)})
    assert result.stdout == '3 batches\n', result.stderr


def test_a_worker_that_never_answers_is_given_up() -> None:
    with Loader(source(Hanging(8)), 1, timeout=0.5) as loader, \
            pytest.raises(AdaptisError, match='returned no batch for'):
        next(loader.steps(0, 1))


def test_workers_leave_when_their_parent_is_killed_and_never_import_mxnet() -> None:
    """Also that interrupts are the parent's business, from the first moment of a worker."""
    code = textwrap.dedent('''
        import os, signal
        from samples import MadeUp
        from adaptis.data.batches import BatchSource
        from adaptis.data.loader import Loader
        if __name__ == '__main__':
            loader = Loader(BatchSource(MadeUp(9), batch_size=2, points=2), 1)
            pid = loader._workers[0].pid
            steps = loader.steps(0, 9)
            for _ in range(8):  # more answers than can be waiting in the pipe
                os.kill(pid, signal.SIGINT)
                next(steps)
            print(pid, 'libmxnet' in open(f'/proc/{pid}/maps').read(), flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
    ''')
    environment = {**os.environ, 'PYTHONPATH': f'{ROOT}:{HERE}'}
    result = subprocess.run([sys.executable, '-c', code], env=environment, cwd=ROOT,
                            stdout=subprocess.PIPE, text=True, timeout=250)
    pid, imported = result.stdout.split()
    assert result.returncode == -signal.SIGKILL and imported == 'False'
    deadline = time.monotonic() + 20
    while alive(int(pid)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(int(pid))


def alive(pid: int) -> bool:
    try:
        return Path(f'/proc/{pid}/stat').read_text().rsplit(')', 1)[1].split()[0] != 'Z'
    except (FileNotFoundError, ProcessLookupError):
        return False
