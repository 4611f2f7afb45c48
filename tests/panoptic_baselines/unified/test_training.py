"""Training the unified network and its variants, on small networks and images made here."""
from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest

from adaptis.engine.steps import prepare_gradients, seed_everything, train_step
from adaptis.errors import AdaptisError
from adaptis.runtime import mx
from adaptis.types import Sample
from panoptic_baselines.rcnn.proposals import Detections
from panoptic_baselines.unified.network import Unified
from panoptic_baselines.unified.settings import UnifiedSettings
from panoptic_baselines.unified.training import MatchedDetections, UnifiedSystem, match_channels
from tests.panoptic_baselines import training
from tests.panoptic_baselines.training import (
    assert_a_graph_gives_the_same,
    host_batch,
    learn,
    make_batch,
)
from tests.panoptic_baselines.unified.conftest import TAXONOMY, TINY

pytestmark = pytest.mark.device('cpu:1')

DETECTOR = {'rpn_objectness', 'rpn_boxes', 'classes', 'boxes', 'masks'}
SMALL = dict(TINY, anchor_sizes=(8, 16, 32, 64, 128))
STUFF = TAXONOMY.num_stuff   # 3, of which scenes show the first two
COLORS = ((200, 220, 255), (90, 160, 80), (9, 9, 9), (250, 40, 40), (30, 30, 160))


def make_net(options: tuple) -> Unified:
    mx.random.seed(0)
    np.random.seed(0)
    net = Unified(**{**SMALL, **dict(options)})
    net.initialize()
    return net


shared_net = functools.lru_cache(maxsize=2)(make_net)   # to be left as it is


def make_system(net_options: tuple = (), fresh: bool = False, **options: Any) -> UnifiedSystem:
    """``net_options`` in pairs; ``fresh`` for tests that change the network."""
    net = (make_net if fresh else shared_net)(tuple(net_options))
    return UnifiedSystem(net, TAXONOMY, **{'rois': 32, 'frozen_stages': 3, **options})


def scene(height: int = 64, width: int = 64,
          objects: tuple = ((8, 6, 40, 34, 3), (30, 38, 60, 62, 4))) -> Sample:
    return training.scene(height, width, objects, COLORS)


def evaluate(system: UnifiedSystem, batch: dict[str, Any]) -> dict[str, float]:
    """Losses alone."""
    np.random.seed(0)
    with mx.autograd.train_mode():
        return {name: float(loss.asscalar()) for name, loss in system.losses(batch).items()}


@pytest.fixture(scope='module')
def batch() -> dict[str, Any]:
    return make_batch(make_system(), scene(), scene(50, 40, ((5, 5, 45, 36, 3),)))


def test_every_loss_reaches_every_parameter_and_a_graph_gives_the_same(batch: dict) -> None:
    system = make_system()
    losses, gradients = learn(system, batch)
    assert set(losses) == DETECTOR | {'semantic', 'panoptic'}
    assert all(np.isfinite(v) and v > 0 for v in losses.values())
    assert all(np.isfinite(g).all() and g.any() for g in gradients.values())
    assert {n.split('.')[0] for n in gradients} == {'encoder', 'box_head', 'mask_head', 'affinity'}
    assert set(system.metrics()) == {'foreground', 'detections', 'matched'}
    assert_a_graph_gives_the_same(make_system(hybridize=True), batch, losses, gradients)


@pytest.mark.parametrize('detections', ['predicted', 'ground_truth'])
def test_the_panoptic_loss_reaches_the_detector(batch: dict, detections: str) -> None:
    """Through scores and masks (appendix A.4); the score of the ground truth is 1."""
    _, gradients = learn(make_system(detections=detections), batch, 'panoptic')
    assert gradients['mask_head.predictor.weight'].any()
    assert gradients['affinity.phi0.weight'].any() and gradients['affinity.phi1.weight'].any()
    assert gradients['encoder.semantic_head.predictor.weight'].any()
    predicted = detections == 'predicted'
    assert gradients['box_head.cls_score.weight'].any() == predicted
    assert not gradients['box_head.bbox_pred.weight'].any()   # the borders of boxes have none
    assert not gradients['encoder.rpn.conv.weight'].any()


def test_scores_with_gradient_are_those_of_the_detections(batch: dict) -> None:
    system = make_system()
    maps = system.net(batch['image'])
    proposals = system.propose(maps, batch)
    found = system.detect(maps, batch, proposals)
    channels = system.select_channels(maps, batch, proposals)
    scores = system._scores(maps.features, channels)
    masks = system._masks(maps.features, channels)
    for each, kept, score, mask in zip(found, channels, scores, masks):
        order = [np.flatnonzero((each.boxes == b).all(axis=1) & (each.classes == c))[0]
                 for b, c in zip(kept.boxes, kept.classes)]
        np.testing.assert_allclose(score.asnumpy(), each.scores[order], rtol=1e-5)
        assert mask.shape == (len(kept.boxes), 28, 28) and mask.asnumpy().min() > 0


