"""Small networks of every family with its own way of export."""
from __future__ import annotations

import numpy as np

from adaptis.registry import find_family
from adaptis.runtime import mx
from adaptis.types import Category, Taxonomy
from panoptic_baselines.zoo import get_model

TINY = dict(backbone='resnet18', num_things=2, num_stuff=3, fpn_channels=16)
TWO_STAGE = dict(semantic_channels=32, box_channels=16, mask_channels=8)
CONDINST = dict(branch_channels=16, semantic_channels=32)
DENSE = dict(class_channels=8, box_channels=8)
UNIFIED = dict(TWO_STAGE, affinity_channels=8, deformable=False)
NETWORKS = {
    'panoptic_fpn': ('panoptic_fpn', dict(TWO_STAGE), {}),
    'panoptic_fpn, grouped': ('panoptic_fpn', dict(TWO_STAGE, grouped_fpn=True), {}),
    'panoptic_fpn, separate': ('panoptic_fpn', dict(TWO_STAGE, separate=True), {}),
    'mask_rcnn': ('mask_rcnn', dict(TWO_STAGE), {}),
    'semantic_fpn': ('semantic_fpn', dict(TWO_STAGE, merge_things=False), {}),
    'condinst': ('condinst', dict(CONDINST, semantic=True, things=True), {}),
    'condinst, absolute': ('condinst', dict(CONDINST, coordinates='absolute', levels=3),
                           {'nms': 'mask'}),
    'condinst, no features': ('condinst', dict(CONDINST, mask_channels=0), {}),
    'dense': ('dense_detections', dict(DENSE), {}),
    'dense, plain': ('dense_detections', dict(DENSE, levelness=False, semantic_stride=4, towers=1),
                     {'location': 'iou'}),
    'unified': ('unified', dict(UNIFIED), {}),
    'unified, A': ('unified', dict(UNIFIED, potential='A', affinity=False), {}),
    'unified, C': ('unified', dict(UNIFIED, potential='C'), {'merge': 'heuristic'}),
    'unified, boxes': ('unified', dict(UNIFIED, masks=False), {}),
}
TAXONOMY = Taxonomy([Category(i, str(i), i > 3) for i in range(1, 6)])


def build(case):
    """A hybridized network, its family, and its predictor."""
    name, options, settings = NETWORKS[case]
    mx.random.seed(0)
    net, family = get_model(name, **TINY, **options), find_family(name)
    net.initialize(mx.init.Normal(0.05))
    for part, parameter in net._collect_params_with_prefix().items():
        if part.endswith(('cls_score.bias', 'cls_logits.bias', 'class_logits.bias')):
            values = np.zeros(parameter.shape)
            values[:net.num_things] = 2    # so that there are things, not background alone
            parameter.set_data(mx.nd.array(values))
    net.hybridize()
    settings = family.presets['toy'].replace(
        short_side=64, max_side=96, score_threshold=0.0, detections_per_image=7,
        instance_score=0.1, stuff_area_limit=1, **settings)
    return net, family, family.make_predictor(net, settings, TAXONOMY, ())


def picture(size):
    return np.random.default_rng(sum(size)).integers(0, 256, (*size, 3)).astype(np.uint8)


def same(found, expected):
    np.testing.assert_array_equal(found.segment_map, expected.segment_map)
    assert found.segments == expected.segments
    assert (found.objects is None) == (expected.objects is None)
    if found.objects is not None:
        np.testing.assert_array_equal(found.objects.masks, expected.objects.masks)
        np.testing.assert_array_equal(found.objects.scores, expected.objects.scores)
