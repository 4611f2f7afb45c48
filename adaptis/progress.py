"""Progress bars, and lines printed above them.  Without tqdm, only the lines are printed."""
from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Callable, Optional

try:
    from tqdm import tqdm
except ImportError:  # optional for exported networks
    tqdm = None

_PATIENCE = 1.0  # seconds before a bar is shown
_WIDEST = 80     # columns
_quiet = False

CANDIDATES_EVERY = 0.1   # seconds between two updates of a search's bar
LIVE = 'ADAPTIS_LIVE_BARS'


def set_quiet(quiet: bool) -> None:
    """Hide all bars from now on, or show them again."""
    global _quiet
    _quiet = quiet


def open_bar(items: Any = None, *, disable: bool = False, **options: Any) -> Any:
    """Return a bar of tqdm, at most 80 columns wide; ``options`` are those of tqdm.

    In a file, where each update is a new line, it is written only every half minute.  A program
    that passes stderr on to a terminal can set the environment variable ``LIVE``.
    """
    width = min(_WIDEST, shutil.get_terminal_size((_WIDEST, 24)).columns)
    live = sys.stderr.isatty() or LIVE in os.environ
    options.setdefault('mininterval', 0.5 if live else 30)
    return tqdm(items, disable=disable or _quiet, ncols=width, **options)


def progress_bar(items: Sequence[Any], unit: str) -> Iterable[Any]:
    """Return the items, with a progress bar on stderr if there are several."""
    if tqdm is None or len(items) < 2:
        return items
    return open_bar(items, unit=unit)


@contextlib.contextmanager
def candidate_bar(at_once: bool = False) -> Iterator[Optional[Callable[[int, int, Any], None]]]:
    """Show a progress bar over the candidates of one image on stderr after one second.

    Yields ``watch(done, total, mask)`` for ``Predictor.panoptic``; it is None without tqdm.
    ``at_once`` shows the bar from the start, even while the features are computed.
    """
    if tqdm is None:
        yield None
        return
    with open_bar(desc='computing features', unit='candidate', leave=False,
                  mininterval=CANDIDATES_EVERY,
                  delay=0.0 if at_once else _PATIENCE) as bar:
        objects = 0

        def watch(done: int, total: int, mask: Any) -> None:
            nonlocal objects
            objects += mask is not None
            bar.total = total
            bar.set_description(f'{objects} object{"s" * (objects != 1)}', refresh=False)
            bar.update(done - bar.n)

        yield watch


def write_line(line: str, stream: Optional[Any] = None) -> None:
    """Print a line above the progress bar, to stdout or to ``stream``."""
    stream = stream or sys.stdout
    if tqdm is None:
        print(line, file=stream)
    else:
        tqdm.write(line, file=stream)
