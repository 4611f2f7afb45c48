"""The graphs of Panoptic FPN against the official one's tensors: stage by stage, and in a chain.

"Stage" is one part fed with the official input: no more than 5e-5 standard deviations; "chain" is
everything from the image on: 2e-4.
"""
from __future__ import annotations

import numpy as np
import pytest

from adaptis.runtime import mx
from panoptic_baselines.predictor import pad_batch
from panoptic_baselines.rcnn.roi_align import pool_rois, roi_levels
from tests.golden.reading import stored
from tests.panoptic_baselines.golden import LEVELS, gap, load_case

STAGE, CHAIN = 5e-5, 2e-4


@pytest.fixture(scope='module')
def case_a(kit):
    return load_case(kit, 'case_a')


@pytest.fixture(params=[False, True], ids=['imperative', 'hybridized'])
def net(request, official_net):
    official_net.hybridize(request.param)   # once for all the sizes that the tests have
    return official_net


@pytest.mark.parametrize('name', 'ab')
def test_input_is_normalised_and_padded_exactly(net, kit, name):
    case = load_case(kit, f'case_{name}')
    batch = pad_batch([case.image()], net.mean)
    np.testing.assert_array_equal(*stored(net.encoder.normalize(mx.nd, batch),
                                          case.arrays['input']))


def test_backbone_and_pyramid_by_stage(net, case_a):
    backbone, a = net.encoder.backbone, case_a.arrays
    assert gap(backbone.stem(case_a.nd('input'))[:, ::4], a['stem']) < STAGE
    features = [case_a.nd(f'res{i}') for i in range(2, 6)]
    for i, x in zip(range(3, 6), features):
        assert gap(getattr(backbone, f'res{i}')(x), a[f'res{i}']) < STAGE
    for level, found in zip(LEVELS, net.encoder.fpn(*features)):
        assert gap(found, a[f'p{level}']) < STAGE


def test_dense_heads_by_stage(net, case_a):
    a, pyramid = case_a.arrays, [case_a.nd(f'p{level}') for level in LEVELS]
    outputs = net.encoder.rpn(*pyramid)
    for level, logits, deltas in zip(LEVELS, outputs[:5], outputs[5:]):
        assert gap(logits, a[f'rpn_logits_p{level}']) < STAGE
        assert gap(deltas, a[f'rpn_deltas_p{level}']) < STAGE
    semantic = net.encoder.semantic_head
    for level, found in zip(LEVELS, semantic.towers(*pyramid[:4])):
        assert gap(found[:, ::4, ::2, ::2], a[f'sem_p{level}']) < STAGE
    assert gap(semantic(*pyramid[:4]), a['sem_logits']) < STAGE


def test_roi_heads_by_stage(net, case_a):
    a, pyramid = case_a.arrays, [case_a.nd(f'p{level}') for level in range(2, 6)]
    np.testing.assert_array_equal(roi_levels(a['proposals']), a['roi_level'])
    rows = a['box_pooled_idx']
    assert gap(pool_rois(pyramid, [a['proposals'][rows]], 7), a['box_pooled']) < STAGE
    features = net.box_head.features(case_a.nd('box_pooled'))
    assert gap(features, a['box_pooled_feat']) < STAGE
    logits, deltas = net.box_head(case_a.nd('box_pooled'))
    assert gap(logits, a['cls_logits'][rows]) < STAGE
    assert gap(deltas, a['box_deltas'][rows]) < STAGE
    assert gap(pool_rois(pyramid, [a['det_boxes'][:2]], 14), a['mask_pooled']) < STAGE
    own_class = mx.nd.array(a['det_classes'][:2])
    assert gap(net.mask_head(case_a.nd('mask_pooled'), own_class), a['mask_logits'][:2]) < STAGE
    classes = [0, 41, 79]
    found = net.mask_head(mx.nd.array(np.repeat(a['mask_pooled'][:1], 3, axis=0)),
                          mx.nd.array(classes))
    assert gap(found, a['mask_logits_all'][0, classes]) < STAGE


@pytest.mark.parametrize('name, channels', [('a', 1), ('b', 8)])
def test_dense_part_in_a_chain(net, kit, name, channels):
    case = load_case(kit, f'case_{name}')
    a, batch = case.arrays, pad_batch([case.image()], net.mean)
    features = net.encoder.backbone(net.encoder.normalize(mx.nd, batch))
    for i, found in zip(range(2, 6), features):
        assert gap(found[:, ::channels], a[f'res{i}']) < CHAIN
    maps = net(batch)
    for level, *found in zip(LEVELS, maps.features, maps.rpn_logits, maps.rpn_deltas):
        if level == 2 and channels > 1:
            found[0] = found[0][:, ::4]
        for output, key in zip(found, ('p{}', 'rpn_logits_p{}', 'rpn_deltas_p{}')):
            assert gap(output, a[key.format(level)]) < CHAIN
    assert gap(maps.semantic, a['sem_logits']) < CHAIN


def test_padding_of_a_batch_is_seen_by_group_norm(official_net, kit):
    case = load_case(kit, 'case_batch')
    batch = pad_batch([case.image('image_0'), case.image('image_1')], official_net.mean)
    maps = official_net(batch)
    assert gap(maps.semantic[:, :, ::2, ::2], case.arrays['sem_logits']) < CHAIN
    assert gap(maps.features[0][:, ::32, ::2, ::2], case.arrays['p2']) < CHAIN
    assert gap(maps.features[3][:, ::8], case.arrays['p5']) < CHAIN
