"""Progress bars, and lines printed beside them; without tqdm lines alone."""
from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Any, Optional

try:
    from tqdm import tqdm
except ImportError:  # where exported networks run
    tqdm = None


def progress(items: Sequence[Any], unit: str) -> Iterable[Any]:
    """The items, with a bar on stderr if there are several."""
    if tqdm is None or len(items) < 2:
        return items
    return tqdm(items, unit=unit)


def say(line: str, stream: Optional[Any] = None) -> None:
    """Print a line to a stream, default stdout, above the bar if there is one."""
    stream = stream or sys.stdout
    if tqdm is None:
        print(line, file=stream)
    else:
        tqdm.write(line, file=stream)
