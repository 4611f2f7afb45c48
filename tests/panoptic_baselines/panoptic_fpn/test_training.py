"""Training Panoptic FPN and its variants, on a small network and images made here."""
from __future__ import annotations

import functools

import numpy as np
import pytest

from adaptis.engine.steps import prepare_gradients, seed_everything, train_step
from adaptis.errors import AdaptisError
from adaptis.runtime import mx
from panoptic_baselines.panoptic_fpn.network import PanopticFPN
from panoptic_baselines.panoptic_fpn.settings import PanopticFPNSettings
from panoptic_baselines.panoptic_fpn.training import PanopticFPNSystem
from panoptic_baselines.rcnn.sampling import RoITargets
from panoptic_baselines.rcnn.training import RoIs, add_placeholder, batch_rois
from panoptic_baselines.system import fill_padding
from tests.panoptic_baselines.training import (
    TAXONOMY,
    assert_a_graph_gives_the_same,
    assert_backbone_is_frozen,
    host_batch,
    learn,
    make_batch,
    scene,
)

pytestmark = pytest.mark.device('cpu:1')

SMALL = dict(backbone='resnet18', num_things=2, num_stuff=2, fpn_channels=64,
             semantic_channels=32, box_channels=32, mask_channels=16,
             anchor_sizes=(8, 16, 32, 64, 128))
INSTANCES = {'rpn_objectness', 'rpn_boxes', 'classes', 'boxes', 'masks'}


def make_net(options):
    mx.random.seed(0)
    np.random.seed(0)
    net = PanopticFPN(**{**SMALL, **dict(options)})
    net.initialize()
    return net


shared_net = functools.lru_cache(maxsize=2)(make_net)   # to be left as it is


def make_system(net_options=(), fresh=False, **options):
    """``net_options`` in pairs; ``fresh`` for tests that change the network."""
    net = (make_net if fresh else shared_net)(tuple(dict(net_options).items()))
    return PanopticFPNSystem(net, TAXONOMY, **{'rois': 64, **options})


@pytest.fixture(scope='module')
def batch():
    return make_batch(make_system(), scene(), scene(50, 40, ((5, 5, 45, 36, 3),)))


def test_every_loss_reaches_every_parameter_and_a_graph_gives_the_same(batch):
    losses, gradients = learn(make_system(), batch)
    assert set(losses) == INSTANCES | {'semantic'}
    assert all(np.isfinite(v) and v > 0 for v in losses.values())
    assert all(np.isfinite(g).all() and g.any() for g in gradients.values())
    assert_backbone_is_frozen(gradients)
    assert_a_graph_gives_the_same(make_system(hybridize=True), batch, losses, gradients)


def test_it_learns_by_the_steps_of_the_engine():
    system = make_system({'norm_layer': 'BatchNorm'}, fresh=True, frozen_stages=0, hybridize=True)
    trainer = mx.gluon.Trainer(system.parameters(), 'torchsgd', update_on_kvstore=False,
                               optimizer_params={'learning_rate': 0.01, 'wd': 1e-4})
    prepare_gradients(trainer, accumulate=True)
    batch = host_batch(system, scene(), scene(50, 40, ((5, 5, 45, 36, 3),)))
    history = []
    for step in range(6):
        seed_everything(0, 0, step)
        history.append(train_step(system, trainer, batch, [mx.current_context()], pieces=2))
    for name in ('rpn_objectness', 'classes', 'masks', 'semantic'):
        assert history[-1][name] < 0.95 * history[0][name], name
    assert history[-1]['semantic'] < 0.3 * history[0]['semantic']
    assert set(system.metrics()) == {'foreground'} and 0 < system.metrics()['foreground'] <= 0.25


def test_a_network_that_diverged_says_so(batch):
    system = make_system(fresh=True)
    system.net.encoder.rpn.objectness_logits.bias.data()[:] = np.nan
    with pytest.raises(AdaptisError, match='lower the learning rate'):
        learn(system, batch)


@pytest.mark.parametrize('options', [
    {'grouped_fpn': True}, {'semantic_join': 'concat'}, {'semantic_channels': 64}])
def test_variants_of_the_network(batch, options):
    losses, gradients = learn(make_system(options), batch)
    assert set(losses) == INSTANCES | {'semantic'}
    assert all(g.any() for g in gradients.values())


def test_each_branch_alone():
    system = make_system({'semantic': False})
    losses, gradients = learn(system, make_batch(system, scene()))
    assert set(losses) == INSTANCES and not any('semantic' in name for name in gradients)
    system = make_system({'instances': False, 'merge_things': False})
    batch = make_batch(system, scene())
    assert set(batch) == {'image', 'sizes', 'semantic'} and batch['semantic'].asnumpy().max() == 3
    losses, gradients = learn(system, batch)
    assert set(losses) == {'semantic'} and all(g.any() for g in gradients.values())


def test_weights_of_the_branches(batch):
    losses, _ = learn(make_system(), batch)
    weighted, _ = learn(make_system(instance_weight=0.25, semantic_weight=2), batch)
    for name, loss in losses.items():
        assert weighted[name] == pytest.approx(loss * (4 if name == 'semantic' else 0.25), rel=1e-5)


