"""The network's arguments, and images and predictions that differ from those of the golden data."""
from __future__ import annotations

import numpy as np
import pytest

from adaptis.errors import AdaptisError
from adaptis.runtime import mx
from adaptis.types import Category, Taxonomy
from panoptic_baselines.dense_detections.boxes import dense_boxes, location_probability
from panoptic_baselines.dense_detections.network import (
    STRIDES,
    DenseDetections,
    DenseOutputs,
    full_map,
    full_masks,
    select_detections,
)
from panoptic_baselines.dense_detections.settings import DenseDetectionsSettings
from panoptic_baselines.fcos.decode import Candidates, locations
from panoptic_baselines.predictor import Predictor, pad_batch
from panoptic_baselines.zoo import get_model

TINY = dict(backbone='resnet18', num_things=2, num_stuff=3, fpn_channels=16, class_channels=16,
            box_channels=16)
TAXONOMY = Taxonomy([Category(i, str(i), i > 3) for i in range(1, 6)])
SETTINGS = DenseDetectionsSettings(short_side=None, max_side=None, stuff_area_limit=1,
                                   instance_score=0.0,
                         score_threshold=1e-6, mask_threshold=0.01, detections_per_image=7)


def network(**options):
    mx.random.seed(0)
    net = DenseDetections(**{**TINY, **options})
    net.initialize()
    return net


def picture(height, width):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)


@pytest.fixture(scope='module')
def predictor():
    net = network()
    net.hybridize()   # once for all sizes
    return Predictor(net, TAXONOMY, SETTINGS)


def check(result, size):
    assert result.segment_map.shape == size and result.segment_map.dtype == np.int32
    areas = np.bincount(result.segment_map.ravel(), minlength=len(result.segments) + 1)[1:]
    assert areas.tolist() == [s.area for s in result.segments] and (areas > 0).all()
    assert result.semantic.shape == size


@pytest.mark.parametrize('size', [(1, 1), (1, 200), (130, 1), (2, 3), (64, 64), (33, 100)])
def test_any_size(predictor, size):
    image = picture(*size)
    check(predictor.predict(image), size)
    found = predictor.set_image(image).instances()
    assert len(found) >= 1 and found.masks.shape == (len(found), *size)
    assert (np.diff(found.scores) <= 0).all() and set(found.classes) <= {0, 1}
    assert (found.boxes >= 0).all() and (found.boxes[:, 2:] <= size[::-1]).all()
    labels = predictor.semantic()
    assert labels.shape == size and labels.min() >= 0 and labels.max() < 5


def test_results_have_the_size_of_the_image(predictor):
    resized = Predictor(predictor.net, TAXONOMY, SETTINGS.replace(short_side=50, max_side=90))
    check(resized.predict(picture(33, 100)), (33, 100))
    found = resized.instances()
    assert found.masks.shape[1:] == (33, 100)
    assert (found.boxes[:, 2:] <= (100, 33)).all()


def set_bias(layer, value):
    layer.weight.set_data(layer.weight.data() * 0)
    layer.bias.set_data(mx.nd.array(np.broadcast_to(value, layer.bias.shape)))


def test_no_pixel_of_a_thing_and_nothing_above_the_threshold():
    net = network()
    set_bias(net.encoder.head.semantic, [0, 9, 0, -30, -30])
    predictor = Predictor(net, TAXONOMY, SETTINGS).set_image(picture(40, 60))
    assert len(predictor.instances()) and not predictor.instances().masks.any()
    result = predictor.panoptic()
    check(result, (40, 60))
    assert [s.category_id for s in result.segments] == [2]
    set_bias(net.encoder.head.class_logits, -90)
    result = predictor.predict(picture(40, 60))
    assert predictor.instances().masks.shape == (0, 40, 60)
    assert predictor.instances().boxes.shape == (0, 4)
    assert [s.category_id for s in result.segments] == [2]
    predictor.settings = SETTINGS.replace(stuff_area_limit=40 * 60 + 1)
    assert predictor.panoptic().segments == []