def test_duplicates_go_and_strays_stay() -> None:
    boxes = np.float32([[0, 0, 10, 10], [0, 0, 10, 8], [40, 40, 50, 50]])
    found = Detections(boxes, np.float32([0.9, 0.8, 0.7]), np.array([1, 1, 0]), np.array([4, 2, 0]))
    proposals = np.arange(20, dtype=np.float32).reshape(5, 4)
    channels = match_channels(found, proposals, np.float32([[0, 0, 10, 9.5]]), np.array([1]))
    assert channels.assigned.tolist() == [0, -1] and channels.classes.tolist() == [1, 0]
    np.testing.assert_array_equal(channels.boxes, boxes[[0, 2]])
    np.testing.assert_array_equal(channels.rois, proposals[[4, 0]])


def test_pixels_of_a_batch() -> None:
    """Two channels of things in one image, none in the other, which is 50 x 40 in 64 x 64."""
    system = make_system()
    batch = make_batch(system, scene(), scene(50, 40, ((5, 5, 45, 36, 3),)))
    batch['semantic'][0, :8] = -1
    none = np.zeros((0, 4), np.float32)
    channels = [MatchedDetections(np.float32([[6, 8, 34, 40], [0, 0, 9, 9], [38, 30, 62, 60]]),
                                  np.array([0, 1, 1]), np.array([0, -1, 1])),
                MatchedDetections(none, np.zeros(0, int), np.zeros(0, int))]
    whole, cut = system.panoptic_targets(batch, channels)
    assert whole.shape == (16, 16) and cut.shape == (13, 10)
    assert (whole[:2] == -1).all() and set(np.unique(whole)) == {-1, 0, 2, 3, 4}
    assert (whole == 0).sum() == 8 * 7 and (whole == 2).sum() == 8 * 6
    assert set(np.unique(cut)) == {-1, 0, 1}   # of the object no channel, of stuff the classes
    assert system.metrics()['detections'] == 1.5
    assert system.metrics()['matched'] == pytest.approx(2 / 3)


def test_the_panoptic_loss_is_a_mean_over_the_labelled_pixels_of_all_images(batch: dict) -> None:
    system = make_system()
    maps, none = system.net(batch['image']), np.zeros((0, 4), np.float32)
    channels = [MatchedDetections(none, np.zeros(0, int), np.zeros(0, int))] * 2
    loss = system.panoptic_loss(maps, batch, channels).asscalar()
    total = count = 0
    for i, (size, target) in enumerate(zip(((64, 64), (50, 40)),
                                           system.panoptic_targets(batch, channels))):
        logits = system.net.panoptic_logits(maps, i, size, none, [], []).asnumpy()[0]
        entropy = np.log(np.exp(logits).sum(axis=0)) - np.take_along_axis(
            logits, np.maximum(target, 0)[None], axis=0)[0]
        total, count = total + entropy[target >= 0].sum(), count + (target >= 0).sum()
    assert loss == pytest.approx(total / count, rel=1e-5)


@pytest.mark.parametrize('net_options, options', [
    ({'masks': False}, {}), ({'masks': False, 'affinity': False}, {}),
    ({'potential': 'A'}, {}), ({'potential': 'C', 'affinity': False}, {}),
    ({'potential': 'C', 'damp_masks': False}, {'detections': 'ground_truth'}),
    ({'deformable': True, 'squeeze': False},
     {'semantic_loss': 'lovasz', 'mask_loss': 'cross_entropy'})])
def test_variants(batch: dict, net_options: dict, options: dict) -> None:
    system = make_system(tuple(net_options.items()), **options)
    losses, gradients = learn(system, batch)
    expected = DETECTOR | {'semantic', 'panoptic'}
    assert set(losses) == expected - ({'masks'} if net_options.get('masks') is False else set())
    assert all(np.isfinite(v) and v > 0 for v in losses.values())
    assert all(np.isfinite(g).all() and g.any() for g in gradients.values())


def test_weights_and_losses(batch: dict) -> None:
    plain = evaluate(make_system(), batch)   # COCO
    city = evaluate(make_system(detection_weight=0.25, semantic_weight=1, panoptic_weight=1), batch)
    for name, loss in plain.items():
        factor = {'semantic': 5, 'panoptic': 10}.get(name, 0.25)
        assert city[name] == pytest.approx(loss * factor, rel=1e-5)
    other = evaluate(make_system(semantic_loss='lovasz', mask_loss='cross_entropy'), batch)
    assert other['masks'] != pytest.approx(plain['masks'], rel=0.01)
    assert other['semantic'] != pytest.approx(plain['semantic'], rel=0.01)
    assert other['boxes'] == pytest.approx(plain['boxes'], rel=1e-5)


