"""Official checkpoint files of dense detections, written here under the official names."""
from __future__ import annotations

import json
import re

import numpy as np
import pytest

from adaptis.errors import AdaptisError
from adaptis.runtime import mx
from panoptic_baselines.convert.backbones import TORCHVISION, torchvision_name
from panoptic_baselines.convert.official import convert, load_backbone
from panoptic_baselines.dense_detections.convert import DENSE_DETECTIONS, dense_detections_name
from panoptic_baselines.dense_detections.network import DenseDetections
from panoptic_baselines.panoptic_fpn.network import PanopticFPN
from panoptic_baselines.zoo import load_model
from tests.golden import weights
from tests.panoptic_baselines.convert.pickles import tensor, torch_file

SMALL = dict(backbone='resnet18', num_things=2, num_stuff=3, fpn_channels=16, class_channels=8,
             box_channels=16)
USELESS = {'backbone.body.bn1.num_batches_tracked': np.zeros(1, np.float32),
           'backbone.body.fc.weight': np.zeros((9, 512), np.float32)}
# Ours -> official, as the kit describes it.
BACKWARD = [
    (r'encoder[.]backbone[.]', 'backbone.body.'), (r'stem[.]conv1[.]norm', 'bn1'),
    (r'stem[.]', ''), (r'res(\d)[.]', lambda m: f'layer{int(m[1]) - 1}.'),
    (r'shortcut[.]norm', 'downsample.1'), (r'shortcut', 'downsample.0'),
    (r'conv(\d)[.]norm', r'bn\1'),
    (r'encoder[.]fpn[.]lateral(\d)', lambda m: f'backbone.fpn.inner_blocks.{int(m[1]) - 3}'),
    (r'encoder[.]fpn[.]output(\d)', lambda m: f'backbone.fpn.layer_blocks.{int(m[1]) - 3}'),
    (r'encoder[.]fpn', 'backbone.fpn.extra_blocks'), (r'encoder[.]head', 'panoptic_head'),
    (r'class_tower', 'cls_tower'), (r'box_tower', 'bbox_tower'), (r'semantic', 'cls_logits'),
    (r'class_logits', 'box_cls_logits'), (r'box_offsets', 'bbox_pred'),
    (r'gamma$', 'weight'), (r'beta$', 'bias'),
]


def official(ours):
    for pattern, template in BACKWARD:
        ours = re.sub(pattern, template, ours)
    return ours


def arrays_of(**options):
    """What a checkpoint of such a network holds: every array filled with numbers of its own."""
    places = DenseDetections(**{**SMALL, **options})._collect_params_with_prefix().items()
    return {official(name): k + np.linspace(0, 1, np.prod(p.shape), dtype=np.float32
                                            ).reshape(p.shape)
            for k, (name, p) in enumerate(places)}


