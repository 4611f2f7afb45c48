"""Two networks that were trained separately and then merged, like "R50-FPN x2" in table 3a."""
from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adaptis.loading import load_predictor
from adaptis.model import save_model
from adaptis.model.zoo import write_arrays
from adaptis.runtime import mx
from adaptis.types import Category, Taxonomy
from panoptic_baselines.convert.official import load_backbone
from panoptic_baselines.merge import merge
from panoptic_baselines.panoptic_fpn.join import main
from panoptic_baselines.panoptic_fpn.settings import PanopticFPNSettings
from panoptic_baselines.predictor import Predictor
from panoptic_baselines.zoo import get_model

TINY = dict(num_things=2, num_stuff=3, fpn_channels=16, semantic_channels=32, box_channels=16,
            mask_channels=8, merge_things=False)
TAXONOMY = Taxonomy([Category(i, str(i), i > 3) for i in range(1, 6)])
SETTINGS = PanopticFPNSettings(short_side=64, max_side=96, stuff_area_limit=1, instance_score=0.2,
                               score_threshold=0.0, detections_per_image=7)


def save(folder: Path, name: str, seed: int, taxonomy: Taxonomy = TAXONOMY, **options: Any) -> Path:
    mx.random.seed(seed)
    net = get_model(name, **{**TINY, **options})
    net.initialize(mx.init.Normal(0.05))
    path = folder / f'{name}.params'
    save_model(net, path, {'taxonomy': [dataclasses.asdict(c) for c in taxonomy.categories]})
    return path


def test_both_find_what_they_find_alone(tmp_path: Path) -> None:
    paths = [save(tmp_path, 'mask_rcnn_r18', 1), save(tmp_path, 'semantic_fpn_r18', 2)]
    out = tmp_path / 'both.params'
    assert main([*map(str, paths), str(out)]) == 0
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3)).astype(np.uint8)
    instances, semantic, both = (load_predictor(path, SETTINGS, taxonomy=TAXONOMY)
                                 for path in (*paths, out))
    for predictor in (instances, semantic, both):
        predictor.set_image(image)
    found = instances.instances()
    assert found.scores.max() > SETTINGS.instance_score
    np.testing.assert_array_equal(both.instances().masks, found.masks)
    np.testing.assert_array_equal(both.semantic(), semantic.semantic())
    expected = merge(found, semantic.semantic(), TAXONOMY, instance_score=0.2, stuff_area_limit=1)
    result = both.panoptic()
    np.testing.assert_array_equal(result.segment_map, expected.segment_map)
    assert {segment.isthing for segment in result.segments} == {True, False}
    joined = json.loads(out.with_suffix('.json').read_text())
    assert joined['joined']['semantic']['file'] == 'semantic_fpn_r18.params'


def test_networks_that_do_not_fit(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    instances = save(tmp_path, 'mask_rcnn_r18', 1)
    other = Taxonomy([Category(i + 1, str(i), i > 3) for i in range(1, 6)])
    for path, words in (
            (instances, 'mask_rcnn_r18.params is not a Semantic FPN'),
            (save(tmp_path, 'semantic_fpn_r18', 2, fpn_channels=32), 'differ in fpn_channels'),
            (save(tmp_path, 'semantic_fpn', 2, other, backbone='resnet18'), 'different classes'),
            (tmp_path / 'none.params', 'does not exist')):
        assert main([str(instances), str(path), str(tmp_path / 'out.params')]) == 1
        assert words in capsys.readouterr().err
    assert not (tmp_path / 'out.params').exists()


@pytest.mark.parametrize('options', [dict(grouped_fpn=True), dict(semantic=False)])
def test_branches_that_cannot_be_separate(options: dict[str, bool]) -> None:
    with pytest.raises(Exception, match='separate needs a network with both branches'):
        get_model('panoptic_fpn', backbone='resnet18', separate=True, **{**TINY, **options})


@pytest.mark.slow
def test_both_start_from_the_same_weights(tmp_path: Path) -> None:
    alone = get_model('semantic_fpn_r18', **TINY)
    alone.initialize()
    weights = alone.encoder.backbone._collect_params_with_prefix()
    write_arrays(tmp_path / 'r18.params', {name: p.data() for name, p in weights.items()})
    net = get_model('panoptic_fpn_r18', separate=True, **TINY)
    net.initialize()
    load_backbone(net, tmp_path / 'r18.params')
    for backbone in net.backbones:
        for name, parameter in backbone._collect_params_with_prefix().items():
            np.testing.assert_array_equal(parameter.data().asnumpy(),
                                          weights[name].data().asnumpy())


def test_each_branch_learns_by_itself() -> None:
    """The gradient of one loss does not reach the other network."""
    net = get_model('panoptic_fpn_r18', separate=True, **TINY)
    net.initialize()
    parameters = net._collect_params_with_prefix()
    assert {len(net.backbones), len({id(b) for b in net.backbones})} == {2}
    with mx.autograd.record():
        maps = net(mx.nd.random.uniform(0, 255, (1, 3, 64, 64)))
        loss = maps.semantic.sum()
    loss.backward()
    moved = {name.split('.')[0] for name, p in parameters.items()
             if p.grad_req != 'null' and p.grad().abs().sum().asscalar() > 0}
    assert moved == {'semantic_encoder'}
    assert isinstance(Predictor(net, TAXONOMY, SETTINGS).predict(
        np.zeros((40, 50, 3), np.uint8)).segment_map, np.ndarray)
