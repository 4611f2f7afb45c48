"""The network's arguments, and images that differ from those of the golden data."""
from __future__ import annotations

import numpy as np
import pytest

from adaptis.errors import AdaptisError
from adaptis.runtime import mx
from adaptis.types import Category, Taxonomy
from panoptic_baselines.panoptic_fpn.network import PanopticFPN
from panoptic_baselines.panoptic_fpn.settings import PanopticFPNSettings
from panoptic_baselines.predictor import Predictor, pad_batch

TINY = dict(backbone='resnet18', num_things=2, num_stuff=3, fpn_channels=16, semantic_channels=32,
            box_channels=16, mask_channels=8)
TAXONOMY = Taxonomy([Category(i, str(i), i > 3) for i in range(1, 6)])
SETTINGS = PanopticFPNSettings(short_side=64, max_side=96, stuff_area_limit=1, instance_score=0.0,
                               score_threshold=0.0, detections_per_image=7)


def network(**options):
    mx.random.seed(0)
    net = PanopticFPN(**{**TINY, **options})
    net.initialize(mx.init.Normal(0.05))
    return net


def picture(height, width, channels=3):
    return np.random.default_rng(0).integers(0, 256, (height, width, channels)).astype(np.uint8)


@pytest.fixture(scope='module')
def predictor():
    net = network()
    net.hybridize()
    return Predictor(net, TAXONOMY, SETTINGS)


def check(result, size):
    assert result.segment_map.shape == size and result.segment_map.dtype == np.int32
    areas = np.bincount(result.segment_map.ravel(), minlength=len(result.segments) + 1)[1:]
    assert areas.tolist() == [s.area for s in result.segments] and (areas > 0).all()
    assert result.semantic is None or result.semantic.shape == size


@pytest.mark.parametrize('size', [(1, 1), (1, 200), (300, 1), (2, 3), (64, 64), (33, 100)])
def test_any_size(predictor, size):
    image = picture(*size)
    result = predictor.predict(image)
    check(result, size)
    found = predictor.set_image(image).instances()
    assert 0 < len(found) <= 7 and found.masks.shape == (len(found), *size)
    assert (np.diff(found.scores) <= 0).all() and set(found.classes) <= {0, 1}
    assert (found.boxes >= 0).all() and (found.boxes[:, 2:] <= size[::-1]).all()
    assert predictor.semantic().shape == size


def test_an_image_is_looked_at_once(predictor, monkeypatch):
    calls, segment = [], PanopticFPN.segment
    monkeypatch.setattr(PanopticFPN, 'segment',
                        lambda net, *args: calls.append(args[-1]) or segment(net, *args))
    sure = Predictor(predictor.net, TAXONOMY, SETTINGS.replace(instance_score=0.3))
    sure.set_image(picture(30, 40))
    first = sure.panoptic()
    sure.instances()   # needs masks that were not computed
    again = sure.panoptic()
    sure.semantic()
    assert calls == [0.3, 0.0]
    np.testing.assert_array_equal(first.segment_map, again.segment_map)
    sure.set_image(picture(30, 40)).semantic()
    sure.settings = SETTINGS
    sure.semantic()
    assert calls[2:] == [None, None]


@pytest.mark.parametrize('image', [
    picture(20, 30, 1), picture(20, 30, 1)[..., 0], picture(20, 30, 4),
    picture(20, 30).astype(np.uint16) * 257])
def test_any_picture(predictor, image):
    check(predictor.predict(image), (20, 30))


@pytest.mark.parametrize('image', [
    np.zeros((0, 5, 3), np.uint8), np.zeros((5, 5, 2), np.uint8), np.zeros((5, 5), float), 'a.png'])
def test_what_is_no_picture(predictor, image):
    predictor.set_image(picture(5, 5))
    with pytest.raises(AdaptisError):
        predictor.predict(image)
    with pytest.raises(AdaptisError, match='set_image first'):
        predictor.panoptic()


