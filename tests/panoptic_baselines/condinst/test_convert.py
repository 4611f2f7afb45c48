"""Official checkpoint files of CondInst, written here under the official names."""
from __future__ import annotations

import json
import re

import numpy as np
import pytest

from adaptis.errors import AdaptisError
from adaptis.runtime import mx
from panoptic_baselines.condinst.convert import CONDINST, condinst_name, condinst_options
from panoptic_baselines.condinst.network import CondInst
from panoptic_baselines.convert.official import convert, load_backbone
from panoptic_baselines.layers.dla import DLA34
from panoptic_baselines.zoo import load_model
from tests.golden import weights
from tests.panoptic_baselines.convert.pickles import tensor, torch_file

SMALL = dict(backbone='resnet18', num_things=3, fpn_channels=32, branch_channels=16)
USELESS = {'mask_head._iter': np.float32([7]), 'pixel_mean': np.zeros((3, 1, 1), np.float32),
           'mask_head.sizes_of_interest': np.float32([64, 128, 256]),
           'mask_branch.refine.0.1.num_batches_tracked': np.float32([3]),
           'backbone.bottom_up.level3.project.0.weight': np.zeros((8, 4, 1, 1), np.float32)}
VARIANTS = {
    'plain': {},
    'sem, dcn': dict(things=True, mask_depth=2, mask_width=4, mask_channels=16,
                     deformable_stages=[4, 5]),
    'panoptic': dict(semantic=True, num_stuff=2, semantic_channels=32),
    'concat, no mask branch': dict(semantic=True, num_stuff=2, semantic_channels=64,
                                   semantic_join='concat', mask_channels=0),
    'bifpn': dict(bifpn_repeats=2),
    'real time': dict(backbone='dla34', norm_layer='BatchNorm', std=(1.0, 1.0, 1.0), levels=3,
                      head_depth=0, share_depth=3, head_norm='BatchNorm', bifpn_repeats=1),
}
MORE = ('plain', 'bifpn', 'concat, no mask branch')
# Ours -> official: the rules of the converter, turned round by hand.
BACKWARD = [
    (r'encoder[.]backbone[.](.+)[.]conv2[.]offset', r'backbone.bottom_up.\1.conv2_offset'),
    (r'encoder[.]backbone', 'backbone.bottom_up'),
    (r'encoder[.]fpn[.]top', 'backbone.bottom_up.res6.reduction'),
    (r'encoder[.]fpn[.](p[67])', r'backbone.top_block.\1'),
    (r'encoder[.]fpn[.]repeat(\d)[.]lateral(\d)', r'backbone.repeated_bifpn.\1.lateral_\2_f\2'),
    (r'encoder[.]fpn[.]repeat(\d)[.](f[_\d]+)[.]output',
     r'backbone.repeated_bifpn.\1.outputs_\2'),
    (r'encoder[.]fpn[.]repeat(\d)[.](f[_\d]+)[.]weights$',
     r'backbone.repeated_bifpn.\1.weights_\2'),
    (r'encoder[.]fpn[.]', 'backbone.fpn_'),
    (r'encoder[.]head[.]controller', 'controller'),
    (r'encoder[.]head', 'proposal_generator.fcos_head'),
    (r'encoder[.]mask_branch[.](refine|tower)[.](\d)[.]norm', r'mask_branch.\1.\2.1'),
    (r'encoder[.]mask_branch[.](refine|tower)[.](\d)[.]weight', r'mask_branch.\1.\2.0.weight'),
    (r'encoder[.]mask_branch', 'mask_branch'),
    (r'encoder[.]semantic_head', 'panoptic_module'),
    (r'things_head[.]seg_head[.](\d)[.]norm', r'mask_branch.seg_head.\1.1'),
    (r'things_head[.]seg_head[.](\d)[.]weight', r'mask_branch.seg_head.\1.0.weight'),
    (r'things_head', 'mask_branch'),
]
DLA_BACKWARD = [
    (r'(base_layer|level[01]|project)[.]weight$', r'\1.0.weight'),
    (r'(base_layer|level[01]|project)[.]norm', r'\1.1'),
    (r'conv([12])[.]norm', r'bn\1'), (r'root[.]weight', 'root.conv.weight'),
    (r'root[.]norm', 'root.bn'),
]


