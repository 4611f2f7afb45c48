"""Training dense detections and their variants, on a small network and images made here."""
from __future__ import annotations

import numpy as np
import pytest

from adaptis.engine.steps import split_batch, train_step
from adaptis.errors import AdaptisError
from adaptis.runtime import mx
from adaptis.types import Category, Taxonomy
from panoptic_baselines.dense_detections.network import DenseDetections
from panoptic_baselines.dense_detections.settings import DenseDetectionsSettings
from panoptic_baselines.dense_detections.training import DenseDetectionsSystem
from tests.panoptic_baselines import training
from tests.panoptic_baselines.training import (
    TAXONOMY,
    assert_a_graph_gives_the_same,
    assert_backbone_is_frozen,
    host_batch,
    learn,
    make_batch,
    to_device,
)

SMALL = dict(backbone='resnet18', num_things=2, num_stuff=2, fpn_channels=32, class_channels=16,
             box_channels=32)
DENSE = {'classes', 'boxes', 'centerness', 'levelness', 'semantic'}
SETTINGS = DenseDetectionsSettings(short_side=None, max_side=None, stuff_area_limit=1,
                                   instance_score=0.3)
WEAK = dict(supervision='boxes', mask_loss=False)
nd = mx.nd


def make_net(unsure=True, **options):
    """An ``unsure`` one sees half a chance of everything in boxes of 24 pixels."""
    mx.random.seed(0)
    np.random.seed(0)
    net = DenseDetections(**{**SMALL, **options})
    net.initialize()
    if unsure:
        net.encoder.head.class_logits.bias.set_data(nd.zeros(net.num_things))
        net.encoder.head.box_offsets.bias.set_data(nd.full(4, np.log(12)))
    return net


def make_system(net, **options):
    return DenseDetectionsSystem(net, TAXONOMY, **options)


@pytest.fixture(scope='module')
def net():
    """Of most tests, which do not change it, and do not look at its backbone."""
    net = make_net()
    net.encoder.backbone.freeze(5)
    return net


def scene(height=64, width=64, objects=((4, 2, 34, 28, 2), (30, 32, 60, 62, 3))):
    return training.scene(height, width, objects)


@pytest.fixture(scope='module')
def batch(net):
    return make_batch(make_system(net), scene(), scene(50, 40, ((5, 5, 45, 36, 3),)))


def test_every_loss_reaches_every_parameter_and_a_graph_gives_the_same():
    net, sizes = make_net(), (16, 24, 32, 48)
    system = make_system(net, sizes=sizes)   # so that every level finds something
    batch = make_batch(system, scene(), scene(50, 60, ((3, 3, 50, 60, 3),)))
    losses, gradients = learn(system, batch)
    assert set(losses) == DENSE | {'masks'} and system.metrics()['queries'] > 0
    assert all(np.isfinite(v) and v > 0 for v in losses.values())
    assert all(np.isfinite(g).all() for g in gradients.values())
    untouched = {name for name, gradient in gradients.items() if not gradient.any()}
    assert not {name for name in untouched if 'scales' not in name}
    assert_backbone_is_frozen(gradients)
    assert_a_graph_gives_the_same(make_system(net, sizes=sizes, hybridize=True), batch, losses,
                                  gradients)


def test_the_mask_loss_moves_boxes_alone(net, batch):
    with_masks, without = (learn(make_system(net, mask_loss=on), batch) for on in (True, False))
    assert set(without[0]) == DENSE
    for name, value in without[0].items():
        assert with_masks[0][name] == pytest.approx(value, rel=1e-5)
    moved = {name.split('.')[2] for name, gradient in with_masks[1].items() if 'head' in name
             and np.abs(gradient - without[1][name]).max() > 1e-4 * np.abs(gradient).max()}
    assert moved == {'box_tower', 'box_offsets', 'scales'}


def test_parts_of_a_batch_weigh_what_they_do_in_the_whole(net):
    system = make_system(net, mask_loss=False)
    batch = host_batch(system, scene(), scene(objects=((0, 0, 20, 20, 2),)))
    whole, _ = learn(system, to_device(system, batch))
    parts = [learn(system, to_device(system, part))[0] for part in split_batch(batch, 2)]
    for name, value in whole.items():
        assert np.mean([part[name] for part in parts]) == pytest.approx(value, rel=1e-5), name