def test_no_detections_and_no_stuff(predictor):
    image = picture(40, 60)
    unsure = Predictor(predictor.net, TAXONOMY, SETTINGS.replace(score_threshold=1.0))
    result = unsure.predict(image)
    check(result, (40, 60))
    assert result.segments and not result.things
    assert unsure.instances().masks.shape == (0, 40, 60)
    empty = Predictor(predictor.net, TAXONOMY, SETTINGS.replace(
        score_threshold=1.0, stuff_area_limit=40 * 60 + 1)).predict(image)
    assert empty.segments == [] and not empty.segment_map.any()


def test_no_proposals(predictor):
    """All boxes beyond the image: the heads get nothing to look at."""
    net = network()
    deltas = net.encoder.rpn.anchor_deltas
    deltas.weight.set_data(deltas.weight.data() * 0)
    deltas.bias.set_data(mx.nd.array([1e6, 0, 0, 0] * 3))
    result = Predictor(net, TAXONOMY, SETTINGS).predict(picture(40, 60))
    assert result.segments and not result.things


def test_only_one_branch():
    image = picture(40, 60)
    without_stuff = Predictor(network(semantic=False), TAXONOMY, SETTINGS)
    result = without_stuff.predict(image)
    check(result, (40, 60))
    assert all(s.isthing for s in result.segments)
    with pytest.raises(AdaptisError, match='no semantic branch'):
        without_stuff.semantic()
    without_things = Predictor(network(instances=False), TAXONOMY, SETTINGS)
    result = without_things.predict(image)
    check(result, (40, 60))
    assert result.segments and not result.things
    with pytest.raises(AdaptisError, match='no instance branch'):
        without_things.instances()
    every_class = Predictor(network(instances=False, merge_things=False), TAXONOMY, SETTINGS)
    assert every_class.net.num_semantic == 5
    check(every_class.predict(image), (40, 60))


@pytest.mark.parametrize('options, shapes', [
    (dict(grouped_fpn=True), {'encoder.rpn.conv.weight': (8, 8, 3, 3),
                              'encoder.fpn.output2.weight': (16, 16, 3, 3),
                              'encoder.semantic_head.p2.0.weight': (32, 8, 3, 3)}),
    (dict(semantic_join='concat', semantic_channels=64),
     {'encoder.semantic_head.predictor.weight': (4, 256, 1, 1)}),
    (dict(norm_layer='BatchNorm', anchor_sizes=(8, 16, 32, 64, 128)), {}),
    (dict(backbone='resnet34', std=(58, 57, 57)), {})])
def test_variants_run_and_hybridize(options, shapes):
    net = network(**options)
    parameters = net._collect_params_with_prefix()
    assert all(parameters[name].shape == shape for name, shape in shapes.items())
    predictor = Predictor(net, TAXONOMY, SETTINGS).set_image(picture(50, 70))
    boxes = predictor.instances().boxes
    net.hybridize()
    np.testing.assert_allclose(predictor.instances().boxes, boxes, atol=1e-3)


def test_grouped_branches_see_their_own_half_only():
    net = network(grouped_fpn=True)
    net.hybridize()
    batch = pad_batch([picture(32, 32)], net.mean)
    before = net(batch)
    output = net.encoder.fpn.output2
    bias = output.bias.data()
    bias[8:] += 1   # what the semantic branch sees
    output.bias.set_data(bias)
    after = net(batch)
    np.testing.assert_array_equal(before.rpn_logits[0].asnumpy(), after.rpn_logits[0].asnumpy())
    assert np.abs((before.semantic - after.semantic).asnumpy()).max() > 1e-3


