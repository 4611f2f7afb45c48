"""The network's arguments, and images of all kinds."""
from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest

from adaptis.commands.evaluation_task import _check_network
from adaptis.errors import AdaptisError
from adaptis.model import save_model
from adaptis.registry import find_family
from adaptis.runtime import mx
from adaptis.types import Category, Taxonomy
from panoptic_baselines.panoptic_fpn.settings import PanopticFPNSettings
from panoptic_baselines.predictor import pad_batch
from panoptic_baselines.unified.network import Unified
from panoptic_baselines.unified.predictor import UnifiedPredictor
from panoptic_baselines.unified.settings import UNIFIED_PRESETS
from panoptic_baselines.zoo import get_model, load_model
from tests.panoptic_baselines.unified.conftest import (
    SETTINGS,
    TAXONOMY,
    TINY,
    make_network,
    make_picture,
)

SIZES = [(1, 1), (1, 200), (300, 1), (2, 3), (64, 64), (33, 100)]


def check(result, size):
    assert result.segment_map.shape == size and result.segment_map.dtype == np.int32
    areas = np.bincount(result.segment_map.ravel(), minlength=len(result.segments) + 1)[1:]
    assert areas.tolist() == [s.area for s in result.segments] and (areas > 0).all()


@pytest.mark.parametrize('size', SIZES)
def test_any_size(predictor, size):
    image = make_picture(*size)
    result = predictor.set_image(image).panoptic(keep_objects=True)
    check(result, size)
    assert (result.segment_map > 0).all() and result.semantic.shape == size
    found = predictor.instances()
    assert len(found) <= 7 and found.masks.shape == (len(found), *size)
    assert (found.boxes >= 0).all() and (found.boxes[:, 2:] <= size[::-1]).all()
    assert len(result.objects.scores) == len(found)
    tiny = UnifiedPredictor(predictor.net, TAXONOMY, SETTINGS.replace(short_side=None))
    check(tiny.predict(image), size)


def test_scores_below_get_no_channel(predictor):
    predictor.set_image(make_picture(60, 90))
    scores = predictor.panoptic() and predictor._segmentation[2].channels.detections.scores
    assert len(scores) and (scores > SETTINGS.instance_score).all()
    for limit, count in ((float(scores[1]), (scores > scores[1]).sum()), (1.0, 0)):
        predictor.settings = SETTINGS.replace(instance_score=limit)
        result = predictor.panoptic()
        assert len(predictor._segmentation[2].channels.detections.scores) == count
        check(result, (60, 90))
    assert not result.things and result.segments


def test_all_of_it_is_one_result_however_it_is_asked_for(predictor):
    image = make_picture(60, 90)
    first = predictor.predict(image)
    assert first.semantic is None and first.objects is None   # which take time
    full = predictor.set_image(image).panoptic(keep_objects=True)
    np.testing.assert_array_equal(first.segment_map, full.segment_map)
    assert first.segments == full.segments
    np.testing.assert_array_equal(predictor.set_image(image).semantic(), full.semantic)
    assert full.semantic.max() < 5 and full.semantic.min() >= 0
    np.testing.assert_array_equal(predictor.instances().masks, full.objects.masks)
    if not predictor.net.has_masks:   # then things are the instances that won a pixel
        areas = full.objects.masks.sum(axis=(1, 2))
        assert [s.area for s in full.things] == areas[areas > 0].tolist()


def test_no_proposals_and_no_detections(predictor):
    net = make_network(masks=predictor.net.has_masks)
    deltas = net.encoder.rpn.anchor_deltas
    deltas.weight.set_data(deltas.weight.data() * 0)
    deltas.bias.set_data(mx.nd.array([1e6, 0, 0, 0] * 3))   # all boxes beyond the image
    result = UnifiedPredictor(net, TAXONOMY, SETTINGS).set_image(make_picture(40, 60)).panoptic(
        keep_objects=True)
    assert result.segments and not result.things and not len(result.objects.scores)


def test_the_heuristic_of_the_same_network(networks):
    image = make_picture(60, 90)
    settings = SETTINGS.replace(merge='heuristic', stuff_area_limit=1)
    predictor = UnifiedPredictor(networks[True], TAXONOMY, settings)
    result = predictor.predict(image)
    check(result, (60, 90))
    assert predictor._segmentation[2].channels is None and result.semantic is not None
    predictor.settings = SETTINGS
    check(predictor.panoptic(), (60, 90))
    assert predictor._segmentation[2].channels is not None
    with pytest.raises(AdaptisError, match='needs masks, but this network has no mask head'):
        UnifiedPredictor(networks[False], TAXONOMY, settings)
    without = UnifiedPredictor(networks[False], TAXONOMY, SETTINGS).set_image(image)
    without.settings = settings
    with pytest.raises(AdaptisError, match='needs masks, but this network has no mask head'):
        without.panoptic()
    without.semantic()


