"""Detect whether other processes used the CPU during a measurement."""
from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Optional

from adaptis.machine import usable_cores

LEAST_SHARE = 0.95
"""Minimum share of the wall-clock time for which a single thread must have the CPU."""
MOST_OTHERS, MOST_STOLEN = 0.2, 0.02
"""Maximum share of all cores that other processes and the host of a virtual machine may use."""

_STAT = Path('/proc/stat')


class Ticks(NamedTuple):
    """Seconds that all cores together have spent since the machine booted."""

    busy: float
    stolen: float


def read_ticks(text: Optional[str] = None) -> Optional[Ticks]:
    """Return Linux's counters (``text``: content of its file); None on other systems."""
    try:
        first = (text or _STAT.read_text(encoding='ascii')).splitlines()[0].split()
        user, nice, system, _idle, _wait, irq, soft, stolen = map(int, first[1:9])
    except (OSError, ValueError, IndexError):
        return None
    second = os.sysconf('SC_CLK_TCK')
    return Ticks((user + nice + system + irq + soft) / second, stolen / second)


class Window:
    """The time window of a measurement; it starts when the object is created."""

    def __init__(self) -> None:
        self._began, self._ticks = time.perf_counter(), read_ticks()

    def close(self, measured: float, clock: Optional[float] = None) -> dict[str, Any]:
        """Return how busy the machine was.

        ``measured`` is the CPU time of the measured code, and ``clock`` its wall-clock time
        (default: of the whole window), in seconds.  Keys: 'share', the share of a CPU that one
        thread got; 'others', cores that other processes used; 'stolen', cores that the host took;
        'cores', the number of cores.  None if Linux does not say.
        """
        wall = max(time.perf_counter() - self._began, 1e-9)
        now, others, stolen = read_ticks(), None, None
        if now and self._ticks:
            others = max(0.0, (now.busy - self._ticks.busy - measured) / wall)
            stolen = max(0.0, (now.stolen - self._ticks.stolen) / wall)
        return {'share': measured / (clock or wall), 'others': others, 'stolen': stolen,
                'cores': os.cpu_count() or 1, 'seconds': wall}


def complaints(busy: Mapping[str, Any], threads: Optional[int] = 1) -> list[str]:
    """Return what disturbed a measurement, as parts of a sentence; empty if nothing did.

    ``threads`` : number of threads that computed; the expected share is known only for one thread.
    """
    cores, found = busy['cores'], []
    if threads == 1 and busy['share'] < LEAST_SHARE:
        found.append(f'it had the CPU for only {busy["share"]:.0%} of the time')
    if (busy['others'] or 0) > MOST_OTHERS * cores:
        found.append(f'other processes used {busy["others"]:.1f} of {cores} cores')
    if (busy['stolen'] or 0) > MOST_STOLEN * cores:
        found.append(f'the host took {busy["stolen"]:.2f} of {cores} cores')
    return found


def load_complaint(load: float, cores: Optional[int] = None) -> Optional[str]:
    """Return a warning if the ``load`` average is too high for the usable cores."""
    cores = cores or usable_cores()
    if load <= MOST_OTHERS * cores:
        return None
    return (f'The machine is busy: {load:g} processes computed in the last minute, on {cores} '
            'cores. Times by the clock will be too long.')
