"""Complaints about a busy machine."""
from __future__ import annotations

from experiments.benchmarks import busy

STAT = 'cpu  100 20 30 4000 50 6 7 80 90 0\ncpu0 1 2 3 4 5 6 7 8 9 0\n'
FREE = {'share': 0.99, 'others': 0.1, 'stolen': 0.0, 'cores': 2}


def test_seconds_of_all_cores(monkeypatch):
    monkeypatch.setattr(busy.os, 'sysconf', lambda name: 100)
    assert busy.read_ticks(STAT) == (1.63, 0.8)   # idle, waiting and guests do not count
    assert busy.read_ticks('intr 5\n') is None


def test_a_window_tells_own_time_from_that_of_others(monkeypatch):
    clock, ticks = iter([10.0, 14.0]), iter([busy.Ticks(5.0, 1.0), busy.Ticks(11.0, 1.2)])
    monkeypatch.setattr(busy.time, 'perf_counter', lambda: next(clock))
    monkeypatch.setattr(busy, 'read_ticks', lambda: next(ticks))
    found = busy.Window().close(measured=2.0, clock=2.5)
    assert found['share'] == 0.8 and found['others'] == 1.0   # 6 s of 4 s on all cores, 2 our own
    assert abs(found['stolen'] - 0.05) < 1e-9


def test_what_disturbs_a_measurement():
    assert busy.complaints(FREE) == []
    assert busy.complaints({**FREE, 'share': 0.5}) == ['it had the CPU for only 50% of the time']
    assert busy.complaints({**FREE, 'share': 0.5}, threads=2) == []   # 2 threads: nobody knows
    assert busy.complaints({**FREE, 'others': 1.25}) == ['other processes used 1.2 of 2 cores']
    assert busy.complaints({**FREE, 'stolen': 0.1}) == ['the host took 0.10 of 2 cores']
    assert busy.complaints({**FREE, 'others': None, 'stolen': None}) == []


def test_load_before_a_run():
    assert busy.load_complaint(0.3, cores=2) is None
    assert 'busy: 1.5 processes' in busy.load_complaint(1.5, cores=2)
    assert busy.load_complaint(1.5, cores=16) is None
