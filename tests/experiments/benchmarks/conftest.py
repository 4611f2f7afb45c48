"""Benchmarks run once and in this process: tests check what they do, not how fast they are."""
from __future__ import annotations

import concurrent.futures
from typing import Any, Callable

import pytest

from experiments.benchmarks import timing


class SameProcess:
    """Instead of a pool with a process of its own."""

    def __init__(self, *_: Any):
        pass

    def __enter__(self) -> SameProcess:
        return self

    def __exit__(self, *_: Any) -> None:
        pass

    def submit(self, function: Callable[..., Any], *arguments: Any) -> concurrent.futures.Future:
        future: concurrent.futures.Future = concurrent.futures.Future()
        future.set_result(function(*arguments))
        return future


@pytest.fixture
def same_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """What runs in a process of its own runs in this one."""
    monkeypatch.setattr(concurrent.futures, 'ProcessPoolExecutor', SameProcess)


@pytest.fixture
def half_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every form runs once, and is said to have taken 0.5 s."""
    def alternate(forms: dict[str, Callable[[], Any]], runs: int = 1) -> dict[str, float]:
        for form in forms.values():
            form()
        return dict.fromkeys(forms, 0.5)
    monkeypatch.setattr(timing, 'alternate', alternate)


@pytest.fixture
def results_for_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every form runs once, and what it returns stands in place of its seconds."""
    monkeypatch.setattr(timing, 'alternate',
                        lambda calls, runs=1: {name: call() for name, call in calls.items()})