def official(ours, bifpn=False):
    """What AdelaiDet calls a parameter of ours."""
    name = ours.replace('.gamma', '.weight').replace('.beta', '.bias')
    for pattern, template in BACKWARD:
        name, count = re.subn('^' + pattern, template, name)
        if count:
            break
    name = re.sub('^(mask_branch.tower.4).0', r'\1', name)   # is no pair of layer and norm
    if '.bottom_up.level' in name or '.bottom_up.base' in name:
        for pattern, template in DLA_BACKWARD:
            name = re.sub(pattern, template, name)
    if bifpn:
        name = name.replace('bottom_up.', 'bottom_up.backbone.').replace('backbone.res6', 'res6')
    return name


def arrays_of(net, bifpn=False):
    """What an official checkpoint of a network of ours holds."""
    return {official(name, bifpn): p.data().asnumpy()
            for name, p in net._collect_params_with_prefix().items()}


def fill(net):
    """Numbers of its own for every array, in no time."""
    rng = np.random.default_rng(0)
    net.initialize(mx.init.Zero())
    for name, p in net._collect_params_with_prefix().items():
        values = rng.random(p.shape, np.float32)
        p.set_data(mx.nd.array((values - 0.5) * 0.2 if name.endswith('.weight') else values + 0.5))
    return net


def make_net(**options):
    return fill(CondInst(**{**SMALL, **options}))


