"""ONNX Runtime on the CPU and on a GPU, measured."""
from __future__ import annotations

import json
from pathlib import Path

import pytest

from experiments.benchmarks import onnx_devices
from experiments.benchmarks.__main__ import main

pytest.importorskip('onnx')
pytest.importorskip('onnxruntime')


@pytest.mark.slow
def test_rows_of_a_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                       capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr(onnx_devices, 'RUNS', 1)
    monkeypatch.setattr(onnx_devices, 'BATCHES', 2)
    out = tmp_path / 'log.json'
    assert main(['onnx_devices', '--size', '32x32', '--points', '1', '--device', 'cpu', '--out',
                 str(out)]) == 0
    assert 'No GPU is measured' in capsys.readouterr().out
    rows = json.loads(out.read_text())['results']
    assert list(rows) == [f'cpu, {precision}, {how}' for precision in ('float32', 'float16')
                          for how in ('copied', 'kept')]
    for row in rows.values():
        assert set(row) == {'difference', *(f'{task}, s' for task in (
            'features', 'points', 'semantics', 'proposals', 'masks', 'picture'))}
        assert all(seconds > 0 for task, seconds in row.items() if task != 'difference')
    assert rows['cpu, float32, kept']['difference'] == 0
    assert rows['cpu, float16, kept']['difference'] < 0.01


def test_without_a_gpu(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    import onnxruntime
    monkeypatch.setattr(onnxruntime, 'get_available_providers', lambda: ['CPUExecutionProvider'])
    assert main(['onnx_devices', '--device', 'gpu']) == 1
    assert 'onnxruntime-gpu' in capsys.readouterr().err
