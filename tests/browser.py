"""A real browser for tests: Chromium without a window, as Debian's packages install it."""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from adaptis.errors import AdaptisError
from experiments import screenshot

SIZE = (1100, 1000)


@contextmanager
def chromium(size: tuple[int, int] = SIZE, **options: Any) -> Iterator[Any]:
    """Yield Selenium's driver of a browser, see ``experiments.screenshot``, or skip the test."""
    opened = screenshot.chromium(size, **options)
    try:
        driver = opened.__enter__()
    except AdaptisError as error:
        pytest.skip(str(error))
    try:
        yield driver
    finally:
        opened.__exit__(None, None, None)