def write(path, arrays):
    tensors = {n: tensor(str(i), a.size, a.shape, [s // 4 for s in a.strides])
               for i, (n, a) in enumerate(arrays.items())}
    path.write_bytes(torch_file({'model': tensors, 'iteration': 7}, {
        str(i): np.ascontiguousarray(a, np.float32).tobytes()
        for i, a in enumerate(arrays.values())}))
    return path


@pytest.fixture(scope='module')
def plain():
    return make_net()


@pytest.mark.parametrize('variant', [
    pytest.param(name, marks=pytest.mark.slow if name in MORE else ()) for name in VARIANTS])
def test_converted_networks_give_the_same(tmp_path, variant, plain):
    options = {**SMALL, **VARIANTS[variant]}
    net = make_net(**options) if VARIANTS[variant] else plain
    arrays = arrays_of(net, 'bifpn_repeats' in options)
    report = convert(write(tmp_path / 'model_final.pth', {**arrays, **USELESS}),
                     tmp_path / 'ours.params')
    assert report['network'] == 'condinst'
    assert set(report['mapped']) == set(arrays) and report['unknown'] == sorted(USELESS)
    again = load_model(tmp_path / 'ours.params')
    assert {key: again.description[key] for key in set(options) & set(again.description)
            } == json.loads(json.dumps({k: v for k, v in options.items()
                                        if k in again.description}))
    assert set(VARIANTS[variant]) <= {*again.description, 'norm_layer'}   # of no matter there
    image = mx.nd.random.uniform(0, 255, (1, 3, 64, 64))
    for a, b in zip(net.encoder(image), again.encoder(image)):
        np.testing.assert_array_equal(a.asnumpy(), b.asnumpy())


def test_all_official_names_have_their_place(condinst_kit, official_arrays, condinst_net):
    arrays = official_arrays(condinst_kit / 'names.json')
    ours = CONDINST.convert_arrays(arrays)
    assert {name: a.shape for name, a in ours.items()} == {
        name: p.shape for name, p in condinst_net._collect_params_with_prefix().items()}
    options = condinst_options(ours)
    assert options == dict(
        name='condinst', backbone='resnet50', num_things=80, fpn_channels=256, levels=5,
        things=True, head_depth=4, share_depth=0, mask_channels=8, branch_channels=128,
        mask_depth=3, mask_width=8, coordinates='relative', semantic=False)
    assert CondInst(**{k: v for k, v in options.items() if k != 'name'}).mask_head.num_params == 169


def test_names_of_a_panoptic_network(condinst_kit):
    """A network with the semantic branch has the names of both files."""
    kit = condinst_kit
    entries = [entry for name in ('names.json', 'variants/names_panoptic.json')
               for entry in weights.entries(kit / name)]
    arrays = {condinst_name(e['name']): np.broadcast_to(np.float32(0), e['shape'])
              for e in entries}
    options = condinst_options(arrays)
    assert options.items() > dict(semantic=True, num_stuff=53, semantic_channels=128,
                                  semantic_join='sum', things=True).items()
    net = CondInst(**{key: value for key, value in options.items() if key != 'name'})
    assert {name: p.shape for name, p in net._collect_params_with_prefix().items()} == {
        name: array.shape for name, array in arrays.items()}


def test_names_by_hand():
    for theirs, ours in (
            ('backbone.bottom_up.res3.0.conv2_offset.bias',
             'encoder.backbone.res3.0.conv2.offset.bias'),
            ('backbone.bottom_up.backbone.res2.0.conv1.norm.weight',
             'encoder.backbone.res2.0.conv1.norm.gamma'),
            ('proposal_generator.fcos_head.centerness.bias', 'encoder.head.ctrness.bias'),
            ('proposal_generator.fcos_head.share_tower.4.2.running_mean',
             'encoder.head.share_tower.4.2.running_mean'),
            ('proposal_generator.fcos_head.bbox_tower.10.weight',
             'encoder.head.bbox_tower.10.gamma'),
            ('proposal_generator.fcos_head.cls_tower.9.bias', 'encoder.head.cls_tower.9.bias'),
            ('mask_branch.tower.4.bias', 'encoder.mask_branch.tower.4.bias'),
            ('mask_branch.seg_head.1.1.bias', 'things_head.seg_head.1.norm.beta'),
            ('mask_branch.logits.weight', 'things_head.logits.weight')):
        assert condinst_name(theirs) == ours
    for name in (*USELESS, 'proposal_generator.fcos_head.unknown.weight', 'top_layer.weight'):
        assert condinst_name(name) is None


def test_older_names(tmp_path, plain):
    arrays = {name.replace('ctrness', 'centerness'): a for name, a in arrays_of(plain).items()}
    convert(write(tmp_path / 'old.pth', arrays), tmp_path / 'ours.params')
    ours = mx.nd.load(str(tmp_path / 'ours.params'))['encoder.head.ctrness.weight']
    np.testing.assert_array_equal(ours.asnumpy(),
                                  plain.encoder.head.ctrness.weight.data().asnumpy())


@pytest.mark.parametrize('stages, interval', [([3, 4, 5], 3), ([5], 2), ([4, 5], 1)])
@pytest.mark.parametrize('modulated', [False, True])
def test_deformable_stages_are_read_from_the_names(stages, interval, modulated):
    net = CondInst(backbone='resnet101', fpn_channels=32, deformable_stages=stages,
                   deformable_interval=interval, modulated=modulated)
    arrays = {name: np.broadcast_to(np.float32(0), p.shape)
              for name, p in net._collect_params_with_prefix().items()}
    options = condinst_options(arrays)
    assert (options['backbone'], options['deformable_stages'], options['deformable_interval'],
            options['modulated']) == ('resnet101', stages, interval, modulated)


@pytest.mark.parametrize('head', [
    dict(), dict(mask_depth=1), dict(mask_depth=2), dict(mask_width=4), dict(mask_width=2),
    dict(mask_channels=16), dict(mask_channels=1), dict(coordinates=None)])
def test_mask_heads_are_read_from_the_size_of_the_controller(head):
    net = CondInst(**SMALL, **head)
    arrays = {name: np.broadcast_to(np.float32(0), p.shape)
              for name, p in net._collect_params_with_prefix().items()}
    options = condinst_options(arrays)
    usual = dict(mask_depth=3, mask_width=8, mask_channels=8, coordinates='relative')
    if head.get('mask_depth') == 1:
        options.pop('mask_width')   # there is no layer that has it
    assert {key: options.get(key, value) for key, value in usual.items()} == {**usual, **head}


def test_checkpoints_that_do_not_fit(tmp_path, plain):
    arrays, target = arrays_of(plain), tmp_path / 'ours.params'
    few = {n: a for n, a in arrays.items() if 'backbone' not in n}   # enough for a first look

    def refuse(changed, message):
        with pytest.raises(AdaptisError, match=message):
            convert(write(tmp_path / 'a.pth', changed), target)
        assert not target.exists()

    def without(name, arrays=few):
        return {n: a for n, a in arrays.items() if n != name}
    refuse(without('proposal_generator.fcos_head.cls_logits.bias'), 'becomes .encoder.head.cls_lo')
    refuse(without('mask_branch.tower.2.0.weight', arrays), '1 parameters are missing')
    refuse({**few, 'controller.bias': np.zeros(170, np.float32)}, 'of a known size')
    refuse({**arrays, 'controller.bias': np.full(169, np.nan, np.float32)}, 'not finite')
    refuse(without('controller.weight'), 'is not a checkpoint of .*CondInst')
    refuse(few, "becomes 'encoder.backbone.res2.0.conv2.weight'")


def test_backbones_of_real_time_networks(tmp_path):
    classifier = fill(DLA34())
    arrays = {official(f'encoder.backbone.{name}').replace('backbone.bottom_up.', ''):
              p.data().asnumpy() for name, p in classifier._collect_params_with_prefix().items()}
    extra = {'fc.weight': np.zeros((4, 512, 1, 1), np.float32), 'fc.bias': np.zeros(4, np.float32)}
    source = write(tmp_path / 'dla34.pth', {**arrays, **extra})
    converted = tmp_path / 'dla34.params'
    report = convert(source, converted)
    assert report['network'] == 'backbone' and report['unknown'] == sorted(extra)
    net = CondInst(**{**SMALL, 'backbone': 'dla34', 'levels': 3})
    # The classifier sees RGB, our backbones BGR.
    image = mx.nd.random.normal(shape=(1, 3, 64, 64))
    expected = [x.asnumpy() for x in classifier(image)]
    for path in (source, converted):
        net.initialize(mx.init.Zero(), force_reinit=True)
        load_backbone(net, path)
        for a, b in zip(net.encoder.backbone(mx.nd.flip(image, axis=1)), expected):
            np.testing.assert_allclose(a.asnumpy(), b, atol=1e-4 * b.std())


def test_offsets_are_not_expected_of_a_classifier(tmp_path, plain):
    net = make_net(deformable_stages=[5])
    mx.nd.save(str(tmp_path / 'r18.params'), {
        name: p.data() for name, p in plain.encoder.backbone._collect_params_with_prefix().items()})
    before = net.encoder.backbone.res5[0].conv2.offset.bias.data().asnumpy()
    load_backbone(net, tmp_path / 'r18.params')
    layer, wanted = net.encoder.backbone.res5[0].conv2, plain.encoder.backbone.res5[0].conv2
    np.testing.assert_array_equal(layer.weight.data().asnumpy(), wanted.weight.data().asnumpy())
    np.testing.assert_array_equal(layer.offset.bias.data().asnumpy(), before)
    with pytest.raises(AdaptisError, match='r18.params'):
        load_backbone(make_net(backbone='dla34', levels=3), tmp_path / 'r18.params')
