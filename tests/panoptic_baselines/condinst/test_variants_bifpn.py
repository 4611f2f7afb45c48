"""CondInst with a BiFPN against the official one's tensors."""
from __future__ import annotations

import pytest

from adaptis.runtime import mx
from panoptic_baselines.condinst.convert import CONDINST, condinst_options
from panoptic_baselines.predictor import pad_batch
from tests.panoptic_baselines.condinst.golden import LEVELS, Data, close

TAPS = 2e-4
OPTIONS = dict(bifpn_repeats=6, fpn_channels=160, things=True)


@pytest.fixture(scope='module')
def golden(condinst_kit):
    return Data.load(condinst_kit / 'variants' / 'bifpn.npz')


@pytest.fixture(scope='module')
def arrays(condinst_kit, official_arrays):
    return official_arrays(condinst_kit / 'variants' / 'names_bifpn.json')


@pytest.fixture(scope='module')
def net(arrays, make_official):
    return make_official(arrays, **OPTIONS)


def test_names_say_what_network_it_is(arrays, net):
    ours = CONDINST.convert_arrays(arrays)
    places = net._collect_params_with_prefix()
    assert {name: array.shape for name, array in ours.items()} == {
        name: p.shape for name, p in places.items()}
    assert condinst_options(ours).items() >= {
        **OPTIONS, 'name': 'condinst', 'backbone': 'resnet50', 'num_things': 80, 'levels': 5,
        'head_depth': 4, 'share_depth': 0, 'mask_channels': 8, 'branch_channels': 128,
        'mask_depth': 3, 'mask_width': 8, 'coordinates': 'relative', 'semantic': False}.items()


def test_pyramid(net, golden):
    net.hybridize(False)
    features = net.encoder.backbone(golden.nd('input'))[1:]
    close(features[2][:, ::16], golden['res5_c16'], TAPS)
    fpn = net.encoder.fpn
    tops = [fpn.top(features[2])]
    for level in (6, 7):
        tops.append(mx.nd.Pooling(tops[-1], kernel=(3, 3), stride=(2, 2), pad=(1, 1),
                                  pool_type='max'))
        close(tops[-1], golden[f'res{level}'], TAPS)
    for level, x in zip(LEVELS, fpn.repeat0(*features, *tops[1:])):
        close(x[:, ::4] if level == 3 else x, golden[f'rep0_p{level}'], TAPS)


@pytest.mark.parametrize('hybridize', [False, True])
def test_in_a_chain(net, golden, hybridize):
    net.hybridize(hybridize)
    batch = pad_batch([golden.image()], net.mean)
    for level, x in zip(LEVELS, net.encoder.fpn(*net.encoder.backbone(golden.nd('input'))[1:])):
        close(x, golden[f'p{level}'], TAPS)
    maps = net(batch)
    close(maps.mask_features, golden['mask_feats'], TAPS)
    for key, part in (('cls_logits', maps.logits), ('reg', maps.distances), ('top', maps.params)):
        close(part[2], golden[f'{key}_p5'], TAPS)
