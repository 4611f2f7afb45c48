"""The benchmark of the unified network runs, with many detections; its speed is not tested."""
from __future__ import annotations

import pytest

from experiments.benchmarks import unified
from experiments.benchmarks.unified import ARGMAX, CASES, HEURISTIC
from tests.experiments.benchmarks.test_ports import NARROW


@pytest.fixture
def result(monkeypatch, same_process, results_for_times):
    """Panoptic results in place of seconds, of narrow networks."""
    monkeypatch.setattr(unified, 'COUNTS', (1, 10))
    cases = {}
    for name, (port, options) in CASES.items():
        if not options.get('deformable'):
            family = port.name.rsplit('_', 1)[0]
            cases[name] = unified.Case(port._replace(name=f'{family}_r18'),
                                       {**NARROW[family], **options})
    return unified.unified(cases, [(96, 128)])


def test_networks_and_what_comes_after_them(result):
    for count in (1, 10):
        found = {name: result[f'{count} at 96x128, {name}, s'] for name in
                 ('Panoptic FPN', 'unified, plain', 'unified, plain, no masks', HEURISTIC, ARGMAX)}
        assert all(0 < len(each.things) <= count for each in found.values())
        whole = found['unified, plain'].segment_map
        assert (found[ARGMAX].segment_map == whole).all()
        assert (found[HEURISTIC].segment_map != whole).any()
    assert result['Panoptic FPN, MiB'] > 10 and result['unified, plain, no masks, MiB'] > 10
