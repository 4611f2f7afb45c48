"""The graph of dense detections against the official tensors: stage by stage, and in a chain.

Tolerances are those of the golden data's README, measured against double precision.
"""
from __future__ import annotations

import numpy as np
import pytest

from adaptis.runtime import mx
from panoptic_baselines.dense_detections.convert import dense_detections_name
from panoptic_baselines.dense_detections.network import to_maps
from panoptic_baselines.layers.norm import FrozenBatchNorm
from panoptic_baselines.predictor import pad_batch
from tests.golden import weights
from tests.panoptic_baselines.dense_detections.golden import LEVELS, close

FEATURES, TOWERS, LOGITS, SMALL, PIXELS, PROBABILITY = 1e-4, 2e-4, 1e-3, 1e-4, 5e-3, 2e-4


def check_maps(maps, case, logits=LOGITS, small=SMALL, pixels=PIXELS):
    for key, found, tolerance in (('box_cls_logits', maps.logits, logits),
                                  ('box_offsets', maps.distances, pixels),
                                  ('centerness_logits', maps.centerness, small)):
        for level, x in zip(LEVELS, found):
            close(x, case[f'{key}_{level}'], tolerance)
    close(maps.semantic, case['sem_logits'], logits)
    close(maps.levelness, case['levelness_logits'], small)


def check_pyramid(pyramid, case):
    for level, x in zip(LEVELS, pyramid):
        whole = level in case
        close(x if whole else x[:, ::8], case[level if whole else f'{level}_c8'], FEATURES)


def check_towers(head, pyramid, case):
    classes, boxes = head.towers(*pyramid)
    for level, x, y in zip(LEVELS, classes, boxes):
        close(x[:, ::16], case[f'cls_tower_{level}_c16'], TOWERS)
        close(y[:, ::32], case[f'bbox_tower_{level}_c32'], TOWERS)
        close(head.box_offsets(y), case[f'bbox_raw_{level}'], SMALL)


def test_every_official_parameter_has_its_place(dense_net, dense_weights):
    ours = {dense_detections_name(name): array.shape for name, array in dense_weights.items()}
    assert len(ours) == len(dense_weights)
    assert ours == {name: p.shape for name, p in dense_net._collect_params_with_prefix().items()}
    later = 'backbone.fpn.inner_blocks.2.0.weight'   # as newer torchvision says it
    assert dense_detections_name(later) == 'encoder.fpn.lateral5.weight'
    for name in ('backbone.body.bn1.num_batches_tracked', 'fc.weight',
                 'panoptic_head.cls_tower.2.weight'):
        assert dense_detections_name(name) is None


def check_input(net, image, expected):
    batch = pad_batch([image], net.mean, divisor=net.divisor)
    assert batch.shape[2:] == image.shape[:2]
    close(net.encoder.normalize(mx.nd, batch), expected, 1e-5)


def test_input_of_a_tiny_image(dense_net, ops):
    check_input(dense_net, ops('preprocess')['rgb'], ops('preprocess')['input'])


@pytest.mark.parametrize('name', 'abc')
def test_input_is_normalised_exactly(dense_net, cases, name):
    check_input(dense_net, cases[name]['image'], cases[name]['input'])


def test_frozen_norm_without_epsilon(ops):
    d = ops('frozen_bn')
    for epsilon, key in ((0.0, 'y_eps0'), (1e-5, 'y_eps1e5')):
        norm = FrozenBatchNorm(6, epsilon)
        norm.initialize()
        for ours, theirs in (('gamma', 'weight'), ('beta', 'bias'),
                             ('running_mean',) * 2, ('running_var',) * 2):
            getattr(norm, ours).set_data(mx.nd.array(d[theirs]))
        np.testing.assert_allclose(norm(d.nd('x')).asnumpy()[0], d[key], rtol=2e-6, atol=1e-5)


def test_pyramid_of_odd_sizes(either_net, ops):
    d = ops('fpn_stage')
    features = [mx.nd.array(np.abs(weights.fill(f'ops.fpn.C{i}', d[f'shape_C{i}'], 'weight:1000')))
                for i in (3, 4, 5)]
    for level, x in zip(LEVELS, either_net.encoder.fpn(*features)):
        close(x[0, ::4].asnumpy(), d[f'{level}_c4'].reshape(x[0, ::4].shape), 1e-5)


def test_head_by_stage(either_net, ops):
    d = ops('head_stage')
    pyramid = [mx.nd.array(weights.fill(f'ops.head.{level}', (1, 256, h, w),
                                        f'weight:{256 * h * w}'))
               for level, (h, w) in zip(LEVELS, d['sizes'])]
    check_maps(to_maps(either_net.encoder.head(*pyramid)), d, logits=3e-4, pixels=3e-3)


def test_head_from_the_official_pyramid(either_net, cases):
    pyramid = [cases['b'].nd(level) for level in LEVELS]
    check_maps(to_maps(either_net.encoder.head(*pyramid)), cases['b'])


@pytest.mark.parametrize('name', 'abc')
def test_graph_in_a_chain(dense_net, cases, name):
    """From the image to all that suppression needs."""
    case = cases[name]
    batch = pad_batch([case['image']], dense_net.mean, divisor=1)
    dense_net.hybridize()
    check_dense(dense_net.encode(batch), case)
    if name == 'c':
        check_maps(dense_net.maps(batch), case)
        dense_net.hybridize(False)
        check_dense(dense_net.encode(batch), case)


def check_dense(dense, case):
    check_maps(dense.maps, case)
    close(dense.boxes.reshape((1, 4, -1)).transpose((0, 2, 1)), case['dense_boxes'], PIXELS)
    close(dense.things, case['thing_prob'], PROBABILITY)


@pytest.mark.parametrize('name', 'abc')
def test_features_in_a_chain(dense_net, cases, name):
    case, encoder = cases[name], dense_net.encoder
    batch = pad_batch([case['image']], dense_net.mean, divisor=1)
    dense_net.hybridize()
    features = encoder.backbone(encoder.normalize(mx.nd, batch))[1:]
    for i, x in zip((3, 4, 5), features):
        close(x[:, ::8], case[f'C{i}_c8'], FEATURES)
    pyramid = encoder.fpn(*features)
    check_pyramid(pyramid, case)
    check_towers(encoder.head, pyramid, case)