@pytest.mark.parametrize('net_options, options, named', [
    ({'towers': 1}, {}, DENSE | {'masks'}),
    ({'levelness': False}, {}, (DENSE | {'masks'}) - {'levelness'}),
    ({'semantic_stride': 4}, {'overlap': 'giou', 'box_loss': 'smooth_iou'}, DENSE | {'masks'}),
    ({}, WEAK, DENSE)])
def test_variants(net_options, options, named):
    system = make_system(make_net(**net_options), **options)
    losses, gradients = learn(system, make_batch(system, scene()))
    assert set(losses) == named and all(np.isfinite(v) for v in losses.values())
    assert all(np.isfinite(g).all() for g in gradients.values())
    assert gradients['encoder.backbone.res3.0.conv1.weight'].any()


def test_one_graph_for_every_size_and_number_of_images(net):
    plain = make_system(net)
    batches = [make_batch(plain, *samples) for samples in (
        [scene(40, 40)], [scene(), scene(70, 30)], [scene(40, 40)], [scene(32, 96)])]
    expected = [learn(plain, batch)[0] for batch in batches]
    graph = make_system(net, hybridize=True)
    for batch, losses in zip(batches, expected):
        assert learn(graph, batch)[0] == pytest.approx(losses, rel=1e-4)


def test_one_class_of_each_kind():
    taxonomy = Taxonomy([Category(1, 'ground', False), Category(2, 'thing', True)])
    system = DenseDetectionsSystem(make_net(num_things=1, num_stuff=1), taxonomy, hybridize=True)
    sample = scene(32, 48, ((3, 3, 30, 30, 1),))
    sample.semantic[sample.instances == 0] = 0
    losses, gradients = learn(system, make_batch(system, sample))
    assert all(np.isfinite(v) and v > 0 for v in losses.values())
    assert all(np.isfinite(g).all() for g in gradients.values())


def test_weights_and_normalizers(net, batch):
    losses, _ = learn(make_system(net, mask_loss=False), batch)
    changed, _ = learn(make_system(net, mask_loss=False, semantic_weight=0.4,
                                   focal_normalizer='foreground'), batch)
    found = (batch['labels'] >= 0).sum().asscalar()
    assert changed['semantic'] == pytest.approx(0.4 * losses['semantic'], rel=1e-5)
    assert changed['classes'] == pytest.approx(losses['classes'] * batch['labels'].size / found,
                                               rel=1e-5)
    assert changed['boxes'] == pytest.approx(losses['boxes'], rel=1e-5)


@pytest.mark.parametrize('options', [{}, pytest.param(WEAK, marks=pytest.mark.slow)],
                         ids=['masks', 'boxes'])
def test_it_learns_a_scene_by_heart(options):
    system = make_system(make_net(False, semantic_stride=4), frozen_stages=5, hybridize=True,
                         focal_normalizer='foreground', **options)
    trainer = mx.gluon.Trainer(system.parameters(), 'adam', {'learning_rate': 0.01},
                               update_on_kvstore=False)
    sample = scene()
    batch, history = host_batch(system, sample), []
    for step in range(52):
        trainer.set_learning_rate(0.01 if step < 44 else 0.001)
        history.append(train_step(system, trainer, batch, [mx.current_context()]))
    for name in ('classes', 'boxes', 'levelness', 'semantic'):
        assert history[-1][name] < 0.3 * history[0][name], name
    result = system.predict(sample.image, SETTINGS)
    assert sorted(s.category_id for s in result.segments) == [1, 2, 3, 4]
    for segment in result.segments:
        found = result.segment_map == segment.id
        truth = sample.semantic == segment.category_id - 1
        assert (found & truth).sum() / (found | truth).sum() > (0.5 if segment.isthing else 0.85)


@pytest.mark.parametrize('options', [{}, WEAK], ids=['masks', 'boxes'])
@pytest.mark.parametrize('size, objects', [
    ((32, 32), ()),                                       # no foreground pixel
    ((32, 32), ((1, 1, 2, 2, 2), (9, 12, 10, 13, 3))),    # objects between the locations
    ((64, 64), ((0, 0, 64, 64, 2),)),                     # one huge instance
    ((40, 40), ((2, 2, 38, 38, 2), (2, 2, 38, 38, 3))),   # two identical boxes
    ((1, 1), ()), ((1, 77), ((0, 3, 1, 70, 2),)), ((97, 33), ((12, 2, 13, 30, 2),))])
