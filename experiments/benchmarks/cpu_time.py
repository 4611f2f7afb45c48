"""How much of a processor calls take, however busy the machine is."""
from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from typing import Any, Callable


def alternate_cpu(forms: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Median seconds of the processor for each form, the forms taking turns after one unmeasured
    round.  Only this process counts: the forms must start no other."""
    times: dict[str, list[float]] = {name: [] for name in forms}
    for turn in range(rounds + 1):
        for name, form in forms.items():
            began = time.process_time()
            form()
            if turn:
                times[name].append(time.process_time() - began)
    return {name: statistics.median(values) for name, values in times.items()}
