from __future__ import annotations

import json

import numpy as np
import pytest

from adaptis.errors import AdaptisError
from adaptis.model import save_model
from adaptis.registry import find_family
from adaptis.runtime import mx
from panoptic_baselines.models import MODELS
from panoptic_baselines.zoo import get_model, load_model

TINY = dict(num_things=2, num_stuff=3, fpn_channels=8, semantic_channels=32, box_channels=8,
            mask_channels=8)


def test_names_stand_for_backbones_and_branches():
    assert {'panoptic_fpn_r50', 'mask_rcnn_r101', 'semantic_fpn_x101'} < set(MODELS)
    assert MODELS['condinst_dla34'][1] == {'backbone': 'dla34'}
    assert MODELS['mask_rcnn_x152'][1] == {'semantic': False, 'backbone': 'resnext152_32x8d'}
    for name, instances, semantic in (('panoptic_fpn_r18', True, True),
                                      ('mask_rcnn_r18', True, False),
                                      ('semantic_fpn_r18', False, True)):
        net = get_model(name, **TINY)
        assert (net.has_instances, net.has_semantic) == (instances, semantic)
        assert net.description == {'name': name, **TINY}


def test_a_checkpoint_comes_back(tmp_path):
    net = get_model('mask_rcnn_r18', **TINY)
    net.initialize()
    save_model(net, tmp_path / 'net.params')
    again = load_model(tmp_path / 'net.params')
    for (name, a), (_, b) in zip(net._collect_params_with_prefix().items(),
                                 again._collect_params_with_prefix().items()):
        np.testing.assert_array_equal(a.data().asnumpy(), b.data().asnumpy(), name)
    assert again.description == net.description


@pytest.mark.parametrize('name, kwargs, match', [
    ('panoptic_fpn_r51', {}, 'no network "panoptic_fpn_r51"'), (None, {}, 'no network'),
    ('panoptic_fpn_r50', {'backbone': 'resnet18'}, 'no option backbone'),
    ('panoptic_fpn', {'depth': 50}, 'no option depth; it has anchor_sizes, backbone')])
def test_unknown_networks_and_options(name, kwargs, match):
    with pytest.raises(AdaptisError, match=match):
        get_model(name, **kwargs)


def test_broken_descriptions(tmp_path):
    path = tmp_path / 'net.params'
    with pytest.raises(AdaptisError, match='does not exist'):
        load_model(path)
    path.write_bytes(b'')
    for model, match in (({}, 'does not name its network'),
                         ({'name': 'adaptis_toy'}, 'net.json: There is no')):
        path.with_suffix('.json').write_text(json.dumps({'model': model}))
        with pytest.raises(AdaptisError, match=match):
            load_model(path)


def test_training_starts_from_a_network_of_other_classes(tmp_path):
    trained = get_model('panoptic_fpn_r18', **TINY)
    trained.initialize()
    save_model(trained, tmp_path / 'net.params')
    family, options = find_family('mask_rcnn'), {**TINY, 'num_things': 3, 'num_stuff': 1}
    net = family.build({'name': 'mask_rcnn_r18', **options,
                        'pretrained': str(tmp_path / 'net.params')}, [mx.current_context()])
    assert 'pretrained' not in net.description
    there = trained._collect_params_with_prefix()
    fresh = {name for name, p in net._collect_params_with_prefix().items()
             if p.shape != there[name].shape
             or not np.array_equal(p.data().asnumpy(), there[name].data().asnumpy())}
    assert fresh == {f'{layer}.{kind}' for kind in ('weight', 'bias') for layer in
                     ('box_head.cls_score', 'box_head.bbox_pred', 'mask_head.predictor')}


@pytest.mark.parametrize('key', ['pretrained_base', 'pretrained'])
def test_nor_from_what_is_no_file(key):
    with pytest.raises(AdaptisError, match=f'{key} is True but must be the path'):
        find_family('panoptic_fpn').build({'name': 'panoptic_fpn_r18', **TINY, key: True},
                                          [mx.current_context()])


@pytest.mark.parametrize('changes', [{'fpn_channels': 16}, {'box_channels': 16},
                                     {'semantic_channels': 64}])
def test_nor_does_it_from_one_of_another_width(changes, tmp_path):
    trained = get_model('panoptic_fpn_r18', **TINY)
    trained.initialize()
    save_model(trained, tmp_path / 'net.params')
    with pytest.raises(AdaptisError, match='net.params belongs to another network'):
        find_family('panoptic_fpn').build({'name': 'panoptic_fpn_r18', **TINY, **changes,
                                           'pretrained': str(tmp_path / 'net.params')},
                                          [mx.current_context()])