def test_a_single_huge_instance(predictor):
    """Every pixel says the same box, that of the whole image: one detection, all its pixels."""
    net, size = predictor.net, (64, 96)
    maps = net.maps(pad_batch([picture(*size)], net.mean, divisor=1))
    shapes = [x.shape[2:] for x in maps.logits]
    offsets = []
    for shape, stride in zip(shapes, STRIDES):
        x, y = locations(shape, stride).T.reshape(2, 1, *shape)
        offsets.append(mx.nd.array(np.stack([x, y, 95 - x, 63 - y], axis=1)))
    maps = maps._replace(
        distances=offsets, logits=[mx.nd.full((1, 2, *shape), 3) for shape in shapes],
        centerness=[mx.nd.full((1, 1, *shape), 3 - i) for i, shape in enumerate(shapes)])
    found, = net.detect(maps, [size], SETTINGS.replace(agnostic_nms_threshold=0.97))
    assert found.boxes.tolist() == [[0, 0, 95, 63]]   # of both classes, suppressed after all
    dense = DenseOutputs(maps, dense_boxes(mx.nd, offsets, mx.nd.zeros((1, 5, 16, 24))),
                         mx.nd.full((1, 2, 16, 24), 0.6))
    masks = full_masks(net.mask_probabilities(dense, 0, found), size, size, 0.4)
    assert masks.shape == (1, *size) and masks.all()


def test_boxes_have_a_largest_size():
    net = network()
    set_bias(net.encoder.head.box_offsets, 1e30)
    maps = net.maps(pad_batch([picture(20, 30)], net.mean, divisor=1))
    assert all(np.allclose(x.asnumpy(), 1e4) for x in maps.distances)


@pytest.mark.parametrize('limit', [1, 3, 10, 80])
def test_suppression_looks_no_further_than_it_must(limit):
    """The best of many are the same as after suppression among all."""
    rng = np.random.default_rng(limit)
    boxes = rng.uniform(0, 60, (300, 2))
    boxes = np.concatenate([boxes, boxes + rng.uniform(5, 30, (300, 2))], axis=1)
    scores = rng.integers(1, 40, 300) / 40   # with many ties
    found = Candidates(boxes.astype(np.float32), scores.astype(np.float32),
                       rng.integers(0, 2, 300), boxes[:, :2], np.zeros(300, int), np.arange(300))
    settings = SETTINGS.replace(nms_threshold=0.3, agnostic_nms_threshold=0.6)
    everything = select_detections(found, settings.replace(detections_per_image=300))
    kept = select_detections(found, settings.replace(detections_per_image=limit))
    least = everything.scores[min(limit, len(everything.scores)) - 1]
    np.testing.assert_array_equal(kept.cells, everything.cells[everything.scores >= least])


def test_masks_of_identical_boxes_and_of_boxes_elsewhere(predictor):
    boxes = np.broadcast_to(np.float32([8, 4, 40, 28])[:, None, None], (4, 8, 12))
    dense = DenseOutputs(None, mx.nd.array(boxes[None]), mx.nd.ones((1, 2, 8, 12)))
    queries = np.float32([[8, 4, 40, 28], [8, 4, 40, 28], [500, 500, 600, 600], [7, 7, 7, 7]])
    found = Candidates(queries, np.ones(4, np.float32), np.array([0, 1, 0, 0]),
                       queries[:, :2], np.zeros(4, int), np.arange(4))
    for kind in ('giou', 'iou'):
        masks = predictor.net.mask_probabilities(dense, 0, found, kind)
        np.testing.assert_allclose(masks[:2], 1, atol=1e-6)
        assert masks[2].max() <= 0 and masks[3].max() < 0.1
    assert predictor.net.mask_probabilities(dense, 0, found.take(slice(0))).shape == (0, 8, 12)
    full = full_masks(masks, (30, 45), (30, 45), 0.4)
    assert full[:2].all() and not full[2:].any()
    assert full_map(masks[0], (30, 45), (60, 90)).shape == (60, 90)


