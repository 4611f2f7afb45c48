"""The comparison of number formats: variants are exports, and the verdict follows the figures."""
from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adaptis.deploy.export import export
from adaptis.deploy.folder import load_exported
from adaptis.loading import load_predictor
from experiments.benchmarks import quantization as q
from toy_data import ToySettings, generate, render

ONNX, MXNET = q.FLOAT['onnxruntime'], q.FLOAT['mxnet']
STATIC = 'onnxruntime static careful'
SETTINGS = ToySettings.default('v1', height=48, width=48, min_objects=2, max_objects=4)


def row(pq: float, share: float) -> dict[str, Any]:
    return {'PQ': pq, f'time to {ONNX}': share, f'time to {MXNET}': share / 2}


@pytest.mark.parametrize('pq, share, kept', [(89.8, 0.6, True), (89.6, 0.6, False),
                                             (90.0, 0.7, False), (90.5, 0.6, True)])
def test_both_conditions_must_be_met(pq: float, share: float, kept: bool) -> None:
    rows = {ONNX: row(90, 1), STATIC: row(pq, share), 'mxnet bfloat16': {'fails': 'why'},
            MXNET: row(90, 2)}
    q.judge(rows)
    assert rows[STATIC]['keep'] is kept
    assert rows[STATIC]['PQ lost'] == pytest.approx(90 - pq)
    assert all('keep' not in rows[name] for name in (ONNX, MXNET, 'mxnet bfloat16'))


def test_the_table_has_a_line_for_what_fails() -> None:
    lines = q.table({ONNX: row(90, 1), 'mxnet bfloat16': {'fails': 'why'}}).splitlines()
    assert len(lines) == 3 and lines[0].split()[0] == 'PQ'
    assert lines[2].startswith('mxnet bfloat16') and lines[2].endswith('why')


def test_examples_are_spread() -> None:
    assert q._spread(10, 4) == [0, 3, 6, 9]
    assert q._spread(2, 4) == [0, 1]


def test_a_rewritten_stage_is_an_export(tmp_path: Path) -> None:
    """MXNet's tools are given symbol, parameters and states; here they change nothing."""
    predictor = load_predictor()
    plain = export(predictor, tmp_path / 'plain', 'mxnet')
    form = q.Form('mxnet', lambda files, feeds: q._rewrite(files, lambda *model: model))
    again = load_exported(q.convert(form, plain, tmp_path / 'again', defaultdict(list)), 'mxnet')
    image = render(SETTINGS, 'test', 0)[0]
    expected = predictor.set_image(image).panoptic().segment_map
    assert np.array_equal(again.set_image(image).panoptic().segment_map, expected)


def test_what_cannot_be_made_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip('onnx')
    pytest.importorskip('onnxruntime')

    def refuse(files: Any, feeds: Any) -> None:
        raise ValueError('no such\n operator')

    monkeypatch.setitem(q.FORMS, STATIC, q.Form('onnxruntime', refuse))
    generate(SETTINGS, tmp_path, {'train': 2, 'test': 1})
    rows = q.measure_forms([ONNX, STATIC, MXNET], tmp_path, images=1, calibration=2)
    assert rows[STATIC] == {'fails': 'ValueError: no such operator'}
    assert rows[ONNX]['PQ'] == pytest.approx(rows[MXNET]['PQ'], abs=0.5)
    assert rows[ONNX][f'time to {ONNX}'] == 1


def test_integers_are_small_and_nearly_as_good(tmp_path: Path) -> None:
    for package in ('onnx', 'onnxruntime', 'ml_dtypes'):
        pytest.importorskip(package)
    generate(SETTINGS, tmp_path, {'train': 4, 'test': 2})
    rows = q.measure_forms([ONNX, STATIC, MXNET], tmp_path, images=2, calibration=4)
    assert rows[STATIC]['MiB'] < 0.4 * rows[ONNX]['MiB']
    assert 0 < abs(rows[STATIC]['PQ lost']) < 15
