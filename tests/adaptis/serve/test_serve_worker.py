"""The thread of a network."""
from __future__ import annotations

import threading
import time

import pytest

from adaptis.serve.worker import BusyError, NetworkWorker


@pytest.fixture
def worker():
    worker = NetworkWorker(lambda: 'the network')
    yield worker
    worker.close()


def test_all_work_is_done_in_one_thread_that_is_not_ours(worker):
    jobs = [worker.submit(lambda network: (network, threading.get_ident())) for _ in range(9)]
    results = {job.result(9) for job in jobs}
    (network, thread), = results
    assert network == 'the network' and thread != threading.get_ident()


def test_an_error_is_the_callers_and_the_thread_goes_on(worker):
    with pytest.raises(ZeroDivisionError):
        worker.submit(lambda network: 1 / 0).result(9)
    assert worker.submit(len).result(9) == len('the network')


def test_quick_jobs_pass_a_long_one(worker):
    order, begun = [], threading.Event()

    def long(network):
        begun.set()
        while not order:
            worker.let_pass()
            time.sleep(0.001)
        order.append('long')

    ends = worker.submit(long, long=True)
    begun.wait(9)
    worker.submit(lambda network: order.append('quick')).result(9)
    ends.result(9)
    assert order == ['quick', 'long']


def test_too_much_work_is_refused_and_dropped_work_is_not_done(worker):
    release = threading.Event()
    worker.submit(lambda network: release.wait(9))
    time.sleep(0.05)
    done = []
    waiting = [worker.submit(lambda network: done.append(1), long=True) for _ in range(4)]
    with pytest.raises(BusyError, match='busy'):
        worker.submit(print, long=True)
    for job in waiting[1:]:
        job.cancel()
    release.set()
    waiting[0].result(9)
    worker.submit(len).result(9)
    assert done == [1]


def test_a_closed_thread_drops_what_waits():
    worker = NetworkWorker(lambda: None)
    release = threading.Event()
    worker.submit(lambda network: release.wait(9))
    time.sleep(0.05)
    waiting = worker.submit(print)
    worker.close()
    release.set()
    assert waiting.cancelled()
    with pytest.raises(BusyError):
        worker.submit(print)
