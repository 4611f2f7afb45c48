"""The quality of the masks of the network that ships, over its complete training.

The network was trained in several runs.  Each continued from the weights of the previous one.  The
logs are in ``experiments/logs``.
"""
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Callable, NamedTuple

import numpy as np

from experiments.training_logs import LOGS, read_log

PAPER = 140 * 10_000 * 12
"""Number of masks in the paper's training: 140 epochs of 10,000 images (section 6) with 12 points
each (official script)."""


class Point(NamedTuple):
    """A validation: number of masks that the network has learned from, and mean IoU."""

    masks: int
    iou: float


class Run(NamedTuple):
    """A run: its log, and masks in a step, from each of some steps on."""

    log: str
    masks: dict[int, int]
    counts: bool = True     # False: it was validated on fewer images than the others
    width: int = 16


SHIPPED = (Run('toy_v1_cpu', {0: 64}, counts=False),
           Run('toy_v1_long', {0: 64}),
           Run('toy_v1_long_2', {0: 64}),
           Run('toy_v1_long_3', {0: 64, 5123: 128}),   # two processes from step 5,123 on
           Run('toy_v1_wide', {0: 64, 586: 128}, width=32),
           Run('toy_v1_wide_2', {0: 128}, width=32),
           Run('toy_v1_wide_3', {0: 128}, width=32),
           Run('toy_v1_wide_4', {0: 128}, width=32))
WIDER = {run.log for run in SHIPPED if run.width > 16}
"""Logs of the runs of a wider network."""


def read_history(runs: Sequence[Run] = SHIPPED, logs: Path = LOGS) -> dict[str, list[Point]]:
    """Return the validations of each run, by the name of its log.

    Raises AdaptisError if a log is missing or broken.
    """
    parts, before = {}, 0
    for run in runs:
        records = [r for r in read_log(logs / f'{run.log}.jsonl') if r.get('stage') == 'instances']
        if run.counts:
            parts[run.log] = [Point(before + _seen(run, r['step']), r['iou'])
                              for r in records if r['kind'] == 'validation']
        before += _seen(run, max(r['step'] for r in records))
    return parts


def fit_power_law(points: Sequence[Point]) -> Callable[[float], float]:
    """Return 1 - IoU as a function of the masks: a line on logarithmic scales, least squares."""
    slope, offset = np.polyfit(np.log([p.masks for p in points]),
                               np.log([1 - p.iou for p in points]), 1)
    return lambda masks: float(np.exp(offset) * masks ** slope)


def _seen(run: Run, step: int) -> int:
    starts = sorted(run.masks)
    return sum(run.masks[start] * max(0, min(step, end) - start)
               for start, end in zip(starts, [*starts[1:], step]))