def test_masks_do_not_depend_on_how_many_are_made_at_once(predictor, monkeypatch):
    net = predictor.net
    dense = net.encode(pad_batch([picture(40, 60)], net.mean, divisor=1))
    found, = net.detect(dense.maps, [(40, 60)], SETTINGS)
    together = net.mask_probabilities(dense, 0, found)
    monkeypatch.setattr('panoptic_baselines.dense_detections.inference.MASK_VALUES',
                        2 * together[0].size)
    np.testing.assert_allclose(net.mask_probabilities(dense, 0, found), together, atol=1e-6)


def test_images_of_a_batch_do_not_see_each_other(predictor):
    images = [picture(40, 60), picture(40, 60)[::-1]]
    net = predictor.net
    both = net.segment(pad_batch(images, net.mean, divisor=1), [(40, 60)] * 2, [(40, 60)] * 2,
                       SETTINGS)
    for image, found in zip(images, both):
        alone, = net.segment(pad_batch([image], net.mean, divisor=1), [(40, 60)], [(40, 60)],
                             SETTINGS)
        np.testing.assert_allclose(found.instances.boxes, alone.instances.boxes, atol=1e-3)
        np.testing.assert_array_equal(found.labels, alone.labels)
    assert net.segment(pad_batch(images, net.mean, divisor=1), [(40, 60)] * 2, [(40, 60)] * 2,
                       SETTINGS, None)[1].instances is None


@pytest.mark.parametrize('options', [
    dict(towers=1), dict(levelness=False), dict(semantic_stride=4), dict(norm_layer='BatchNorm'),
    dict(towers=1, levelness=False, semantic_stride=4, box_channels=24, std=(58, 57, 57))])
