"""Panoptic results of CondInst (section 2.5): the semantic branch and the merge."""
from __future__ import annotations

import numpy as np
import pytest

from adaptis.model.zoo import set_parameters
from adaptis.runtime import mx
from adaptis.types import Category, Taxonomy
from panoptic_baselines.condinst.convert import condinst_name
from panoptic_baselines.condinst.semantic_head import PlainSemanticHead
from panoptic_baselines.condinst.settings import CONDINST_PRESETS
from panoptic_baselines.layers.losses import SemanticLoss
from panoptic_baselines.layers.semantic import SemanticHead
from panoptic_baselines.layers.upsample import upsampled_labels
from panoptic_baselines.merge import Instances, merge
from tests.panoptic_baselines.condinst.golden import Data, close

HEAD = 'encoder.semantic_head.'


@pytest.fixture(scope='module')
def golden(condinst_kit):
    return Data.load(condinst_kit / 'variants' / 'panoptic_sem_head.npz')


@pytest.fixture(scope='module')
def head(condinst_kit, official_arrays):
    named = {condinst_name(name): array for name, array in official_arrays(
        condinst_kit / 'variants' / 'names_panoptic.json').items()}
    assert {name for name in named if not name.startswith(HEAD)} == {
        f'encoder.fpn.{layer}2.{kind}' for layer in ('lateral', 'output')
        for kind in ('weight', 'bias')}
    head = SemanticHead(256, 54, 128)
    head.initialize()
    set_parameters(head, {name[len(HEAD):]: mx.nd.array(array) for name, array in named.items()
                          if name.startswith(HEAD)}, 'golden data')
    head.hybridize()
    return head


def test_branches_and_logits(golden, head):
    pyramid = [golden.nd(f'p{level}') for level in range(2, 6)]
    towers = head.towers(*pyramid)
    for level in (2, 5):
        close(towers[level - 2][:, ::4], golden[f'branch_p{level}'], 1e-4)
    logits = head(*pyramid)
    close(logits, golden['logits_s4'], 1e-4)
    labels = upsampled_labels(logits[0].asnumpy(), 4, golden.size('image_size'),
                              golden.size('out_size'))
    sure = golden['semantic_gap'] > 1e-3
    assert sure.mean() > 0.99
    np.testing.assert_array_equal(labels[sure], golden['semantic'][sure])


def test_loss_and_its_gradient(golden, head):
    pyramid = [golden.nd(f'p{level}') for level in range(2, 6)]
    pyramid[3].attach_grad()
    target = golden['target'].astype(np.float32)
    target[target == 255] = -1
    with mx.autograd.record():
        loss = SemanticLoss()(head(*pyramid), mx.nd.array(target)) * float(golden['loss_weight'])
    loss.backward()
    np.testing.assert_allclose(float(loss.asscalar()), golden['loss_sem_seg'], rtol=1e-5)
    expected = golden['grad_p5']
    difference = np.linalg.norm(pyramid[3].grad.asnumpy() - expected) / np.linalg.norm(expected)
    assert difference < 1e-5


@pytest.mark.parametrize('limit', [4096, 1024, 64])
def test_merge(condinst_kit, limit):
    d = Data.load(condinst_kit / 'variants' / 'panoptic_merge.npz')
    size = d['semantic'].shape
    masks = np.unpackbits(d['masks_packed'], axis=1)[:, :size[0] * size[1]]
    instances = Instances(np.zeros((len(masks), 4), np.float32), d['scores'], d['classes'],
                          masks.reshape(-1, *size).astype(bool))
    stuff = [Category(1000 + i, f'stuff {i}', False) for i in range(1, 54)]
    things = [Category(i, f'thing {i}', True) for i in range(80)]
    taxonomy = Taxonomy(stuff + things)
    settings = CONDINST_PRESETS['coco']
    assert settings.instance_score == pytest.approx(float(d['score_thresh']))
    assert settings.overlap_threshold == pytest.approx(float(d['overlap_thresh']))
    # Of the 54 labels the first means any thing.
    result = merge(instances, d['semantic'].astype(np.int32) - 1, taxonomy,
                   instance_score=settings.instance_score,
                   overlap_threshold=settings.overlap_threshold, stuff_area_limit=limit)
    np.testing.assert_array_equal(result.segment_map, d[f'lim{limit}_panoptic'])
    assert [s.id for s in result.segments] == d[f'lim{limit}_id'].tolist()
    for segment, isthing, category, area in zip(result.segments, *(
            d[f'lim{limit}_{key}'] for key in ('isthing', 'category_id', 'area'))):
        assert segment.isthing == isthing
        assert segment.category_id == (category if isthing else 1000 + category)
        assert segment.area == area or isthing   # the official code does not count things


def test_plain_branch_is_one_convolution_of_what_is_concatenated():
    mx.random.seed(0)
    head = PlainSemanticHead(6, 5)
    head.initialize(mx.init.Normal(1))
    head.hybridize()
    for size in ((8, 16), (16, 8)):
        pyramid = [mx.nd.random.normal(shape=(2, 6, size[0] >> i, size[1] >> i)) for i in range(4)]
        large = [mx.nd.contrib.BilinearResize2D(x, scale_height=2 ** i, scale_width=2 ** i,
                                                align_corners=False) if i else x
                 for i, x in enumerate(pyramid)]
        weight = mx.nd.concat(*(getattr(head, f'p{i}').weight.data() for i in range(2, 6)), dim=1)
        expected = mx.nd.Convolution(mx.nd.concat(*large, dim=1), weight, head.p2.bias.data(),
                                     kernel=(1, 1), num_filter=5)
        with mx.autograd.record():
            logits = head(*pyramid)
            (logits ** 2).sum().backward()
        np.testing.assert_allclose(logits.asnumpy(), expected.asnumpy(), atol=1e-4)
        assert all(np.abs(p.grad().asnumpy()).max() > 0 for p in head.collect_params().values())
