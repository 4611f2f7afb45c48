"""Small unified networks, and what they segment."""
from __future__ import annotations

import numpy as np
import pytest

from adaptis.runtime import mx
from adaptis.types import Category, Taxonomy
from panoptic_baselines.settings import UnifiedSettings
from panoptic_baselines.unified import Unified
from panoptic_baselines.unified_predictor import UnifiedPredictor

TINY = dict(backbone='resnet18', num_things=2, num_stuff=3, fpn_channels=16, semantic_channels=32,
            affinity_channels=8, box_channels=16, mask_channels=8, deformable=False)
TAXONOMY = Taxonomy([Category(i, str(i), i > 3) for i in range(1, 6)])
SETTINGS = UnifiedSettings(short_side=64, max_side=96, instance_score=0.2, score_threshold=0.0,
                           detections_per_image=7)


def make_network(**options):
    mx.random.seed(0)
    np.random.seed(0)
    net = Unified(**{**TINY, **options})
    net.initialize(mx.init.Normal(0.05))
    for name, p in net._collect_params_with_prefix().items():
        if name.endswith(('phi0.weight', 'phi1.weight', 'predictor.weight', 'cls_score.weight')):
            p.set_data(mx.nd.random.normal(scale=0.05, shape=p.shape))   # opinions
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
