"""Initial values, against the official recipe."""
from __future__ import annotations

import numpy as np
import pytest

from adaptis.runtime import mx
from panoptic_baselines.panoptic_fpn.network import PanopticFPN


@pytest.fixture(scope='module')
def weights():
    mx.random.seed(0)
    net = PanopticFPN(backbone='resnet18', num_things=20, fpn_channels=64, box_channels=128)
    net.initialize(mx.init.Xavier())   # as training does; each has a rule of its own
    return {name: p.data().asnumpy() for name, p in net._collect_params_with_prefix().items()}


@pytest.mark.parametrize('name, bound', [
    ('encoder.fpn.lateral3.weight', np.sqrt(3 / 128)), ('box_head.fc2.weight', np.sqrt(3 / 128)),
    ('encoder.fpn.output2.weight', np.sqrt(3 / (9 * 64)))])
def test_uniform_weights(weights, name, bound):
    assert np.abs(weights[name]).max() <= bound
    assert weights[name].std() == pytest.approx(bound / np.sqrt(3), rel=0.05)


@pytest.mark.parametrize('name, deviation', [
    ('encoder.rpn.conv.weight', 0.01), ('box_head.cls_score.weight', 0.01),
    ('box_head.bbox_pred.weight', 0.001), ('mask_head.predictor.weight', 0.001),
    ('mask_head.mask_fcn2.weight', np.sqrt(2 / (9 * 256))),
    ('mask_head.deconv.weight', np.sqrt(2 / (4 * 256))),
    ('encoder.semantic_head.p5.2.weight', np.sqrt(2 / (9 * 128))),
    ('encoder.semantic_head.predictor.weight', np.sqrt(2 / 54))])
def test_normal_weights(weights, name, deviation):
    assert weights[name].std() == pytest.approx(deviation, rel=0.05)
    assert abs(weights[name].mean()) < 0.05 * deviation


def test_biases_are_0_and_norms_do_nothing(weights):
    assert not any(a.any() for n, a in weights.items() if n.endswith(('.bias', '.beta', '_mean')))
    assert all((a == 1).all() for n, a in weights.items() if n.endswith(('.gamma', '_var')))