def test_alternating_updates(batch):
    system = make_system(updates='alternate')
    with pytest.raises(ValueError, match='begin_step'):
        system.losses(batch)
    system.begin_step(0)
    losses, gradients = learn(system, batch)
    assert losses['semantic'] == 0 and losses['masks'] > 0
    assert not gradients['encoder.semantic_head.predictor.weight'].any()
    system.begin_step(1)
    losses, gradients = learn(system, batch)
    assert losses['semantic'] > 0 and not any(losses[name] for name in INSTANCES)
    assert not gradients['mask_head.predictor.weight'].any()
    assert gradients['encoder.fpn.output2.weight'].any()


def test_images_without_objects_or_labels():
    system = make_system()
    empty = scene(32, 32, ())
    empty.semantic[:] = -1
    losses, gradients = learn(system, make_batch(system, empty))
    assert losses['semantic'] == losses['masks'] == losses['boxes'] == losses['rpn_boxes'] == 0
    assert losses['classes'] > 0 and losses['rpn_objectness'] > 0
    assert all(np.isfinite(g).all() for g in gradients.values())


def test_an_image_one_pixel_wide():
    system = make_system()
    losses, _ = learn(system, make_batch(system, scene(40, 1, ((5, 0, 20, 1, 2),))))
    assert all(np.isfinite(v) for v in losses.values())


def test_the_seed_decides_what_is_sampled(batch):
    system = make_system(rois=8)
    maps = system.net(batch['image'])
    rois = []
    for seed in (1, 1, 2):
        np.random.seed(seed)
        rois.append(system.sample_rois(maps, batch))
    assert [len(boxes) for boxes in rois[0].boxes] == [8, 8]
    assert (np.stack(rois[0].boxes) == np.stack(rois[1].boxes)).all()
    assert (np.stack(rois[0].boxes) != np.stack(rois[2].boxes)).any()
    np.random.seed(1)   # all on the device gives the same
    again = system.sample_rois(maps, {key: mx.nd.array(value) for key, value in batch.items()})
    assert (np.stack(rois[0].boxes) == np.stack(again.boxes)).all()
    assert (rois[0].masks == again.masks).all()


def test_padding_is_grey_to_the_network():
    image = mx.nd.ones((2, 3, 4, 5))
    painted = fill_padding(image, mx.nd.array([[4, 5], [2, 3]]), (10, 20, 30)).asnumpy()
    assert (painted[0] == 1).all() and (painted[1, :, :2, :3] == 1).all()
    for channel, colour in enumerate((10, 20, 30)):
        assert (painted[1, channel, 2:] == colour).all()
        assert (painted[1, channel, :, 3:] == colour).all()


def test_targets_of_regions_by_hand():
    instances = np.zeros((1, 20, 20), np.int32)
    instances[0, 4:14, 2:12] = 1
    boxes = np.float32([[2, 4, 12, 14], [2, 4, 22, 14], [0, 0, 5, 5]])
    rois = batch_rois([RoITargets(np.arange(3), boxes, np.array([1, 1, 2]), np.zeros(3, int))],
                      [boxes[:1]], instances, 2)
    np.testing.assert_allclose(rois.deltas, [
        [0, 0, 0, 0], [10 * -0.25, 0, 5 * np.log(0.5), 0], [0, 0, 0, 0]], atol=1e-6)
    assert rois.mask_classes.tolist() == [1, 1]
    assert rois.masks[0].sum() == 28 * 28 - 4   # a corner is less than half inside
    assert rois.masks[1][1:-1, :14].all() and not rois.masks[1][:, 14:].any()


def test_no_region_at_all():
    none = np.zeros((0, 4), np.float32)
    rois = add_placeholder(RoIs([none, none], np.zeros(0), none, [none, none], np.zeros(0),
                                np.zeros((0, 28, 28))))
    assert [len(b) for b in rois.boxes] == [len(b) for b in rois.mask_boxes] == [1, 0]
    assert rois.classes.tolist() == rois.mask_classes.tolist() == [-1]


@pytest.mark.parametrize('net_options, options, message', [
    ({}, {'updates': 'both'}, "updates is 'both'"),
    ({}, {'semantic_weight': -1}, 'semantic_weight'),
    ({}, {'foreground': 2}, 'from 0 to 1'), ({}, {'rois': 0}, 'rois is 0'),
    ({}, {'frozen_stages': 6}, '5 stages'),
    ({'semantic': False}, {'updates': 'alternate'}, 'the network has one')])
def test_choices_that_make_no_sense(net_options, options, message):
    with pytest.raises(AdaptisError, match=message):
        make_system(net_options, **options)


def test_predict():
    system = make_system()
    settings = PanopticFPNSettings(short_side=None, max_side=None, proposals=20,
                                   detections_per_image=5,
                                   stuff_area_limit=1)
    result = system.predict(scene().image, settings)
    assert result.segment_map.shape == (64, 64)
    assert {s.id for s in result.segments} == set(np.unique(result.segment_map)) - {0}
