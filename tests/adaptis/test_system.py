"""The system that training sees: which parameters a stage moves, and that it learns."""
from __future__ import annotations

import numpy as np
import pytest

from adaptis.errors import AdaptisError
from adaptis.inference.settings import AdaptISSettings
from adaptis.model import get_model
from adaptis.runtime import mx
from adaptis.system import AdaptISSystem

pytestmark = pytest.mark.device('cpu:1')


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
        # What a stage leaves alone keeps its running statistics too.
        assert {n.startswith('encoder.proposals') for n in changed} == {moves_proposals}
        assert any('.running_' in n for n in changed)


@pytest.fixture
def photo_net():
    mx.random.seed(1)
    net = get_model('adaptis_fpn', backbone='resnet18', width=8, num_classes=2, num_stuff=1)
    net.initialize(mx.init.Xavier())
    return net


def make_photo_batch():
    """``make_batch`` enlarged, so that a pixel of the network's maps is one of those images."""
    batch = {key: value.asnumpy() for key, value in make_batch().items()}
    for key in ('image', 'instances', 'semantic'):
        batch[key] = batch[key].repeat(5, axis=-1).repeat(5, axis=-2)
    batch['points'] = batch['points'] * 5
    return {key: mx.nd.array(value) for key, value in batch.items()}


def test_losses_are_taken_at_the_size_of_the_image(photo_net):
    batch = make_photo_batch()
    mx.random.seed(2)
    system = AdaptISSystem(photo_net, instance_loss='bce', semantic_loss='cross_entropy',
                           semantic_weight=1)
    losses = system.losses(batch)     # not recorded: the way of inference, without dropout
    logits, semantic, _ = photo_net(batch['image'], batch['points'])
    assert logits.shape == (4, 1, 80, 80)
    bce = mx.gluon.loss.SigmoidBCELoss()(logits, batch['instances']).mean()
    cross_entropy = mx.gluon.loss.SoftmaxCELoss(axis=1)(semantic, batch['semantic']).mean()
    assert losses['instances'].asscalar() == pytest.approx(bce.asscalar(), rel=1e-5)
    assert losses['semantic'].asscalar() == pytest.approx(cross_entropy.asscalar(), rel=1e-5)


@pytest.mark.parametrize('stage', ['instances', 'proposals'])
def test_photo_networks_learn(photo_net, stage):
    system = AdaptISSystem(photo_net, stage)
    before = _values(photo_net)
    trainer = mx.gluon.Trainer(system.parameters(), 'adam', {'learning_rate': 0.01})
    history = [sum(_step(system, trainer, make_photo_batch()).values()) for _ in range(6)]
    assert np.isfinite(history).all()
    changed = {n for n, value in _values(photo_net).items() if not np.array_equal(value, before[n])}
    if stage == 'instances':
        assert history[-1] < 0.8 * history[0]
    assert {n.startswith('encoder.proposals') for n in changed} == {stage == 'proposals'}


def test_instance_losses_wait_for_no_device(net, monkeypatch):
    """Else the first of several devices would wait for the statistics of one not started."""
    system, batch = AdaptISSystem(net), make_batch()

    def wait(*_):
        raise AssertionError('waits')
    with monkeypatch.context() as patched:
        for name in ('asnumpy', 'wait_to_read'):
            patched.setattr(mx.nd.NDArray, name, wait)
        with mx.autograd.record():
            losses = system.losses(batch)
    assert float(losses['instances'].asscalar()) > 0
    assert system.state()['count'] == 1     # but seen they are, as soon as that is asked for


def test_prediction(net):
    image = np.random.default_rng(0).integers(0, 256, (16, 20, 3)).astype(np.uint8)
    settings = AdaptISSettings(sampling='random', num_iterations=2)
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
    ({'instance_alpha': 1.5}, 'instance_alpha is 1.5: it must be a number between 0 and 1'),
    ({'semantic_gamma': 'two'}, 'semantic_gamma'),
    ({'semantic_loss': 'cross_entropy', 'semantic_gamma': 1}, 'has no gamma'),
    ({'bad_percentile': 130}, 'bad_percentile is 130: it must be a number between 0 and 100')])
def test_choices_that_make_no_sense_are_named(net, options, word):
    with pytest.raises(AdaptisError, match=word):
        AdaptISSystem(net, **options)


def test_proposals_need_their_branch():
    net = get_model('adaptis_toy', width=4, proposals=False)
    with pytest.raises(AdaptisError, match='no proposal branch'):
        AdaptISSystem(net, 'proposals')
