"""Progress bars, and lines printed above them.  Without tqdm there are only the lines."""
from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Any, Optional

try:
    from tqdm import tqdm
except ImportError:  # exported networks run without it
    tqdm = None


def progress_bar(items: Sequence[Any], unit: str) -> Iterable[Any]:
    """Return the items, with a progress bar on stderr if there are several."""
    if tqdm is None or len(items) < 2:
        return items
    return tqdm(items, unit=unit)


def write_line(line: str, stream: Optional[Any] = None) -> None:
    """Print a line above the progress bar, to stdout or to ``stream``."""
    stream = stream or sys.stdout
    if tqdm is None:
        print(line, file=stream)
    else:
        tqdm.write(line, file=stream)