def test_odd_images(net, size, objects, options):
    sample = scene(*size, objects)
    if len(objects) == 2 and objects[0][:4] == objects[1][:4]:
        sample.instances[2:38:2, 2:38] = 5     # rows of both objects in turn
        sample.instances[37, 37] = 5
        sample.instances[2, 2] = 10
    system = make_system(net, **options)
    losses, gradients = learn(system, make_batch(system, sample))
    assert all(np.isfinite(v) for v in losses.values()) and losses['classes'] > 0
    assert all(np.isfinite(g).all() for g in gradients.values())
    if not objects:
        assert losses['boxes'] == losses['centerness'] == losses.get('masks', 0) == 0
        assert not gradients['encoder.head.box_offsets.weight'].any()


def test_an_image_without_labels(net):
    system, sample = make_system(net), scene(32, 32, ())
    sample.semantic[:] = -1
    losses, gradients = learn(system, make_batch(system, sample))
    assert losses['semantic'] == losses['boxes'] == losses['masks'] == 0 < losses['levelness']
    assert not gradients['encoder.head.semantic.weight'].any()


def test_a_network_that_diverged_says_so(batch):
    system = make_system(make_net())
    system.net.encoder.head.centerness.bias.data()[:] = np.nan
    with pytest.raises(AdaptisError, match='lower the learning rate'):
        learn(system, batch)


@pytest.mark.parametrize('options, expected', [
    ({}, {'weight': (1, 1), 'bias': (1, 1), 'gamma': (1, 0), 'beta': (1, 0)}),
    (dict(bias_lr_mult=2, bias_wd_mult=0, norm_wd_mult=1),   # FCOS
     {'weight': (1, 1), 'bias': (2, 0), 'gamma': (1, 1), 'beta': (2, 0)})])
def test_rates_and_decay_of_biases_and_norms(options, expected):
    net = make_net()
    system = make_system(net, **options)
    names = {p.name: n for n, p in net._collect_params_with_prefix().items()}
    found = {}
    for key, parameter in system.parameters().items():
        kind = names[key].rsplit('.', 1)[1]
        found.setdefault(kind, set()).add((parameter.lr_mult, parameter.wd_mult))
    assert {kind: found[kind] for kind in expected} == {k: {v} for k, v in expected.items()}


@pytest.mark.parametrize('options, message', [
    ({'supervision': 'points'}, "supervision is 'points'"), ({'mask_loss': 'yes'}, 'mask_loss'),
    ({'supervision': 'boxes'}, 'mask_loss needs masks'), ({'bias_lr_mult': -1}, 'bias_lr_mult is'),
    ({'box_loss': 'giou'}, 'choose one of .*smooth_iou'),
    ({'focal_normalizer': 'images'}, 'focal_normalizer'), ({'overlap': 'dice'}, 'overlap'),
    ({'mask_loss': 1}, 'mask_loss is 1'), ({'semantic_weight': -1}, 'semantic_weight'),
    ({'semantic_weight': float('inf')}, 'semantic_weight is inf: .* number of at least 0'),
    ({'queries': 0}, 'queries is 0'), ({'queries': 1.5}, 'queries is 1.5'),
    ({'queries': float('inf')}, 'queries is inf'),
    ({'sizes': (64, 128)}, '4 positive numbers'),
    ({'sizes': (64, 32, 128, 256)}, 'sizes.*ascending'),
    ({'sizes': (64, 64, 128, 256)}, 'ascending'), ({'sizes': (1, 2, 3, float('inf'))}, 'sizes'),
    ({'sizes': 'small'}, "sizes is 'small'"), ({'hybridize': 'maybe'}, "hybridize is 'maybe'"),
    ({'frozen_stages': 6}, '5 stages'), ({'frozen_stages': 1.5}, '1.5 of them'),
    ({'frozen_stages': True}, 'True of them')])
def test_choices_that_make_no_sense(net, options, message):
    with pytest.raises(AdaptisError, match=message):
        make_system(net, **options)
