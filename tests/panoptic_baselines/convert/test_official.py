"""Official checkpoint files, written here under the official names."""
from __future__ import annotations

import pickle

import numpy as np
import pytest

from adaptis.errors import AdaptisError
from adaptis.model.zoo import read_arrays
from panoptic_baselines.convert.backbones import caffe2_name
from panoptic_baselines.convert.official import convert, load_backbone
from panoptic_baselines.layers.resnet import RESNET_SPECS
from panoptic_baselines.panoptic_fpn.convert import detectron2_name, panoptic_fpn_options
from panoptic_baselines.panoptic_fpn.network import PanopticFPN
from panoptic_baselines.zoo import load_model
from tests.golden import weights
from tests.panoptic_baselines.convert.pickles import tensor, torch_file

SMALL = dict(backbone='resnet18', num_things=3, num_stuff=2, fpn_channels=32,
             semantic_channels=32, box_channels=8, mask_channels=16)
USELESS = {'pixel_mean': np.zeros((3, 1, 1)), 'pixel_std': np.ones((3, 1, 1)),
           'proposal_generator.anchor_generator.cell_anchors.0': np.zeros((3, 4))}


def official(ours):
    """The official name of a parameter of ours: the rules of ``convert``, turned round by hand."""
    for before, after in (
            ('encoder.backbone.', 'backbone.bottom_up.'), ('encoder.fpn.', 'backbone.fpn_'),
            ('encoder.rpn.', 'proposal_generator.rpn_head.'),
            ('encoder.semantic_head.', 'sem_seg_head.'), ('mask_head.', 'roi_heads.mask_head.'),
            ('box_head.fc', 'roi_heads.box_head.fc'), ('box_head.', 'roi_heads.box_predictor.'),
            ('.gamma', '.weight'), ('.beta', '.bias')):
        if before.startswith('.') or ours.startswith(before):
            ours = ours.replace(before, after)
    return ours


def arrays_of(**options):
    """What a checkpoint of such a network holds: every array filled with numbers of its own."""
    net = PanopticFPN(**{**SMALL, **options})
    places = net._collect_params_with_prefix().items()
    return {official(name): k + np.linspace(0, 1, np.prod(p.shape), dtype=np.float32
                                            ).reshape(p.shape)
            for k, (name, p) in enumerate(places)}


def write(path, arrays, **more):
    path.write_bytes(pickle.dumps({'model': arrays, '__author__': 'someone', **more}))
    return path


def test_every_official_name_has_its_own_place(parity_root):
    entries = weights.entries(parity_root / 'panoptic_fpn' / 'names.json')
    places = PanopticFPN()._collect_params_with_prefix()
    mapped = {detectron2_name(e['name']): tuple(e['shape']) for e in entries}
    assert mapped == {name: tuple(p.shape) for name, p in places.items()}


def test_names_by_hand():
    assert (detectron2_name('backbone.bottom_up.res3.0.shortcut.norm.running_var')
            == 'encoder.backbone.res3.0.shortcut.norm.running_var')
    assert (detectron2_name('sem_seg_head.p4.2.norm.weight')
            == 'encoder.semantic_head.p4.2.norm.gamma')
    assert detectron2_name('roi_heads.box_predictor.cls_score.bias') == 'box_head.cls_score.bias'
    for name in (*USELESS, 'backbone.fpn_lateral6.weight', 'roi_heads.mask_head.mask_fcn5.weight'):
        assert detectron2_name(name) is None
    assert caffe2_name('res2_0_branch2a_w') == 'res2.0.conv1.weight'
    assert caffe2_name('res4_22_branch1_bn_s') == 'res4.22.shortcut.norm.gamma'
    assert caffe2_name('conv1_w') == 'stem.conv1.weight'
    assert caffe2_name('res_conv1_bn_riv') == 'stem.conv1.norm.running_var'
    assert caffe2_name('conv1_b') is caffe2_name('fc1000_w') is None


@pytest.mark.parametrize('network, options', [
    ('panoptic_fpn', {}), ('mask_rcnn', {'semantic': False}),
    ('semantic_fpn', {'instances': False}),
    ('panoptic_fpn', {'semantic_join': 'concat', 'semantic_channels': 64})])
def test_converted_networks_load(tmp_path, network, options):
    arrays = arrays_of(**options)
    report = convert(write(tmp_path / 'a.pkl', {**arrays, **USELESS}), tmp_path / 'ours.params')
    assert set(report['mapped']) == set(arrays) and report['unknown'] == sorted(USELESS)
    assert report['network'] == network
    net = load_model(tmp_path / 'ours.params')
    for name, parameter in net._collect_params_with_prefix().items():
        np.testing.assert_array_equal(parameter.data().asnumpy(), arrays[official(name)])
    stated = {**SMALL, **options}
    told = set(stated) & set(net.description)
    assert {'backbone', 'fpn_channels'} < told
    assert {key: stated[key] for key in told} == {key: net.description[key] for key in told}