@pytest.mark.parametrize('masks', [True, False])
def test_one_class_of_each(masks):
    taxonomy = Taxonomy([Category(1, 'ground', False), Category(2, 'object', True)])
    net = make_network(num_things=1, num_stuff=1, masks=masks)
    net.hybridize()
    predictor = UnifiedPredictor(net, taxonomy, SETTINGS)
    result = predictor.predict(make_picture(64, 128))
    check(result, (64, 128))
    assert len(predictor._segmentation[2].channels.detections.scores)
    assert len(result.segments) - len(result.things) <= 1


OPTIONS = [dict(affinity=False), dict(squeeze=False), dict(deformable=True),
           dict(potential='A'), dict(potential='C'), dict(potential='C', damp_masks=False),
           dict(potential='boxes'), dict(masks=False, potential='C'),
           dict(masks=False, affinity=False), dict(activation='sigmoid'),
           dict(norm_layer='BatchNorm', anchor_sizes=(8, 16, 32, 64, 128))]


@pytest.mark.parametrize('options', OPTIONS, ids=str)
def test_variants_run_and_hybridize(options):
    net = make_network(**options)
    assert net.has_masks == options.get('masks', True)
    predictor = UnifiedPredictor(net, TAXONOMY, SETTINGS)
    plain = predictor.predict(make_picture(50, 70))
    check(plain, (50, 70))
    logits = predictor._segmentation[2].channels.logits
    net.hybridize()
    for size in ((50, 70), (32, 64)):
        result = predictor.predict(make_picture(*size))
        if size == (50, 70):
            np.testing.assert_allclose(predictor._segmentation[2].channels.logits, logits,
                                       rtol=1e-3, atol=1e-4)
            assert (result.segment_map == plain.segment_map).mean() > 0.99


def test_what_each_option_adds():
    def names(**options):
        return {name.rsplit('.', 1)[0] for name in Unified(**{**TINY, **options})
                ._collect_params_with_prefix()}

    everything = names()
    assert {name.split('.')[0] for name in everything} == {'encoder', 'box_head', 'mask_head',
                                                           'affinity'}
    assert all(n.startswith('mask_head.') for n in everything - names(masks=False))
    assert all(n.startswith(('affinity.', 'encoder.affinity_head.'))
               for n in everything - names(affinity=False))
    assert everything - names(squeeze=False) == {'encoder.squeeze.fc1', 'encoder.squeeze.fc2'}
    net = Unified(**TINY)
    assert net.encoder.squeeze.fc1.weight.shape == (32, 512)
    assert net.encoder.semantic_head.predictor.weight.shape == (5, 128, 1, 1)
    assert net.encoder.affinity_head.predictor.weight.shape == (8, 128, 1, 1)
    assert all('resnet' in name for name in net.backbone_params())


@pytest.mark.parametrize('options, match', [
    (dict(backbone='vgg'), 'no backbone "vgg"'), (dict(num_stuff=0), 'num_stuff is 0'),
    (dict(potential='D'), "potential is 'D'"), (dict(activation='swish'), 'activation is'),
    (dict(potential='A', masks=False), '"A" needs masks'),
    (dict(affinity_channels=True), 'affinity_channels is True'),
    (dict(affinity_channels=10 ** 12), 'at most 1,000,000'), (dict(masks=2), 'masks is 2'),
    (dict(affinity='no'), "affinity is 'no'"), (dict(squeeze=16), 'squeeze is 16'),
    (dict(deformable=None), 'deformable is None'), (dict(damp_masks=1), 'damp_masks is 1'),
    (dict(semantic_channels=48), '48 channels'), (dict(mean=(1, 2)), 'mean is'),
    (dict(anchor_sizes=(1, 2, 3)), 'anchor_sizes is')])
def test_arguments_that_make_no_sense(options, match):
    with pytest.raises(AdaptisError, match=match):
        Unified(**{**TINY, **options})


def test_broken_networks():
    net = make_network()
    weight = net.affinity.phi0.weight
    good = weight.data().copy()
    weight.set_data(good * np.nan)
    with pytest.raises(AdaptisError, match='not finite, in affinity.phi0.weight'):
        UnifiedPredictor(net, TAXONOMY, SETTINGS)
    weight.set_data(good)
    predictor = UnifiedPredictor(net, TAXONOMY, SETTINGS)
    for name, what in (('encoder.semantic_head.predictor.bias', 'class logits'),
                       ('encoder.rpn.objectness_logits.bias', 'objectness logits'),
                       ('affinity.phi1.bias', 'panoptic logits')):
        bias = net._collect_params_with_prefix()[name]
        good = bias.data().copy()
        bias.set_data(good + np.inf)   # since then
        with pytest.raises(AdaptisError, match=f'{what} are not finite'):
            predictor.predict(make_picture(40, 60))
        bias.set_data(good)
    check(predictor.predict(make_picture(40, 60)), (40, 60))


