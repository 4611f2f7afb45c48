"""Output of a run: a progress bar, a JSON Lines log and TensorBoard events."""
from __future__ import annotations

import json
import textwrap
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional

import numpy as np

from adaptis.errors import AdaptisError
from adaptis.files import atomic_write
from adaptis.progress import open_bar

LOG_NAME = 'log.jsonl'


class RunLog:
    """Log of a run in ``folder``.

    If ``quiet`` is true (for ranks above 0 of a distributed run), nothing is written.
    """

    def __init__(self, folder: Path, quiet: bool = False):
        self._folder = folder
        self._quiet = quiet
        self._stream: Optional[Any] = None
        self._events: Optional[Any] = None

    def __enter__(self) -> RunLog:
        if not self._quiet:
            try:
                self._stream = open(self._folder / LOG_NAME, 'a', encoding='utf-8')
            except OSError as error:
                raise AdaptisError(f'{self._folder / LOG_NAME} cannot be written: '
                                   f'{error.strerror}.') from error
            self._events = _event_writer(self._folder / 'events')
        return self

    def __exit__(self, *unused: object) -> None:
        if self._stream:
            self._stream.close()
        if self._events:
            self._events.close()

    def write(self, kind: str, index: int, stage: str, step: int, **values: Any) -> None:
        """Write one record to the log, and TensorBoard events for values that are numbers."""
        if not self._stream:
            return
        record = {'kind': kind, 'index': index, 'stage': stage, 'step': step,
                  'time': round(time.time(), 1), **values}
        self._stream.write(json.dumps(record) + '\n')
        self._stream.flush()
        for name, value in values.items():
            if self._events and isinstance(value, float):
                self._events.add_scalar(f'{stage}/{kind}/{name}', value, step)

    def picture(self, stage: str, step: int, image: np.ndarray) -> None:
        """Write an image, uint8 (H, W, 3), to the TensorBoard events."""
        if self._events:
            self._events.add_image(f'{stage}/prediction', image, step, dataformats='HWC')
            self._events.flush()


class StageProgress:
    """Progress line of a stage: the steps done, the remaining time, and the latest losses."""

    ROOM = 36   # columns for the losses, so that the line has at most 80
    FORM = '{desc} {percentage:3.0f}% {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]'

    def __init__(self, stage: str, start: int, total: int, quiet: bool):
        self._bar = open_bar(total=total, initial=start, desc=stage, disable=quiet,
                             bar_format=self.FORM)

    def advance(self) -> None:
        """Advance by one step."""
        self._bar.update()

    def show(self, losses: Mapping[str, float]) -> None:
        """Show as many of the losses as fit into the line."""
        text = ', '.join(f'{name} {value:.3g}' for name, value in losses.items())
        self._bar.set_postfix_str(textwrap.shorten(text, self.ROOM, placeholder=' ...'))

    def write_line(self, text: str) -> None:
        """Write a line above the bar."""
        self._bar.write(text)

    def close(self) -> None:
        """Close the bar."""
        self._bar.close()


class AverageMeter:
    """Means of the values of the last steps."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self._steps = 0
        self._seconds = 0.0
        self._waited_before = 0.0

    @property
    def names(self) -> list[str]:
        """Return the names of the values that were added."""
        return list(self._sums)

    def add(self, values: dict[str, float], seconds: float) -> None:
        """Add the values of one step, and its duration including the wait for data."""
        self._steps += 1
        self._seconds += seconds
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + value

    def flush(self, images_per_step: int, waited: float) -> dict[str, float]:
        """Return means since the last flush, images per second, and the fraction of waiting time.

        ``waited`` is the total time spent waiting for data since the beginning, in seconds.
        """
        seconds = max(self._seconds, 1e-9)
        result = {name: total / self._steps for name, total in self._sums.items()}
        result['images_per_second'] = self._steps * images_per_step / seconds
        result['wait_share'] = (waited - self._waited_before) / seconds
        self.__init__()
        self._waited_before = waited
        return result


STALL_REPORTS = 50
"""Number of reports whose mean loss is compared with that of the same number before."""


class StallWatch:
    """Detects that a loss no longer falls.  A resumed run starts with a new, empty watch."""

    def __init__(self) -> None:
        self._losses: list[float] = []

    def add(self, loss: float) -> Optional[tuple[float, float]]:
        """Add the loss of one report; return the earlier and the later mean if it no longer falls.

        It compares after every ``STALL_REPORTS`` reports, first after twice as many, and otherwise
        returns None.
        """
        self._losses.append(loss)
        if len(self._losses) < 2 * STALL_REPORTS:
            return None
        before, last = (float(np.mean(part)) for part in np.split(np.array(self._losses), 2))
        del self._losses[:STALL_REPORTS]
        return None if last < before else (before, last)


def truncate_log(folder: Path, index: int, step: int) -> None:
    """Remove the log lines of steps that a resumed run will repeat."""
    path = folder / LOG_NAME
    if not path.exists():
        return
    lines = []
    for line in path.read_text(encoding='utf-8').splitlines():
        try:
            record = json.loads(line)
            done = (record['index'], record['step']) <= (index, step)
        except (ValueError, KeyError):
            continue  # the last line of a killed run may be incomplete
        if done:
            lines.append(line + '\n')
    with atomic_write(path) as temporary:
        temporary.write_text(''.join(lines), encoding='utf-8')


def _event_writer(folder: Path) -> Optional[Any]:
    try:
        from tensorboardX import SummaryWriter  # optional
    except ImportError:
        return None  # the JSON log contains the same numbers
    return SummaryWriter(str(folder))
