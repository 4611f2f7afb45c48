"""Training CondInst, on a small network and images made here."""
from __future__ import annotations

import functools
import math

import numpy as np
import pytest

from adaptis.engine.steps import prepare_gradients, seed_everything, train_step
from adaptis.errors import AdaptisError
from adaptis.runtime import mx
from panoptic_baselines.condinst.network import CondInst
from panoptic_baselines.condinst.settings import CondInstSettings
from panoptic_baselines.condinst.training import CondInstSystem
from tests.panoptic_baselines.training import (
    TAXONOMY,
    assert_a_graph_gives_the_same,
    assert_backbone_is_frozen,
    host_batch,
    learn,
    make_batch,
    scene,
)

SMALL = dict(backbone='resnet18', num_things=2, num_stuff=2, fpn_channels=64, branch_channels=16,
             semantic_channels=32, head_depth=1, semantic=True, things=True)
INSTANCES = {'classes', 'boxes', 'centerness', 'masks'}
BOTH = INSTANCES | {'things', 'semantic'}


def make_net(contexts=None, **options):
    mx.random.seed(0)
    np.random.seed(0)
    net = CondInst(**{**SMALL, **options})
    net.initialize(ctx=contexts)
    return net


shared_net = functools.lru_cache(maxsize=2)(make_net)   # nobody changes its weights


def make_system(net_options=(), **options):
    return CondInstSystem(shared_net(**dict(net_options)), TAXONOMY, **options)


@pytest.fixture(scope='module')
def batch():
    return make_batch(make_system(), scene(), scene(50, 40, ((5, 5, 45, 36, 3),)))


@pytest.fixture(scope='module')
def learned(batch):
    return learn(make_system(), batch)


UNREACHED = tuple(f'encoder.head.scales.{i}' for i in (1, 2, 3, 4))   # no object is large enough


def test_every_loss_reaches_every_parameter_and_a_graph_gives_the_same(batch, learned):
    losses, gradients = learned
    assert set(losses) == BOTH
    assert all(np.isfinite(v) and v > 0 for v in losses.values())
    for name, gradient in gradients.items():
        assert np.isfinite(gradient).all()
        assert gradient.any() != name.startswith(UNREACHED), name
    assert_backbone_is_frozen(gradients)
    assert_a_graph_gives_the_same(make_system(hybridize=True), batch, losses, gradients, near=2e-3)


@pytest.mark.parametrize('contexts, pieces', [(1, 2), (2, 1)])
def test_parts_of_a_batch_are_normalised_like_the_whole(contexts, pieces):
    """One after another or on devices, but for the dice loss, a mean over the masks of a part."""
    def step(contexts, pieces):
        devices = [mx.cpu(i) for i in range(contexts)]
        net = make_net(devices, semantic=False, things=False, branch_norm='FrozenBatchNorm')
        system = CondInstSystem(net, TAXONOMY, mask_weight=0)
        batch = host_batch(system, scene(), scene(objects=((20, 20, 28, 29, 2),)))
        trainer = mx.gluon.Trainer(system.parameters(), 'sgd', {'learning_rate': 1},
                                   update_on_kvstore=False)
        prepare_gradients(trainer, accumulate=pieces > 1)
        losses = train_step(system, trainer, batch, devices, pieces)
        return losses, {name: parameter.data(devices[0]).asnumpy() for name, parameter
                        in net._collect_params_with_prefix().items()}
    (whole, expected), (parts, found) = step(1, 1), step(contexts, pieces)
    assert parts == pytest.approx(whole, rel=1e-5)
    assert max(np.abs(found[name] - array).max() for name, array in expected.items()) < 1e-6


@pytest.mark.parametrize('positives, objects', [
    ('random', ()), ('score', ()), ('random', ((10, 10, 11, 11, 2),)),
    ('score', ((0, 0, 1, 64, 3), (63, 63, 64, 64, 2), (5, 5, 12, 12, 2)))])
def test_images_in_which_nothing_is_found(positives, objects):
    """None there, too small for any location, or at the border: a step like any other."""
    system = make_system(positives=positives)
    batch = make_batch(system, scene(objects=objects))
    assert (batch['objects'] < 0).all()
    losses, gradients = learn(system, batch)
    assert set(losses) == BOTH and all(np.isfinite(loss) for loss in losses.values())
    assert losses['boxes'] == losses['centerness'] == losses['masks'] == 0 < losses['classes']
    assert system.metrics() == {'positives': 0}
    assert all(np.isfinite(gradient).all() for gradient in gradients.values())
    assert gradients['encoder.head.cls_logits.bias'].any()
    assert not gradients['encoder.head.controller.weight'].any()


def test_one_image_of_two_without_objects():
    system = make_system()
    losses, gradients = learn(system, make_batch(system, scene(objects=()), scene()))
    assert all(np.isfinite(loss) and loss > 0 for loss in losses.values())
    assert gradients['encoder.head.controller.weight'].any()


def test_no_more_positives_than_the_limit(batch):
    system = make_system(positives='random', limit=3)
    maps = system.net(batch['image'])
    chosen = []
    for seed in (0, 0, 1):
        np.random.seed(seed)
        chosen.append(system.select_positives(maps, batch))
    assert (chosen[0] == chosen[1]).all() and (chosen[0] != chosen[2]).any()
    assert chosen[0].shape == (2, 3)
    system.losses_from_maps(maps, batch)
    assert system.metrics() == {'positives': 3}
    everything = make_system(positives='random').select_positives(maps, batch)
    assert everything.shape[1] == (batch['objects'] >= 0).sum() > 20
    chosen = make_system(limit=4).select_positives(maps, batch)
    assert chosen[0].tolist() == [0] * 4 + [1] * 4 and (batch['objects'][tuple(chosen)] >= 0).all()
    chosen = make_system(positives='score_per_object', limit=4).select_positives(maps, batch)
    owners = batch['objects'][chosen[0], chosen[1]]
    assert chosen[0].tolist() == [0] * 4 + [1] * 4 and owners.tolist() == [0, 0, 1, 1] + [0] * 4