def test_it_learns_by_the_steps_of_the_engine() -> None:
    system = make_system([('norm_layer', 'BatchNorm')], fresh=True, hybridize=True,
                         semantic_weight=1, panoptic_weight=1)
    trainer = mx.gluon.Trainer(system.parameters(), 'torchsgd', update_on_kvstore=False,
                               optimizer_params={'learning_rate': 0.01, 'wd': 1e-4})
    prepare_gradients(trainer, accumulate=True)
    batch = host_batch(system, scene(), scene(50, 40, ((5, 5, 45, 36, 3),)))
    history = []
    for step in range(4):
        seed_everything(0, 0, step)
        history.append(train_step(system, trainer, batch, [mx.current_context()], pieces=2))
    for name, share in (('classes', 0.95), ('semantic', 0.95), ('panoptic', 1)):
        assert history[-1][name] < share * history[0][name], name


def test_no_detection_at_all(batch: dict) -> None:
    system = make_system(fresh=True)
    system.net.box_head.cls_score.bias.data()[-1] = 100   # everything is background
    losses, gradients = learn(system, batch)
    assert system.metrics()['detections'] == system.metrics()['matched'] == 0
    assert losses['panoptic'] > 0 and gradients['affinity.phi0.weight'].any()
    assert all(np.isfinite(g).all() for g in gradients.values())


def test_more_detections_than_objects() -> None:
    system = make_system()
    losses, _ = learn(system, make_batch(system, scene(objects=((8, 6, 40, 34, 3),))))
    assert system.metrics()['detections'] > 1 and np.isfinite(losses['panoptic'])


@pytest.mark.parametrize('detections', ['predicted', 'ground_truth'])
def test_images_without_objects_or_labels(detections: str) -> None:
    system = make_system(detections=detections)
    empty, unknown = scene(32, 32, ()), scene(32, 32, ())
    unknown.semantic[:] = -1
    losses, gradients = learn(system, make_batch(system, empty, unknown))
    assert losses['masks'] == losses['boxes'] == losses['rpn_boxes'] == 0
    assert losses['panoptic'] > 0 and losses['classes'] > 0 and losses['semantic'] > 0
    assert all(np.isfinite(g).all() for g in gradients.values())
    losses, gradients = learn(system, make_batch(system, unknown))
    assert losses['panoptic'] == losses['semantic'] == 0
    assert all(np.isfinite(g).all() for g in gradients.values())


@pytest.mark.parametrize('semantic_loss', ['cross_entropy', 'lovasz'])
def test_ground_truth_without_stuff(semantic_loss: str) -> None:
    system = make_system(semantic_loss=semantic_loss, detections='ground_truth')
    sample = scene()
    sample.semantic[sample.semantic < STUFF] = -1
    losses, gradients = learn(system, make_batch(system, sample))
    assert losses['panoptic'] > 0 and losses['semantic'] > 0
    assert all(np.isfinite(g).all() for g in gradients.values())


@pytest.mark.parametrize('where', ['encoder.rpn.objectness_logits.bias', 'box_head.cls_score.bias'])
def test_a_network_that_diverged_says_so(batch: dict, where: str) -> None:
    system = make_system(fresh=True)
    system.net._collect_params_with_prefix()[where].data()[:] = np.inf
    with pytest.raises(AdaptisError, match='lower the learning rate'):
        learn(system, batch)


def test_without_the_panoptic_matching_loss(batch: dict) -> None:
    """Models A and C learn from detections and semantics alone (section 4.1)."""
    system = make_system((('affinity', False),), panoptic_weight=0)
    with mx.autograd.record():
        losses = system.losses(batch)
    assert set(losses) == DETECTOR | {'semantic'} and 'matched' not in system.metrics()
    with pytest.raises(AdaptisError, match='but the affinity head learns only'):
        make_system(panoptic_weight=0)


@pytest.mark.parametrize('options, message', [
    ({'semantic_loss': 'dice'}, "semantic_loss is 'dice'"), ({'detections': 'both'}, 'predicted'),
    ({'mask_loss': ['lovasz']}, 'mask_loss'), ({'panoptic_weight': -1}, 'panoptic_weight'),
    ({'foreground': 2}, 'from 0 to 1'), ({'rois': 0}, 'rois is 0'),
    ({'frozen_stages': 6}, '5 stages')])
def test_choices_that_make_no_sense(options: dict, message: str) -> None:
    with pytest.raises(AdaptisError, match=message):
        make_system(**options)


def test_predict() -> None:
    result = make_system().predict(scene().image, UnifiedSettings(short_side=None, max_side=None,
                                                                  proposals=20))
    assert result.segment_map.shape == (64, 64)
    assert {s.id for s in result.segments} == set(np.unique(result.segment_map)) - {0}
