"""Small unified networks, and what they segment."""
from __future__ import annotations

import functools
import re

import numpy as np
import pytest

from adaptis.runtime import mx
from adaptis.types import Category, Taxonomy
from panoptic_baselines.unified.network import Unified
from panoptic_baselines.unified.predictor import UnifiedPredictor
from panoptic_baselines.unified.settings import UnifiedSettings

TINY = dict(backbone='resnet18', num_things=2, num_stuff=3, fpn_channels=16, semantic_channels=32,
            affinity_channels=8, box_channels=16, mask_channels=8, deformable=False)
SMALL = 'rpn|phi|fpn.lateral|box_head|affinity_head|semantic_head.predictor'
TAXONOMY = Taxonomy([Category(i, str(i), i > 3) for i in range(1, 6)])
SETTINGS = UnifiedSettings(short_side=64, max_side=96, instance_score=0.2, score_threshold=0.0,
                           detections_per_image=7)


@functools.cache
def draw_weight(shape):
    """The same for all networks: to draw a backbone's takes longer than to run it."""
    values = np.random.default_rng(shape).standard_normal(shape, np.float32)
    return mx.nd.array(values * np.sqrt(2 / np.prod(shape[1:])))


def make_network(**options):
    net = Unified(**{**TINY, **options})
    weights = {name: p for name, p in net._collect_params_with_prefix().items()
               if name.endswith('.weight') and '.offset.' not in name}
    for p in weights.values():
        p.init = mx.init.Zero()
    net.initialize()
    for name, p in weights.items():   # small where they make logits and boxes
        p.set_data(draw_weight(p.shape) * (0.1 if re.search(SMALL, name) else 1))
    for layer, bias in ((net.box_head.cls_score, [1] * net.num_things + [0]),
                        (net.encoder.semantic_head.predictor,
                         [0] * net.num_stuff + [2] * net.num_things)):
        layer.bias.set_data(mx.nd.array(bias))   # so that there are things
    return net


def make_picture(height, width):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)


@pytest.fixture(scope='session')
def networks():
    """Hybridized networks with and without masks; tests must leave them as they are."""
    nets = {masks: make_network(masks=masks) for masks in (True, False)}
    for net in nets.values():
        net.hybridize()
    return nets


@pytest.fixture(params=[True, False], ids=['masks', 'no masks'])
def predictor(request, networks):
    return UnifiedPredictor(networks[request.param], TAXONOMY, SETTINGS)
