"""A day of work in an hour: memory does not grow, and many threads and clients get answers."""
from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adaptis.inference.predictor import Predictor
from adaptis.model import get_model

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.slow


def run_and_read(module: str, *arguments: str) -> dict[str, Any]:
    """Run a module in a process of its own; return what it prints."""
    result = subprocess.run([sys.executable, '-m', module, *arguments], cwd=ROOT,
                            capture_output=True, text=True, timeout=1500, check=True,
                            env={**os.environ, 'OMP_NUM_THREADS': '1'})
    print(module, *arguments, result.stdout)
    return json.loads(result.stdout)


def grow(what: str, count: int, sizes: int) -> dict[str, Any]:
    return run_and_read('tests.soak.memory', what, str(count), '--sizes', str(sizes))


@pytest.mark.timeout(1600)
def test_predictions_of_a_few_sizes_take_no_more_memory_with_time() -> None:
    assert grow('predict', 5000, 60)['kib_per_round'] < 8


@pytest.mark.timeout(1600)
def test_predictions_of_ever_new_sizes_have_a_bound() -> None:
    """Without a bound on oneDNN's kernels it is 5 MiB for each size."""
    mib = list(grow('predict', 1200, 1200)['mib'].values())
    assert mib[-1] < 1500 and mib[-1] - mib[-2] < 200


@pytest.mark.timeout(1600)
def test_trainings_of_varied_sizes_take_no_more_memory_with_time() -> None:
    assert grow('train', 400, 40)['kib_per_round'] < 100


@pytest.mark.timeout(300)
def test_twenty_threads_on_one_predictor() -> None:
    net = get_model('adaptis_toy', width=4)
    net.initialize()
    net.hybridize()
    predictor = Predictor(net)
    predictor.set_image(np.random.default_rng(0).integers(0, 256, (48, 48, 3)).astype(np.uint8))
    wanted = [predictor.mask_at(x=i, y=i).mask for i in range(20)]
    wrong: list[object] = []

    def click(i: int) -> None:
        try:
            for _ in range(25):
                if not np.array_equal(predictor.mask_at(x=i, y=i).mask, wanted[i]):
                    wrong.append(i)
        except Exception as error:   # a thread would only print it
            wrong.append(error)

    threads = [threading.Thread(target=click, args=(i,)) for i in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.timeout(1600)
def test_a_hundred_clients_of_the_page() -> None:
    """All are answered, or told that the server is busy or has closed their picture."""
    pytest.importorskip('uvicorn')
    found = run_and_read('tests.soak.clients', '100', '3')
    told = {answer.rpartition(' ')[2] for answer in found['answers']}
    assert told <= {'200', '204', '404', '503', 'refused'} and found['alive'], found
    assert found['answers']['open 200'] == found['answers']['close 204'] == 300, found
    assert found['mib'][-1] - found['mib'][0] < 50, found


@pytest.mark.timeout(300)
@pytest.mark.parametrize('used_before', [False, True])
def test_forked_processes_use_the_predictor_of_their_parent(used_before: bool) -> None:
    """In a process of its own, as the tests' own has too many threads to be forked."""
    code = textwrap.dedent('''
        import multiprocessing, sys
        import numpy as np
        from adaptis import load_predictor
        predictor = load_predictor()
        image = np.random.default_rng(0).integers(0, 256, (64, 80, 3)).astype(np.uint8)

        def work(number):
            found = predictor.set_image(image).panoptic()
            return found.segment_map.tolist(), predictor.mask_at(x=40, y=number).mask.tolist()

        before = [work(number) for number in range(8)] if 'before' in sys.argv else None
        with multiprocessing.get_context('fork').Pool(3) as pool:
            found = pool.map_async(work, range(8)).get(timeout=200)
        assert found == (before or [work(number) for number in range(8)])
    ''')
    subprocess.run([sys.executable, '-c', code, *['before'] * used_before], check=True, timeout=280,
                   cwd=ROOT, env={**os.environ, 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': ''})