def test_settings_of_others_and_presets(networks):
    with pytest.raises(AdaptisError, match='Settings are not for this network'):
        UnifiedPredictor(networks[True], TAXONOMY, PanopticFPNSettings())
    scores = {name: preset.instance_score for name, preset in UNIFIED_PRESETS.items()}
    assert scores == {'coco': 0.75, 'cityscapes': 0.5, 'toy': 0.5}
    with pytest.raises(AdaptisError, match='2 classes of things and 3 of stuff'):
        UnifiedPredictor(networks[True], Taxonomy(TAXONOMY.categories[1:]))


def test_padding_takes_no_part(networks):
    """An image of 33 x 40 pixels, alone and beside a larger one."""
    net, image = networks[True], make_picture(33, 40)
    together = net(pad_batch([image, make_picture(64, 64)], net.mean))
    boxes, classes, scores = np.float32([[3, 3, 30, 30]]), [1], [0.9]
    logits = net.panoptic_logits(together, 0, (33, 40), boxes, classes, scores,
                                 np.ones((1, 28, 28)))
    assert logits.shape == (1, 4, 9, 10)
    changed = together._replace(semantic=together.semantic.copy(),
                                affinity=together.affinity.copy())
    for maps in (changed.semantic, changed.affinity):
        maps[0, :, 9:] = 100
        maps[0, :, :, 10:] = 100
        maps[1] = 100
    again = net.panoptic_logits(changed, 0, (33, 40), boxes, classes, scores,
                                np.ones((1, 28, 28)))
    np.testing.assert_array_equal(logits.asnumpy(), again.asnumpy())


def test_images_of_a_batch_do_not_touch(networks):
    """With another neighbour a map is the same, bit for bit: the same kernels see the same image.

    An image alone is computed by other kernels.  What they round otherwise moves boxes, and small
    boxes pass that on to logits many times over; those of another image would be off by all of
    their deviation.
    """
    images = [make_picture(40, 60), make_picture(64, 33)[::-1]]
    sizes, outputs = [image.shape[:2] for image in images], [(80, 120), (64, 33)]
    for net in networks.values():
        batch = pad_batch(images, net.mean)
        together = net.segment(batch, sizes, outputs, SETTINGS)
        maps = net.encoder(batch)
        for i, found in enumerate(together):
            other = batch.copy()
            other[1 - i] = 255 - other[1 - i]
            for ours, theirs in zip(maps, net.encoder(other)):
                np.testing.assert_array_equal(ours[i].asnumpy(), theirs[i].asnumpy())
                assert (ours[1 - i] != theirs[1 - i]).asnumpy().any()
            alone = net.segment(batch[i:i + 1], sizes[i:i + 1], outputs[i:i + 1], SETTINGS)[0]
            logits = alone.channels.logits
            np.testing.assert_allclose(found.channels.logits, logits, rtol=0,
                                       atol=0.05 * logits.std())
            assert (found.labels == alone.labels).mean() > 0.99
            assert found.channel_map.shape == outputs[i]
            assert len(found.instances) == len(alone.instances)


@pytest.mark.filterwarnings('ignore:Cannot decide type')
@pytest.mark.parametrize('variant', ['A', 'B', 'boxes'])
def test_graphs_export_for_every_size(tmp_path, variant):
    net = make_network(potential=variant)
    net.hybridize()

    def inputs(height, width, count):
        unit = mx.nd.random.uniform
        head = [unit(shape=(1, 5, height, width)), unit(0, 60, shape=(count, 4)),
                mx.nd.arange(count) % 2] + [unit(shape=(count,))] * (variant != 'A')
        return {'encoder': [unit(0, 255, shape=(1, 3, 32 * height, 32 * width))],
                'potential': head + [unit(shape=(count, 28, 28))] * (variant != 'boxes'),
                'affinity': [unit(shape=(1, 8, height, width)),
                             unit(shape=(1, count, height, width))]}

    def call(graph, name, arrays):
        if name == 'potential':   # takes what it does not use, too
            arrays = arrays[:3] + [None] * (variant == 'A') + arrays[3:]
        found = graph(*arrays)
        return found if isinstance(found, (list, tuple)) else [found]

    first, other = inputs(2, 3, 4), inputs(3, 1, 2)
    for name in ('encoder', 'potential', 'affinity'):
        graph = getattr(net, name)
        call(graph, name, first[name])
        graph.export(str(tmp_path / name))
        names = ['data'] if name == 'encoder' else [f'data{i}' for i in range(len(first[name]))]
        loaded = mx.gluon.SymbolBlock.imports(
            str(tmp_path / f'{name}-symbol.json'), names,
            str(tmp_path / f'{name}-0000.params') if name != 'potential' else None,
            ctx=mx.current_context())
        theirs = loaded(*other[name])
        theirs = theirs if isinstance(theirs, (list, tuple)) else [theirs]
        for ours, again in zip(call(graph, name, other[name]), theirs):
            np.testing.assert_allclose(ours.asnumpy(), again.asnumpy(), atol=1e-5)


