"""Measuring in a process of its own, and how much memory a process had."""
from __future__ import annotations

import concurrent.futures
import resource
from typing import Any, Callable

from toy_data.spawn import spawn_context


def alone(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function of a module in a new process that does nothing else.

    Its peak of memory begins with what this process has had, as the system counts it so.
    """
    with concurrent.futures.ProcessPoolExecutor(1, spawn_context()) as process:
        return process.submit(function, *arguments).result()


def peak_mib() -> float:
    """The most memory that this process ever had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
