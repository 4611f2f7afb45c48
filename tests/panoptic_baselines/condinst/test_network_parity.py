"""The graphs of CondInst against the official one's tensors: stage by stage, and in a chain."""
from __future__ import annotations

import numpy as np
import pytest

from adaptis.runtime import mx
from panoptic_baselines.predictor import pad_batch
from tests.golden.reading import stored
from tests.panoptic_baselines.condinst.golden import LEVELS, close

STAGE, CHAIN, PARAMS = 5e-5, 1e-4, 5e-5


@pytest.fixture(params=[False, True], ids=['imperative', 'hybridized'])
def net(request, condinst_net):
    condinst_net.hybridize(request.param)   # once for all the sizes that the tests have
    return condinst_net


@pytest.mark.parametrize('name', 'ab')
def test_input_is_normalised_and_padded_exactly(net, cases, name):
    batch = pad_batch([cases[name].image()], net.mean)
    np.testing.assert_array_equal(*stored(net.encoder.normalize(mx.nd, batch),
                                          cases[name]['input']))


def test_backbone_and_pyramid_by_stage(net, cases):
    a, backbone = cases['a'], net.encoder.backbone
    for i in (4, 5):
        close(getattr(backbone, f'res{i}')(a.nd(f'res{i - 1}')), a[f'res{i}'], STAGE)
    for level, found in zip(LEVELS, net.encoder.fpn(*(a.nd(f'res{i}') for i in (3, 4, 5)))):
        close(found, a[f'p{level}'], STAGE)


def check_head(found, case, tolerance):
    """``found``: four lists of maps."""
    for key, maps, limit in zip(('cls_logits', 'reg', 'ctr', 'top'), found,
                                (tolerance, tolerance, tolerance, PARAMS)):
        for level, x in zip(LEVELS, maps):
            close(x, case[f'{key}_p{level}'], limit)


def test_heads_by_stage(net, cases):
    a, head = cases['a'], net.encoder.head
    pyramid = [a.nd(f'p{level}') for level in LEVELS]
    for tower in ('cls_tower', 'bbox_tower'):
        close(getattr(head, tower)(a.nd('p4')), a[f'{tower}_p4'], STAGE)
    found = head(*pyramid)
    check_head([found[i * 5:(i + 1) * 5] for i in range(4)], a, STAGE)
    close(net.encoder.mask_branch(*pyramid[:3]), a['mask_feats'], STAGE)
    close(net.things_head(pyramid[0]), a['sem_logits'], STAGE)


@pytest.mark.parametrize('name', 'ab')
def test_dense_part_in_a_chain(net, cases, name):
    case = cases[name]
    batch = pad_batch([case.image()], net.mean)
    backbone = net.encoder.backbone
    x = backbone.stem(net.encoder.normalize(mx.nd, batch))
    close(x[:, ::8], case['stem_c8'], CHAIN)
    features = backbone(net.encoder.normalize(mx.nd, batch))
    close(features[0][:, ::8], case['res2_c8'], CHAIN)
    for i, found in zip((3, 4, 5), features[1:]):
        close(found, case[f'res{i}'], CHAIN)
    pyramid = net.encoder.fpn(*features[1:])
    for level, found in zip(LEVELS, pyramid):
        close(found, case[f'p{level}'], CHAIN)
    maps = net(batch)
    check_head(maps[:4], case, CHAIN)
    close(maps.mask_features, case['mask_feats'], CHAIN)
    close(net.things_head(pyramid[0]), case['sem_logits'], CHAIN)
    assert maps.things is None and maps.semantic is None
