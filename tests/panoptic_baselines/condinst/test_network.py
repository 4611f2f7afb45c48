"""The network's arguments, and images that differ from those of the golden data."""
from __future__ import annotations

import math

import numpy as np
import pytest

from adaptis.errors import AdaptisError
from adaptis.runtime import mx
from adaptis.types import Category, Taxonomy
from panoptic_baselines.condinst.network import CondInst, to_instances
from panoptic_baselines.condinst.settings import CondInstSettings
from panoptic_baselines.fcos.decode import Candidates
from panoptic_baselines.predictor import Predictor, pad_batch

TINY = dict(backbone='resnet18', num_things=2, num_stuff=3, semantic=True, fpn_channels=32,
            branch_channels=8, semantic_channels=32, head_depth=1)
TAXONOMY = Taxonomy([Category(i, str(i), i > 3) for i in range(1, 6)])
SETTINGS = CondInstSettings(short_side=64, max_side=96, stuff_area_limit=1, instance_score=0.0,
                            score_threshold=0.0, detections_per_image=7)


def network(**options):
    """A small one that finds something everywhere."""
    mx.random.seed(0)
    net = CondInst(**{**TINY, **options})
    net.initialize(mx.init.Normal(0.05))
    for name, parameter in net.encoder.head._collect_params_with_prefix().items():
        if name.endswith('weight'):
            parameter.set_data(mx.nd.random.normal(0, 0.05, parameter.shape))
    net.encoder.head.bbox_pred.bias.set_data(mx.nd.full((4,), 2))
    net.encoder.head.cls_logits.bias.set_data(mx.nd.zeros((net.num_things,)))
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


@pytest.mark.parametrize('size', [(1, 1), (1, 200), (300, 1), (2, 3), (64, 128), (33, 100)])
def test_any_size(predictor, size):
    image = picture(*size)
    check(predictor.predict(image), size)
    found = predictor.set_image(image).instances()
    assert 0 < len(found) <= 7 and found.masks.shape == (len(found), *size)
    assert (np.diff(found.scores) <= 0).all() and set(found.classes) <= {0, 1}
    assert (found.boxes >= 0).all() and (found.boxes[:, 2:] <= size[::-1]).all()
    assert predictor.semantic().shape == size


def test_image_as_it_is(predictor):
    settings = SETTINGS.replace(short_side=None, max_side=None)
    for size in ((1, 1), (1, 200), (37, 70)):
        check(Predictor(predictor.net, TAXONOMY, settings).predict(picture(*size)), size)


@pytest.mark.parametrize('things, stuff', [(1, 1), (3, 3)])
def test_few_classes(things, stuff):
    taxonomy = Taxonomy([Category(i + 1, str(i), i >= stuff) for i in range(things + stuff)])
    net = network(num_things=things, num_stuff=stuff)
    predictor = Predictor(net, taxonomy, SETTINGS)
    image, results = picture(64, 128), []
    for hybrid in (False, True):
        net.hybridize(hybrid)
        results.append(predictor.set_image(image).instances())
    check(predictor.panoptic(), (64, 128))
    assert len(results[0]) == 7
    np.testing.assert_allclose(results[0].scores, results[1].scores, atol=1e-6)
    assert np.count_nonzero(results[0].masks != results[1].masks) < 10


@pytest.mark.parametrize('nms', ['box', 'mask'])
@pytest.mark.parametrize('limit, found', [(1, 1), (3, 3), (10000, None)])
def test_how_many_instances(predictor, limit, found, nms):
    settings = SETTINGS.replace(detections_per_image=limit, nms=nms)
    count = len(Predictor(predictor.net, TAXONOMY, settings).set_image(picture(64, 64)).instances())
    assert count == found if found else count > 7


@pytest.mark.parametrize('nms', ['box', 'mask'])
def test_nothing_found(predictor, nms):
    sceptic = Predictor(predictor.net, TAXONOMY, SETTINGS.replace(score_threshold=1.0, nms=nms))
    found = sceptic.set_image(picture(48, 60)).instances()
    assert len(found) == 0 and found.boxes.shape == (0, 4) and found.masks.shape == (0, 48, 60)
    result = sceptic.panoptic()
    check(result, (48, 60))
    assert not any(s.isthing for s in result.segments)


def test_nothing_at_all():
    net = network(semantic=False)
    sceptic = Predictor(net, TAXONOMY, SETTINGS.replace(score_threshold=1.0))
    result = sceptic.predict(picture(48, 60))
    assert result.segments == [] and not result.segment_map.any()
    with pytest.raises(AdaptisError, match='no semantic branch'):
        sceptic.semantic()
    with mx.autograd.record():
        assert net(mx.nd.zeros((1, 3, 64, 64))).things is None


