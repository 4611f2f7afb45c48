"""Files give what their network gives: by MXNet bit for bit, by ONNX Runtime except at ties."""
from __future__ import annotations

import numpy as np
import pytest

from adaptis.deploy.export import export
from adaptis.deploy.folder import load_exported
from tests.panoptic_baselines.networks import build, picture, same

pytest.importorskip('onnx')
pytest.importorskip('onnxruntime')


@pytest.mark.parametrize('name', ['panoptic_fpn', *(
    pytest.param(name, marks=pytest.mark.slow) for name in ('condinst', 'dense', 'unified'))])
def test_files_do_as_well_as_the_network(name, tmp_path):
    _, family, predictor = build(name)
    export(predictor, tmp_path / 'export')
    readme = (tmp_path / 'export' / 'README.md').read_text()
    has_rois = name in ('panoptic_fpn', 'unified')
    assert ("divided by the level's stride" in readme) == ('`rois` (N, 5)' in readme) == has_rois
    image = picture((41, 90))
    expected = family.evaluation_result(predictor.set_image(image))
    assert len(expected.objects.scores) and expected.segments
    found = load_exported(tmp_path / 'export', 'mxnet').set_image(image)
    same(family.evaluation_result(found), expected)
    other = load_exported(tmp_path / 'export', 'onnxruntime')
    found = family.evaluation_result(other.set_image(image))
    assert (found.segment_map == expected.segment_map).mean() > 0.995
    np.testing.assert_allclose(found.objects.scores, expected.objects.scores, atol=1e-4)
    other.settings = other.settings.replace(score_threshold=1.0)
    assert not len(other.instances().scores)   # which no graph has to make masks of
