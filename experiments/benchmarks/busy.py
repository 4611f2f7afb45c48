"""Whether something else used the processor while times were taken."""
from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Optional

from adaptis.machine import usable_cores

LEAST_SHARE = 0.95
"""Of the time by the clock, that one thread has to get from the processor."""
MOST_OTHERS, MOST_STOLEN = 0.2, 0.02
"""Of all cores, that other processes and the host of a virtual machine may use."""

_STAT = Path('/proc/stat')


class Ticks(NamedTuple):
    """Seconds that all cores together have spent since the machine started."""

    busy: float
    stolen: float


def read_ticks(text: Optional[str] = None) -> Optional[Ticks]:
    """Return what Linux counts (``text``: of its file); None on a system that has no such file."""
    try:
        first = (text or _STAT.read_text(encoding='ascii')).splitlines()[0].split()
        user, nice, system, _idle, _wait, irq, soft, stolen = map(int, first[1:9])
    except (OSError, ValueError, IndexError):
        return None
    second = os.sysconf('SC_CLK_TCK')
    return Ticks((user + nice + system + irq + soft) / second, stolen / second)


class Window:
    """A time in which something is measured; it begins with the object."""

    def __init__(self) -> None:
        self._began, self._ticks = time.perf_counter(), read_ticks()

    def close(self, measured: float, clock: Optional[float] = None) -> dict[str, Any]:
        """Return how busy the machine was.

        ``measured`` are the seconds of the CPU that what was measured took, and ``clock`` those by
        the clock (default: of the whole window).  Keys: 'share', of the processor that one thread
        got; 'others', cores that other processes used; 'stolen', cores that the host took;
        'cores' that there are.  None where Linux does not tell.
        """
        wall = max(time.perf_counter() - self._began, 1e-9)
        now, others, stolen = read_ticks(), None, None
        if now and self._ticks:
            others = max(0.0, (now.busy - self._ticks.busy - measured) / wall)
            stolen = max(0.0, (now.stolen - self._ticks.stolen) / wall)
        return {'share': measured / (clock or wall), 'others': others, 'stolen': stolen,
                'cores': os.cpu_count() or 1, 'seconds': wall}


def complaints(busy: Mapping[str, Any], threads: Optional[int] = 1) -> list[str]:
    """Return what disturbed a measurement, each a part of a sentence; none if nothing did.

    ``threads`` that computed; only of one is it known how much time it should have got.
    """
    cores, found = busy['cores'], []
    if threads == 1 and busy['share'] < LEAST_SHARE:
        found.append(f'it had the processor for {busy["share"]:.0%} of the time')
    if (busy['others'] or 0) > MOST_OTHERS * cores:
        found.append(f'others used {busy["others"]:.1f} of {cores} cores')
    if (busy['stolen'] or 0) > MOST_STOLEN * cores:
        found.append(f'the host took {busy["stolen"]:.2f} of {cores} cores')
    return found


def load_complaint(load: float, cores: Optional[int] = None) -> Optional[str]:
    """Return a warning if a ``load`` average is too high to begin with, for the usable cores."""
    cores = cores or usable_cores()
    if load <= MOST_OTHERS * cores:
        return None
    return (f'The machine is busy: {load:g} processes computed in the last minute, on {cores} '
            'cores. Times by the clock will be too long.')