@pytest.mark.parametrize('options, match', [
    (dict(backbone='vgg'), 'no backbone "vgg"'), (dict(num_things=0), 'num_things is 0'),
    (dict(instances=False, semantic=False), 'instances, semantic or both'),
    (dict(semantic_channels=48), '48 channels'), (dict(fpn_channels=1.5), 'fpn_channels is 1.5'),
    (dict(anchor_sizes=(32, 64)), 'anchor_sizes is .* 5 positive numbers'),
    (dict(std=(1, 0, 1)), 'std is .* 3 positive'), (dict(mean=5), 'mean is 5'),
    (dict(norm_layer='LayerNorm'), 'norm_layer "LayerNorm"'),
    (dict(semantic_join='max'), 'by "max"'), (dict(grouped_fpn=True, fpn_channels=7), 'even')])
def test_arguments_that_make_no_sense(options, match):
    with pytest.raises(AdaptisError, match=match):
        PanopticFPN(**{**TINY, **options})


def test_taxonomies_that_do_not_fit(predictor):
    other = Taxonomy(TAXONOMY.categories[1:])
    with pytest.raises(AdaptisError, match='2 classes of things and 3 of stuff'):
        Predictor(predictor.net, other)
    Predictor(network(semantic=False), other)   # which has nothing to do with stuff


def test_broken_networks():
    net = network()
    weight = net.encoder.backbone.res2[0].conv1.weight
    weight.set_data(weight.data() * np.nan)
    with pytest.raises(AdaptisError, match='not finite, in encoder.backbone.res2.0.conv1.weight'):
        Predictor(net, TAXONOMY)
    for branch, head, what in (('semantic', 'rpn.objectness_logits', 'objectness logits'),
                               ('instances', 'semantic_head.predictor', 'class logits')):
        predictor = Predictor(network(**{branch: False}), TAXONOMY, SETTINGS)
        bias = predictor.net.encoder._collect_params_with_prefix()[f'{head}.bias']
        bias.set_data(bias.data() + np.inf)   # since then
        with pytest.raises(AdaptisError, match=f'{what} are not finite'):
            predictor.predict(picture(40, 60))


def test_padding_is_what_the_network_sees_as_zero():
    net = network()
    batch = pad_batch([picture(40, 33), picture(20, 64)], net.mean)
    assert batch.shape == (2, 3, 64, 64)
    seen = net.encoder.normalize(mx.nd, batch).asnumpy()
    assert not seen[0, :, 40:].any() and not seen[0, :, :, 33:].any() and seen[0, :, :40].any()
    red_first = (batch[0, ::-1] - mx.nd.array(net.mean[::-1]).reshape((3, 1, 1))).asnumpy()
    np.testing.assert_allclose(seen[0], red_first, atol=1e-5)


@pytest.mark.filterwarnings('ignore:Cannot decide type')
def test_graphs_export_for_every_size(tmp_path):
    net = network()
    net.hybridize()
    inputs = {'encoder': [pad_batch([picture(40, 60)], net.mean)],
              'box_head': [mx.nd.random.normal(shape=(3, 16, 7, 7))],
              'mask_head': [mx.nd.random.normal(shape=(3, 16, 14, 14)), mx.nd.array([0, 1, 1])]}
    others = {'encoder': [pad_batch([picture(90, 30)] * 2, net.mean)],
              'box_head': [mx.nd.random.normal(shape=(5, 16, 7, 7))],
              'mask_head': [mx.nd.random.normal(shape=(1, 16, 14, 14)), mx.nd.array([1])]}
    for name, arrays in inputs.items():
        graph = getattr(net, name)
        graph(*arrays)
        graph.export(str(tmp_path / name))
        loaded = mx.gluon.SymbolBlock.imports(
            str(tmp_path / f'{name}-symbol.json'),
            ['data'] if len(arrays) == 1 else [f'data{i}' for i in range(len(arrays))],
            str(tmp_path / f'{name}-0000.params'),
            ctx=mx.current_context())
        ours, theirs = graph(*others[name]), loaded(*others[name])
        for a, b in zip(*(x if isinstance(x, (list, tuple)) else [x] for x in (ours, theirs))):
            np.testing.assert_allclose(a.asnumpy(), b.asnumpy(), atol=1e-5)