@pytest.mark.parametrize('backbone', RESNET_SPECS)
def test_backbones_are_told_apart_by_their_shapes(backbone):
    net = PanopticFPN(backbone=backbone)
    arrays = {name: np.broadcast_to(np.float32(0), p.shape)
              for name, p in net._collect_params_with_prefix().items()}
    options = panoptic_fpn_options(arrays)
    assert options['backbone'] == backbone and options['name'] == 'panoptic_fpn'
    assert (options['num_things'], options['num_stuff']) == (80, 53)


def test_files_of_training_runs_with_pytorch(tmp_path):
    arrays = arrays_of(semantic=False)
    tensors = {n: tensor(str(i), a.size, a.shape, [s // 4 for s in a.strides])
               for i, (n, a) in enumerate(arrays.items())}
    path = tmp_path / 'model_final.pth'
    path.write_bytes(torch_file({'model': tensors, 'iteration': 7}, {
        str(i): a.tobytes() for i, a in enumerate(arrays.values())}))
    assert len(convert(path, tmp_path / 'ours.params')['mapped']) == len(arrays)
    stored = read_arrays(tmp_path / 'ours.params')
    np.testing.assert_array_equal(stored['mask_head.deconv.weight'].asnumpy(),
                                  arrays['roi_heads.mask_head.deconv.weight'])


def classifier():
    """A ResNet-18 under the names that Caffe2 gives it, with its classifier."""
    shapes = {'conv1': (64, 3, 7, 7)}
    for stage, width in enumerate((64, 128, 256, 512), 2):
        before = max(64, width // 2)
        if stage > 2:
            shapes[f'res{stage}_0_branch1'] = width, before, 1, 1
        for block, source in enumerate((before, width)):
            shapes[f'res{stage}_{block}_branch2a'] = width, source, 3, 3
            shapes[f'res{stage}_{block}_branch2b'] = width, width, 3, 3
    rng = np.random.default_rng(1)
    arrays = {'conv1_b': np.zeros(64), 'fc1000_w': np.zeros((9, 512))}
    for layer, shape in shapes.items():
        arrays[layer + '_w'] = rng.random(shape, np.float32)
        for field in ('gamma', 'beta', 'running_mean', 'running_var'):
            name = f'{"res_" if layer == "conv1" else ""}{layer}_bn_{field}'
            arrays[name] = rng.normal(size=shape[0]).astype(np.float32)
    return arrays


@pytest.mark.parametrize('converted', [True, False])
def test_backbones_of_classifiers(tmp_path, converted):
    arrays = classifier()
    path = source = tmp_path / 'R-18.pkl'
    source.write_bytes(pickle.dumps({'blobs': arrays}, protocol=2))
    if converted:
        path = tmp_path / 'r18.params'
        report = convert(source, path)
        assert report['network'] == 'backbone' and report['unknown'] == ['conv1_b', 'fc1000_w']
    net = PanopticFPN(**SMALL)
    net.initialize()
    load_backbone(net, path)
    backbone = net.encoder.backbone
    for parameter, name in ((backbone.stem.conv1.weight, 'conv1_w'),
                            (backbone.stem.conv1.norm.gamma, 'res_conv1_bn_gamma'),
                            (backbone.res3[0].shortcut.norm.running_var,
                             'res3_0_branch1_bn_running_var'),
                            (backbone.res5[1].conv2.weight, 'res5_1_branch2b_w')):
        np.testing.assert_array_equal(parameter.data().asnumpy(), arrays[name])


def test_backbones_that_do_not_fit(tmp_path):
    net = PanopticFPN(**{**SMALL, 'backbone': 'resnet34'})
    net.initialize()
    (tmp_path / 'R-18.pkl').write_bytes(pickle.dumps(classifier()))
    with pytest.raises(AdaptisError, match='another network'):
        load_backbone(net, tmp_path / 'R-18.pkl')


def test_checkpoints_that_do_not_fit(tmp_path):
    arrays, target = arrays_of(), tmp_path / 'ours.params'

    def refuse(changed, message, **options):
        with pytest.raises(AdaptisError, match=message):
            convert(write(tmp_path / 'a.pkl', changed), target, **options)
        assert not target.exists()

    def without(name):
        return {n: a for n, a in arrays.items() if n != name}
    refuse({'layer1.0.weight': np.ones(3)}, 'is not a checkpoint of .*layer1.0.weight')
    refuse(without('roi_heads.box_head.fc1.bias'), "becomes 'box_head.fc1.bias'")
    refuse(without('backbone.bottom_up.res3.1.conv2.weight'), '1 parameters are missing')
    refuse({n: a for n, a in arrays.items() if 'res4' not in n}, 'No known backbone has')
    refuse({**arrays, 'sem_seg_head.predictor.bias': np.full(3, np.nan)}, 'not finite')
    refuse({**arrays, 'roi_heads.box_head.fc2.weight': np.ones((8, 9))}, r'is \(8, 9\)')
    refuse(arrays, '2 stuff classes, not 5', num_stuff=5)
    (tmp_path / 'b.pkl').write_bytes(b'nothing')
    with pytest.raises(AdaptisError, match='b.pkl is not a readable checkpoint'):
        convert(tmp_path / 'b.pkl', target)
