"""The system that training sees: which parameters a stage moves, and that it learns."""
from __future__ import annotations

import numpy as np
import pytest

from adaptis.errors import AdaptisError
from adaptis.inference.settings import Settings
from adaptis.model import get_model
from adaptis.runtime import mx
from adaptis.system import AdaptISSystem


@pytest.fixture
def net():
    mx.random.seed(1)
    net = get_model('adaptis_toy', width=4)
    net.initialize(mx.init.Xavier())
    return net


def make_batch():
    """Two squares on each of two images, one point in each square."""
    masks = np.zeros((4, 1, 16, 16))
    masks[0::2, 0, 2:7, 2:7] = 1
    masks[1::2, 0, 9:14, 8:14] = 1
    image = np.repeat(masks.reshape(2, 2, 16, 16).sum(axis=1)[:, None], 3, axis=1) * 200
    semantic = masks.reshape(2, 2, 16, 16).sum(axis=1)
    points = np.array([[[4, 4], [11, 11]]] * 2)
    return {key: mx.nd.array(value) for key, value in {
        'image': image, 'points': points, 'instances': masks, 'semantic': semantic}.items()}


def _step(system, trainer, batch):
    with mx.autograd.record():
        losses = system.losses(batch)
        total = sum(losses.values())
    total.backward()
    trainer.step(1)
    return {name: float(value.asscalar()) for name, value in losses.items()}


def _values(net):
    return {n: p.data().asnumpy().copy() for n, p in net._collect_params_with_prefix().items()}


def test_instances_are_learnt(net):
    system = AdaptISSystem(net)
    trainer = mx.gluon.Trainer(system.parameters(), 'adam', {'learning_rate': 0.01})
    batch = make_batch()
    history = [_step(system, trainer, batch) for _ in range(40)]
    assert history[-1]['instances'] < 0.5 * history[0]['instances']
    assert history[-1]['semantic'] < 0.5 * history[0]['semantic']
    assert 0 < system.metrics()['iou'] <= 1


@pytest.mark.parametrize('hybridize', [False, True])
def test_stages_move_their_own_parameters(net, hybridize):
    # Only masks that are somewhat right give the proposal branch something to learn.
    for stage, steps, moves_proposals in (('instances', 30, False), ('proposals', 1, True)):
        system = AdaptISSystem(net, stage, hybridize=hybridize)
        trainer = mx.gluon.Trainer(system.parameters(), 'adam', {'learning_rate': 0.01})
        before = _values(net)
        for _ in range(steps):
            losses = _step(system, trainer, make_batch())
        assert all(value > 0 for value in losses.values())
        changed = {n for n, value in _values(net).items() if not np.array_equal(value, before[n])}
        weights = {n for n in changed if '.running_' not in n}
        assert {n.startswith('encoder.proposals') for n in weights} == {moves_proposals}
        if stage == 'proposals':  # the frozen rest keeps its running statistics too
            assert all(n.startswith('encoder.proposals') for n in changed)


def test_prediction(net):
    image = np.random.default_rng(0).integers(0, 256, (16, 20, 3)).astype(np.uint8)
    settings = Settings(sampling='random', num_iterations=2)
    result = AdaptISSystem(net).predict(image, settings=settings)
    assert result.segment_map.shape == (16, 20)


def test_state_survives(net):
    system, other = AdaptISSystem(net), AdaptISSystem(net)
    system.losses(make_batch())
    other.load_state(system.state())
    assert other.metrics() == system.metrics()


@pytest.mark.parametrize('options, word', [
    ({'stage': 'both'}, 'both'), ({'instance_loss': 'dice'}, 'dice'),
    ({'semantic_loss': 'dice'}, 'dice'), ({'semantic_loss': ['bce']}, 'bce'),
    ({'semantic_weight': '1'}, "semantic_weight is '1'"), ({'semantic_weight': -1}, 'weight'),
    ({'bad_percentile': 130}, 'bad_percentile is 130: it must be a number from 0 to 100')])
def test_choices_that_make_no_sense_are_named(net, options, word):
    with pytest.raises(AdaptisError, match=word):
        AdaptISSystem(net, **options)


def test_proposals_need_their_branch():
    net = get_model('adaptis_toy', width=4, proposals=False)
    with pytest.raises(AdaptisError, match='no proposal branch'):
        AdaptISSystem(net, 'proposals')
