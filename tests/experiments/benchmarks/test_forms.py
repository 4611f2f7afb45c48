"""All variants in the benchmark ``forms`` give the same segments."""
from __future__ import annotations

from pathlib import Path

import pytest

from experiments.benchmarks import forms

pytest.importorskip('onnxruntime')


def test_every_form_of_the_shipped_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forms, 'RUNS', 1)
    forms._export(forms.ADAPTIS, str(tmp_path))
    found = forms._times(forms.ADAPTIS, str(tmp_path))
    for form in forms.FORMS:
        assert found[f'{forms.ADAPTIS}, {form}, s'] > 0
        same = found[f'{forms.ADAPTIS}, {form}, pixels as hybridized']
        assert same == 1 if 'onnx' not in form else same > 0.999