def write(path, arrays, **more):
    """A flat ``.pth`` file, as the official one is."""
    arrays = {n: a.astype(np.float32) for n, a in arrays.items()}
    tensors = {n: tensor(str(i), a.size, a.shape, [s // 4 for s in a.strides])
               for i, (n, a) in enumerate(arrays.items())}
    path.write_bytes(torch_file({**tensors, **more}, {
        str(i): a.tobytes() for i, a in enumerate(arrays.values())}))
    return path


def test_every_official_name_has_its_own_place(parity_root):
    entries = weights.entries(parity_root / 'realtime' / 'names.json')
    places = DenseDetections()._collect_params_with_prefix()
    assert {dense_detections_name(e['name']): tuple(e['shape']) for e in entries} == {
        name: tuple(p.shape) for name, p in places.items()}
    names = [e['name'] for e in entries]
    assert [official(dense_detections_name(name)) for name in names] == names


def test_names_by_hand():
    for name in ('backbone.fpn.inner_blocks.0.0.weight', 'backbone.fpn.inner_blocks.0.weight'):
        assert dense_detections_name(name) == 'encoder.fpn.lateral3.weight'
    assert (dense_detections_name('panoptic_head.cls_tower.4.bias')
            == 'encoder.head.class_tower.4.beta')
    assert dense_detections_name('panoptic_head.cls_logits.bias') == 'encoder.head.semantic.bias'
    assert (torchvision_name('layer4.2.downsample.1.running_var')
            == 'res5.2.shortcut.norm.running_var')
    for name in (*USELESS, 'backbone.fpn.inner_blocks.3.weight', 'panoptic_head.cls_tower.12.bias'):
        assert dense_detections_name(name) is None
    for name in ('fc.weight', 'bn1.num_batches_tracked', 'backbone.body.conv1.weight'):
        assert torchvision_name(name) is None


@pytest.mark.parametrize('options', [{}, {'levelness': False}])
def test_converted_networks_load(tmp_path, options):
    arrays = arrays_of(**options)
    report = convert(write(tmp_path / 'a.pth', {**arrays, **USELESS}), tmp_path / 'ours.params')
    assert report['network'] == 'dense_detections'
    assert set(report['mapped']) == set(arrays) and report['unknown'] == sorted(USELESS)
    net = load_model(tmp_path / 'ours.params')
    for name, parameter in net._collect_params_with_prefix().items():
        np.testing.assert_array_equal(parameter.data().asnumpy(), arrays[official(name)])
    stated = {**SMALL, 'levelness': True, **options}
    assert {key: net.description[key] for key in stated} == stated
    found = net.encode(mx.nd.ones((1, 3, 40, 56)))
    assert (found.maps.levelness is None) == (options != {})


def test_newer_names_have_the_same_places(parity_root):
    entries = weights.entries(parity_root / 'realtime' / 'names.json')
    names = [entry['name'] for entry in entries]
    newer = [re.sub('((inner|layer)_blocks[.][0-2])', r'\1.0', name) for name in names]
    assert len(set(newer) - set(names)) == 12
    both = [list(DENSE_DETECTIONS.map_names(some).values()) for some in (newer, names)]
    assert both[0] == both[1]


def test_coco_has_its_things_first():
    bias = np.arange(133)
    ours = DENSE_DETECTIONS.convert_arrays({'panoptic_head.cls_logits.bias': bias,
                                            'panoptic_head.box_cls_logits.bias': bias[:80]})
    assert ours['encoder.head.semantic.bias'].tolist() == [*range(80, 133), *range(80)]
    assert ours['encoder.head.class_logits.bias'].tolist() == list(range(80))
    other = DENSE_DETECTIONS.convert_arrays({'panoptic_head.cls_logits.bias': bias[:19]})
    assert other['encoder.head.semantic.bias'].tolist() == list(range(19))


def test_checkpoints_that_do_not_fit(tmp_path):
    arrays, target = arrays_of(), tmp_path / 'ours.params'

    def refuse(changed, message, **options):
        with pytest.raises(AdaptisError, match=message):
            convert(write(tmp_path / 'a.pth', changed), target, **options)
        assert not target.exists()

    # What is refused before shapes are looked at can be light.
    light = {n: a.ravel()[:1] if 'layer4' in n or 'layer3' in n else a for n, a in arrays.items()}

    def without(name):
        return {n: a for n, a in light.items() if n != name}
    refuse(without('panoptic_head.box_cls_logits.bias'), 'becomes .*class_logits.bias')
    refuse(without('panoptic_head.scales.2.scale'), '1 parameters are missing')
    refuse({**arrays, 'panoptic_head.centerness.bias': np.full(1, np.inf)}, 'not finite')
    refuse({**light, 'backbone.fpn.inner_blocks.0.0.bias': np.zeros(16)}, 'two arrays')
    refuse(light, '3 stuff classes, not 5', num_stuff=5)
    whole = write(tmp_path / 'a.pth', light).read_bytes()
    (tmp_path / 'cut.pth').write_bytes(whole[:len(whole) // 2])
    with pytest.raises(AdaptisError, match='cut.pth'):
        convert(tmp_path / 'cut.pth', target)


def classifier():
    """A ResNet under the names that torchvision gives it, with its classifier."""
    net = DenseDetections(**SMALL)
    rng = np.random.default_rng(1)
    arrays = {official('encoder.backbone.' + name)[len('backbone.body.'):]:
              rng.random(p.shape, np.float32)
              for name, p in net.encoder.backbone._collect_params_with_prefix().items()}
    return {**arrays, 'fc.weight': np.zeros((9, 512), np.float32),
            'bn1.num_batches_tracked': np.zeros(1, np.float32)}


@pytest.mark.parametrize('converted', [True, False])
def test_backbones_of_torchvision(tmp_path, converted):
    arrays = classifier()
    path = source = write(tmp_path / 'resnet18.pth', arrays)
    if converted:
        path = tmp_path / 'r18.params'
        report = convert(source, path)
        assert report['network'] == 'backbone'
        assert report['unknown'] == ['bn1.num_batches_tracked', 'fc.weight']
    net = DenseDetections(**SMALL)
    net.initialize()
    load_backbone(net, path)
    stem = net.encoder.backbone.stem.conv1
    np.testing.assert_array_equal(net.encoder.backbone.res3[0].shortcut.norm.running_var.data()
                                  .asnumpy(), arrays['layer2.0.downsample.1.running_var'])
    # An image, seen as it is here and as the classifier had seen it.
    image = np.random.default_rng(2).integers(0, 256, (1, 3, 16, 16)).astype(np.float32)
    ours = mx.nd.Convolution(net.encoder.normalize(mx.nd, mx.nd.array(image)), stem.weight.data(),
                             kernel=(7, 7), num_filter=64, no_bias=True)
    mean, std = (np.float32(v).reshape(1, 3, 1, 1) for v in (net.mean, (0.229, 0.224, 0.225)))
    theirs = mx.nd.Convolution(mx.nd.array((image - mean) / 255 / std),
                               mx.nd.array(arrays['conv1.weight']), kernel=(7, 7), num_filter=64,
                               no_bias=True)
    np.testing.assert_allclose(ours.asnumpy(), theirs.asnumpy(), rtol=1e-4, atol=1e-3)


def names_of(backbone):
    """What tells a ResNet of torchvision: its names, and the shape of one array."""
    net = DenseDetections(**{**SMALL, 'backbone': backbone}).encoder.backbone
    return {official('encoder.backbone.' + name)[len('backbone.body.'):]:
            np.zeros(p.shape if name == 'res2.0.conv2.weight' else (1, 3, 1, 1))
            for name, p in net._collect_params_with_prefix().items()}


def test_strides_elsewhere_are_refused(tmp_path):
    source, converted = tmp_path / 'resnet50.pth', tmp_path / 'r50.params'
    write(source, names_of('resnet50'))
    mx.nd.save(str(converted), {'stem.conv1.weight': mx.nd.zeros(1)})
    told = TORCHVISION.options(TORCHVISION.convert_arrays(names_of('resnet50')))
    converted.with_suffix('.json').write_text(json.dumps({'model': told}))
    for path in (source, converted):
        for backbone, message in (('resnet50', 'strides in its 3x3 .* use the file of detectron2'),
                                  ('resnet18', 'another network')):
            net = PanopticFPN(backbone=backbone, instances=False, fpn_channels=32)
            with pytest.raises(AdaptisError, match=message):
                load_backbone(net, path)
    fits = DenseDetections(**{**SMALL, 'backbone': 'resnet50'})
    with pytest.raises(AdaptisError, match='another network'):   # but for its strides
        load_backbone(fits, source)


def test_backbones_that_do_not_fit(tmp_path):
    net = DenseDetections(**{**SMALL, 'backbone': 'resnet34'})
    with pytest.raises(AdaptisError, match='another network'):
        load_backbone(net, write(tmp_path / 'resnet18.pth', names_of('resnet18')))
    lacking = {n: a for n, a in names_of('resnet34').items() if n != 'layer1.0.conv2.weight'}
    with pytest.raises(AdaptisError, match='missing'):
        load_backbone(net, write(tmp_path / 'lacking.pth', lacking))
    with pytest.raises(AdaptisError, match='Only ResNets'):
        convert(write(tmp_path / 'x.pth', names_of('resnext101_32x8d')), tmp_path / 'x.params')