def test_variants_run_and_hybridize(options):
    net = network(**options)
    net.hybridize()
    batch = pad_batch([picture(40, 72)], net.mean, divisor=1)
    dense = net.encode(batch)
    maps = dense.maps
    assert [x.shape[2:] for x in maps.logits] == [(5, 9), (3, 5), (2, 3), (1, 2), (1, 1)]
    stride = options.get('semantic_stride', 8)
    assert maps.semantic.shape == (1, 5, 5 * 8 // stride, 9 * 8 // stride)
    assert (maps.levelness is None) == (options.get('levelness') is False)
    names = net._collect_params_with_prefix()
    assert any('class_tower' in name for name in names) == (options.get('towers') != 1)
    found, = net.detect(maps, [(40, 72)], SETTINGS)
    net.hybridize(False)
    np.testing.assert_allclose(net.encode(batch).boxes.asnumpy(), dense.boxes.asnumpy(), atol=1e-3)
    assert net.mask_probabilities(dense, 0, found).shape == (len(found.scores), 10, 18)


@pytest.mark.parametrize('kind', ['iou', 'giou'])
def test_without_levelness_the_level_that_fits_a_query_best_counts(kind):
    net = network(levelness=False)
    net.hybridize()
    for i, scale in enumerate(net.encoder.head.scales):   # every level has boxes of its own size
        scale.scale.set_data(mx.nd.array([i + 1]))
    set_bias(net.encoder.head.box_offsets, 1.0)
    dense = net.encode(pad_batch([picture(64, 64)], net.mean, divisor=1))
    assert dense.boxes.shape == (1, 4 * len(STRIDES), 16, 16)
    levels = dense.boxes[0].reshape((len(STRIDES), 4, -1))
    queries = mx.nd.array([[10, 10, 16, 16], [0, 0, 64, 64], [20, 4, 60, 40]])
    each = np.stack([location_probability(mx.nd, level, queries, kind).asnumpy()
                     for level in levels])
    classes = np.array([0, 1, 1])
    found = Candidates(queries.asnumpy(), np.ones(3), classes, *[np.zeros(3, int)] * 3)
    probabilities = net.mask_probabilities(dense, 0, found, kind)
    expected = each.max(axis=0).reshape((3, 16, 16)) * dense.things[0].asnumpy()[classes]
    np.testing.assert_allclose(probabilities, expected, atol=1e-5)
    assert len(np.unique(each.argmax(axis=0))) > 2   # which level that is depends on the query


def test_smallest_network():
    net = get_model('dense_detections_r18', num_things=1, num_stuff=1, fpn_channels=8,
                    class_channels=8, box_channels=8)
    net.initialize()
    taxonomy = Taxonomy([Category(1, 'grass', False), Category(2, 'cow', True)])
    check(Predictor(net, taxonomy, SETTINGS).predict(picture(64, 128)), (64, 128))


@pytest.mark.parametrize('options, match', [
    (dict(backbone='vgg'), 'no backbone "vgg"'), (dict(num_things=0), 'num_things is 0'),
    (dict(towers=3), 'towers is 3'), (dict(towers=True), 'towers is True'),
    (dict(levelness=1), 'levelness is 1'), (dict(semantic_stride=16), 'semantic_stride is 16'),
    (dict(class_channels=20), '20 channels.*multiple of 8'), (dict(mean=5), 'mean is 5'),
    (dict(std=(1, 0, 1)), 'std is .* 3 positive'),
    (dict(norm_layer='LayerNorm'), 'norm_layer "LayerNorm"'),
    (dict(norm_layer=5), 'norm_layer "5"'),
    (dict(norm_kwargs=5), 'norm_kwargs is 5'), (dict(mean=(True, 1, 1)), 'mean is'),
    (dict(norm_kwargs={'eps': 1}), "FrozenBatchNorm has no option 'eps'"),
    (dict(norm_kwargs={'epsilon': -1}), 'epsilon is -1'), (dict(fpn_channels=1.5), '1.5')])
def test_arguments_that_make_no_sense(options, match):
    with pytest.raises(AdaptisError, match=match):
        DenseDetections(**{**TINY, **options})


def test_broken_networks():
    net = network()
    net.hybridize()
    predictor = Predictor(net, TAXONOMY, SETTINGS)
    for name, what in (('class_logits', 'class logits'), ('semantic', 'semantic logits'),
                       ('centerness', 'centerness logits'), ('box_offsets', 'boxes'),
                       ('levelness', 'levelness logits')):
        bias = getattr(net.encoder.head, name).bias
        good = bias.data().copy()
        bias.set_data(good * np.nan)   # since then
        with pytest.raises(AdaptisError, match=f'{what} are not finite'):
            predictor.predict(picture(40, 60))
        with pytest.raises(AdaptisError, match='not finite, in encoder.head'):
            Predictor(net, TAXONOMY, SETTINGS)
        bias.set_data(good)
    predictor.predict(picture(40, 60))


def test_frozen_norms_have_no_epsilon_unless_they_are_told():
    for kwargs, epsilon in ((None, 0), ({'momentum': 0.8}, 0), ({'epsilon': 1e-3}, 1e-3)):
        net = DenseDetections(**TINY, norm_kwargs=kwargs)
        assert net.encoder.backbone.stem.conv1.norm._epsilon == epsilon


@pytest.mark.filterwarnings('ignore:Cannot decide type')
def test_whole_graph_exports_for_every_size(tmp_path):
    net = network()
    net.hybridize()
    x, other = (pad_batch([picture(*size)], net.mean, divisor=1) for size in ((40, 60), (33, 90)))
    net(x)
    net.export(str(tmp_path / 'net'))
    loaded = mx.gluon.SymbolBlock.imports(str(tmp_path / 'net-symbol.json'), ['data'],
                                          str(tmp_path / 'net-0000.params'),
                                          ctx=mx.current_context())
    for ours, theirs in zip(net(other), loaded(other)):
        np.testing.assert_allclose(ours.asnumpy(), theirs.asnumpy(), atol=1e-4, rtol=1e-5)
