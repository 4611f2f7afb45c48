"""What the benchmark of clicks measures."""
from __future__ import annotations

import pytest

from experiments.benchmarks import clicks


def test_the_times_of_one_size() -> None:
    pytest.importorskip('starlette', reason='the extra "serve" is not installed')
    pytest.importorskip('uvicorn', reason='the extra "serve" is not installed')
    found = clicks.clicks([(40, 32)], 3)
    assert [*found] == ['40x32, open, ms', '40x32, mask, median ms', '40x32, mask, 95% within ms']
    assert all(value > 0 for value in found.values())
