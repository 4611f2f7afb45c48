"""Measure in a separate process, and get the peak memory of a process."""
from __future__ import annotations

import concurrent.futures
import resource
from typing import Any, Callable

from toy_data.spawn import spawn_context


def alone(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a module-level function in a new process that does nothing else.

    The operating system counts the peak memory of this process as the start of the new one's peak.
    """
    with concurrent.futures.ProcessPoolExecutor(1, spawn_context()) as process:
        return process.submit(function, *arguments).result()


def peak_mib() -> float:
    """Return the peak memory of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
