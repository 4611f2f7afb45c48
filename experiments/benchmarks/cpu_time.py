"""Measure the CPU time of calls, which depends little on how busy the machine is."""
from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from typing import Any, Callable

import cv2

from toy_data.spawn import spawn_context

Task = tuple[Callable[..., Any], tuple]
"""A module-level function and its arguments."""


def alternate_cpu(tasks: Mapping[str, Task], rounds: int) -> dict[str, float]:
    """Return the median CPU seconds of each task, after one unmeasured round.

    The tasks take turns.  Each has its own process, so that it keeps its own memory.
    """
    times: dict[str, list[float]] = {name: [] for name in tasks}
    with contextlib.ExitStack() as stack:
        pools = {name: stack.enter_context(ProcessPoolExecutor(1, spawn_context()))
                 for name in tasks}
        for turn in range(rounds + 1):
            for name, (function, arguments) in tasks.items():
                seconds = pools[name].submit(_timed, function, *arguments).result()
                if turn:
                    times[name].append(seconds)
    return {name: statistics.median(values) for name, values in times.items()}


def _timed(function: Callable[..., Any], *arguments: Any) -> float:
    cv2.setNumThreads(0)
    began = time.process_time()
    function(*arguments)
    return time.process_time() - began