def test_boxes_outside_of_the_image_are_dropped():
    boxes = np.float32([[-9, -9, -1, -1], [4, 4, 8, 8], [20, 2, 30, 5], [2, 16, 5, 16]])
    found = Candidates(boxes, np.float32([.9, .8, .7, .6]), np.arange(4), boxes[:, :2],
                       np.zeros(4, int), np.zeros(4, int))
    instances = to_instances(found, np.full((4, 8, 8), 9, np.float32), 4, (16, 20), (32, 40), 0.5)
    np.testing.assert_array_equal(instances.boxes, [[8, 8, 16, 16]])
    np.testing.assert_array_equal(instances.classes, [1])
    assert instances.masks.shape == (1, 32, 40) and instances.masks.all()
    none = to_instances(found.take(np.array([0, 2])), np.zeros((2, 8, 8), np.float32), 4,
                        (16, 20), (32, 40), 0.5)
    assert len(none) == 0 and none.masks.shape == (0, 32, 40)


def test_images_of_a_batch_are_as_alone(predictor):
    net, images = predictor.net, [picture(64, 96), picture(60, 90)[:, ::-1]]
    sizes = [image.shape[:2] for image in images]
    together = net.segment(pad_batch(images, net.mean), sizes, sizes, SETTINGS)
    for image, found in zip(images, together):
        alone, = net.segment(pad_batch([image], net.mean), [found.labels.shape],
                             [found.labels.shape], SETTINGS)
        np.testing.assert_allclose(found.instances.boxes, alone.instances.boxes, atol=1e-3)
        assert np.count_nonzero(found.instances.masks != alone.instances.masks) < 10
        assert np.count_nonzero(found.labels != alone.labels) < 10
    nothing, _ = net.segment(pad_batch(images, net.mean), sizes, sizes, SETTINGS, None)
    assert nothing.instances is None and nothing.labels.shape == sizes[0]


def test_outputs_that_are_not_finite():
    net, batch = network(), mx.nd.full((1, 3, 64, 64), 100)
    for layer in ('cls_logits', 'ctrness', 'controller'):
        weight = getattr(net.encoder.head, layer).weight
        value = weight.data().copy()
        weight.data()[:] = np.nan
        with pytest.raises(AdaptisError, match='not finite: use another checkpoint'):
            net.segment(batch, [(64, 64)], [(64, 64)], SETTINGS)
        with pytest.raises(AdaptisError, match=layer):
            Predictor(net, TAXONOMY, SETTINGS)
        weight.set_data(value)


def test_the_auxiliary_task_is_for_training_alone():
    net, x = network(semantic=False, things=True), mx.nd.zeros((1, 3, 64, 64))
    net.hybridize()
    assert net(x).things is None
    with mx.autograd.record():
        maps = net(x)
        loss = maps.things.sum()
    loss.backward()
    assert maps.things.shape == (1, 2, 8, 8)
    assert np.abs(net.encoder.fpn.output3.weight.grad().asnumpy()).max() > 0


def test_where_training_starts():
    mx.random.seed(0)
    np.random.seed(0)
    net = CondInst(backbone='resnet18', num_things=20, things=True, fpn_channels=64)
    net.initialize(mx.init.Xavier())
    weights = {name: p.data().asnumpy() for name, p in net._collect_params_with_prefix().items()}
    for name in ('cls_tower.3', 'bbox_pred', 'controller'):
        assert weights[f'encoder.head.{name}.weight'].std() == pytest.approx(0.01, rel=0.05)
    for name, bound in (('fpn.p6', math.sqrt(3 / (9 * 64))), ('fpn.lateral3', math.sqrt(3 / 128)),
                        ('mask_branch.refine.1', math.sqrt(3 / (9 * 64))),
                        ('mask_branch.tower.4', math.sqrt(1 / 128))):
        values = np.abs(weights[f'encoder.{name}.weight'])
        assert 0.95 * bound < values.max() <= bound
    assert 0 < np.abs(weights['encoder.mask_branch.tower.4.bias']).max() <= math.sqrt(1 / 128)
    for name in ('encoder.head.cls_logits.bias', 'things_head.logits.bias'):
        np.testing.assert_allclose(weights[name], -math.log(99), rtol=1e-6)
    assert all((weights[f'encoder.head.scales.{i}.scale'] == 1).all() for i in range(5))


@pytest.mark.parametrize('options, message', [
    ({'backbone': 'vgg'}, '"vgg"'), ({'num_things': 0}, 'num_things is 0'),
    ({'fpn_channels': 1.5}, 'fpn_channels is 1.5'), ({'mask_channels': -1}, 'mask_channels is -1'),
    ({'mask_channels': 0, 'coordinates': None}, 'features, coordinates or both'),
    ({'mask_depth': 0}, 'mask_depth is 0'), ({'mask_factor': 3}, 'mask_factor is 3'),
    ({'coordinates': 'polar'}, "'polar'"), ({'semantic_join': 'product'}, '"product"'),
    ({'mean': (1, 2)}, 'mean is'), ({'branch_norm': 'LayerNorm'}, '"LayerNorm"'),
    ({'norm_layer': 'none'}, '"none"'), ({'norm_kwargs': 'momentum'}, "norm_kwargs is 'momentum'"),
    ({'semantic': 'no'}, "semantic is 'no'"), ({'things': 1}, 'things is 1')])
def test_nonsense(options, message):
    with pytest.raises(AdaptisError, match=message):
        CondInst(**{**TINY, **options})
