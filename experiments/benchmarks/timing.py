"""Measure how long calls take."""
from __future__ import annotations

import statistics
import time
from typing import Any, Callable


def alternate(forms: dict[str, Callable[[], Any]], runs: int = 7) -> dict[str, float]:
    """Return the median seconds of each variant; they take turns after one unmeasured round."""
    from adaptis.runtime import mx  # loads MXNet
    times: dict[str, list[float]] = {name: [] for name in forms}
    for turn in range(runs + 1):
        for name, form in forms.items():
            began = time.perf_counter()
            form()
            mx.nd.waitall()
            if turn:
                times[name].append(time.perf_counter() - began)
    return {name: statistics.median(values) for name, values in times.items()}