def test_gradients_reach_everything():
    """From panoptic logits: the semantic and the affinity branch, scores and masks."""
    net = make_network()
    scores, masks = mx.nd.array([0.9, 0.5]), mx.nd.random.uniform(shape=(2, 28, 28))
    boxes = np.float32([[0, 0, 40, 40], [9, 9, 64, 64]])
    for array in (scores, masks):
        array.attach_grad()
    with mx.autograd.record():
        maps = net(pad_batch([make_picture(64, 64)], net.mean))
        logits = net.panoptic_logits(maps, 0, (64, 64), boxes, np.array([0, 1]), scores, masks)
        loss = -mx.nd.log_softmax(logits, axis=1)[:, 0].mean()
    loss.backward()
    wanted = ['affinity.phi0.weight', 'affinity.phi1.bias', 'encoder.squeeze.fc1.weight',
              'encoder.affinity_head.conv1.weight', 'encoder.semantic_head.predictor.weight',
              'encoder.backbone.stem.conv1.weight']
    parameters = net._collect_params_with_prefix()
    gradients = [parameters[name].grad() for name in wanted] + [scores.grad, masks.grad]
    for name, gradient in zip([*wanted, 'scores', 'masks'], gradients):
        values = gradient.asnumpy()
        assert np.isfinite(values).all() and np.abs(values).max() > 0, name
    assert (np.abs(masks.grad.asnumpy()).max(axis=(1, 2)) > 0).all()


def test_by_name(tmp_path):
    net = get_model('unified_r18', **{k: v for k, v in TINY.items() if k != 'backbone'})
    net.initialize()
    save_model(net, tmp_path / 'net.params')
    again = load_model(tmp_path / 'net.params')
    assert isinstance(again, Unified) and again.description == net.description
    family = find_family('unified_r50')
    assert family.metrics(again) == ('pq', 'ap', 'miou')
    assert family.expand_options({'name': 'unified_r50'})['potential'] == 'B'
    predictor = family.make_predictor(again, SETTINGS, TAXONOMY, family.stages)
    assert isinstance(predictor, UnifiedPredictor)
    result = family.evaluation_result(predictor.set_image(make_picture(40, 60)))
    assert result.objects is not None and result.semantic.shape == (40, 60)


def test_a_network_of_another_row(tmp_path):
    """Models A to D of table 1 differ in heads that a config may leave to their defaults."""
    (tmp_path / 'net.json').write_text(json.dumps({'model': {'name': 'unified_r50'}}))
    net = tmp_path / 'net.params'
    for changes, differs in (({}, None), ({'masks': True, 'semantic_channels': 64}, None),
                             ({'masks': False}, 'masks True'), ({'potential': 'C'}, 'potential B')):
        config = SimpleNamespace(model={'name': 'unified_r50', **changes})
        if differs is None:
            _check_network(config, net, 'a.yaml')
            continue
        with pytest.raises(AdaptisError, match=f'a network with {differs}, but a.yaml'):
            _check_network(config, net, 'a.yaml')
    net.touch()
    net.with_suffix('.json').unlink()
    with pytest.raises(AdaptisError, match='net.json must lie beside .*a.yaml expects unified'):
        _check_network(config, net, 'a.yaml')


def test_initial_weights():
    """The affinity begins with about as much as a potential, and is not dead."""
    mx.random.seed(0)
    net = Unified(**{**TINY, 'affinity_channels': 128, 'semantic_channels': 128})
    net.initialize(mx.init.Xavier())
    maps = net(pad_batch([make_picture(128, 256)], net.mean))
    semantic = mx.nd.softmax(maps.semantic, axis=1)
    assert semantic.min().asscalar() > 0.05   # no class is out of the question
    added = net.affinity(maps.affinity, semantic) - semantic
    assert 0 < added.max().asscalar() < 1
