"""Exported ports with ONNX Runtime's arrays left on the device, here the CPU, and in float16."""
from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from adaptis.deploy.export import export
from adaptis.inference.predictor import Predictor
from tests.panoptic_baselines.networks import build, picture, same

pytest.importorskip('onnx')
pytest.importorskip('onnxruntime')


@pytest.mark.slow
@pytest.mark.parametrize('case', ['panoptic_fpn', 'condinst', 'dense', 'unified'])
def test_the_results_are_the_same(case: str, tmp_path: Path) -> None:
    _, _, predictor = build(case)
    image = picture((50, 70))
    predictor.set_image(image).panoptic()   # the shapes of all parameters are known from now on
    folders = [export(predictor, tmp_path / precision, 'onnx', precision=precision)
               for precision in ('float32', 'float16')]
    plain, bound, half = (Predictor.from_export(folder, 'onnxruntime', 'cpu')
                          for folder in (folders[0], *folders))
    for predictor in (bound, half):
        predictor.net._runner.keeps_arrays = True
    expected = plain.set_image(image).panoptic(keep_objects=True)
    same(bound.set_image(image).panoptic(keep_objects=True), expected)
    found = half.set_image(image).panoptic()
    assert np.mean(found.segment_map == expected.segment_map) > 0.9