@pytest.mark.parametrize('positives', ['score', 'score_per_object'])
def test_the_largest_scores_are_chosen(batch, positives):
    system = make_system(positives=positives, limit=4)
    maps = system.net(batch['image'])
    maps.centerness[0][:] = 0
    cells = np.flatnonzero(batch['objects'][1] == 0)[-4:].tolist()
    for cell in cells:
        maps.centerness[0][1, 0, cell // 8, cell % 8] = 5
    chosen = system.select_positives(maps, batch)
    assert sorted(chosen[1, chosen[0] == 1]) == sorted(cells)


def test_weights(batch, learned):
    weighted, _ = learn(make_system(mask_weight=2, things_weight=0, semantic_weight=0.25), batch)
    for name, loss in learned[0].items():
        factor = {'masks': 2, 'things': 0, 'semantic': 0.5}.get(name, 1)
        assert weighted[name] == pytest.approx(loss * factor, rel=1e-5)


@pytest.mark.parametrize('net_options', [
    {'things': False, 'mask_depth': 1}, {'semantic': False, 'mask_factor': 1},
    {'mask_channels': 0, 'coordinates': 'absolute', 'mask_factor': 4},
    {'levels': 3, 'share_depth': 1, 'head_depth': 0, 'semantic_join': 'plain'}])
def test_variants_of_the_network(net_options):
    system = make_system(net_options)
    batch = make_batch(system, scene())
    side = 64 // 8 * net_options.get('mask_factor', 2)
    assert batch['masks'].shape == (1, 2, side, side)
    losses, gradients = learn(system, batch)
    left = {name for name in ('things', 'semantic') if net_options.get(name, True)}
    assert set(losses) == INSTANCES | left
    assert all(gradient.any() for name, gradient in gradients.items()
               if not name.startswith(UNREACHED))


def test_other_losses_of_boxes(batch):
    maps = make_system().net(batch['image'])
    maps = maps._replace(distances=[x * 0 + 3 for x in maps.distances])
    found = [{name: float(loss.asscalar())
              for name, loss in system.losses_from_maps(maps, batch).items()}
             for system in (make_system(box_loss=kind) for kind in ('giou', 'iou', 'linear_iou'))]
    assert found[0]['boxes'] > found[2]['boxes'] * 1.005   # what is around both counts, too
    assert found[1]['boxes'] > found[2]['boxes'] * 1.1    # -log x > 1 - x
    assert found[0]['classes'] == pytest.approx(found[1]['classes'], rel=1e-6)


def test_a_network_that_diverged_says_so(batch):
    system = CondInstSystem(make_net(), TAXONOMY, positives='score')
    system.net.encoder.head.cls_logits.bias.data()[:] = np.nan
    with pytest.raises(AdaptisError, match='lower the learning rate'):
        learn(system, batch)


@pytest.mark.parametrize('options, message', [
    ({'positives': 'best'}, "positives is 'best'"), ({'positives': ['score']}, 'positives is'),
    ({'box_loss': 'l1'}, "box_loss is 'l1'"), ({'radius': math.inf}, 'radius is inf'),
    ({'limit': 0}, 'limit is 0'), ({'limit': 'all'}, 'limit is'), ({'radius': -1}, 'radius is -1'),
    ({'mask_weight': -1}, 'mask_weight'), ({'center': 'left'}, "center is 'left'"),
    ({'frozen_stages': 6}, '5 stages')])
def test_choices_that_make_no_sense(options, message):
    with pytest.raises(AdaptisError, match=message):
        make_system(**options)


def overlaps(system, samples):
    """Of every object the best IoU of a thing in the panoptic result."""
    settings = CondInstSettings(short_side=None, max_side=None, stuff_area_limit=1)
    found = []
    for sample in samples:
        result = system.predict(sample.image, settings)
        things = [result.segment_map == s.id for s in result.segments if s.isthing]
        for id_ in sample.classes:
            mask = sample.instances == id_
            found.append(max(((mask & t).sum() / (mask | t).sum() for t in things), default=0))
    return np.array(found)


def test_it_learns_masks_that_overlap_the_truth():
    """Two pictures of two objects each, from random weights, in 40 steps."""
    net = make_net(norm_layer='BatchNorm')
    system = CondInstSystem(net, TAXONOMY, positives='score', frozen_stages=0, hybridize=True)
    samples = [scene(), scene(objects=((4, 30, 30, 60, 3), (36, 4, 60, 28, 2)))]
    batch = host_batch(system, *samples)
    trainer = mx.gluon.Trainer(system.parameters(), 'adam', {'learning_rate': 2e-3},
                               update_on_kvstore=False)
    assert (overlaps(system, samples) == 0).all()
    history = []
    for step in range(40):
        seed_everything(0, 0, step)
        history.append(train_step(system, trainer, batch, [mx.current_context()]))
    first, last = history[0], history[-1]
    for name, share in (('classes', 0.02), ('boxes', 0.2), ('masks', 0.3), ('things', 0.5),
                        ('semantic', 0.05)):
        assert last[name] < share * first[name], name
    assert last['centerness'] < first['centerness']
    assert overlaps(system, samples).min() > 0.55
