"""The DeepLab and FPN networks against the official ones' tensors, tap by tap."""
from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest

from adaptis.inference.encoded import ImageEncoder
from adaptis.inference.settings import AdaptISSettings
from adaptis.runtime import mx
from tests.adaptis.model.golden import official_net
from tests.golden.reading import Arrays, stored

NETWORKS = {'cityscapes_r50': ('adaptis_deeplab', {}), 'fpn_r50': ('adaptis_fpn', {}),
            'cityscapes_r101': ('adaptis_deeplab', {'backbone': 'resnet101'})}
QUARTER = np.s_[:, ::4, ::2, ::2]   # what the golden data keeps of large maps


class Golden(NamedTuple):
    net: object
    case: object
    image: object
    points: object

    def close(self, actual, key, tolerance, kept=np.s_[:]):
        actual = actual if isinstance(actual, np.ndarray) else actual.asnumpy()
        np.testing.assert_allclose(*stored(actual[kept], self.case[key]), rtol=0, atol=tolerance,
                                   err_msg=key)


@pytest.fixture(scope='module', params=sorted(NETWORKS))
def loaded(request, parity, parity_root):
    path = next((parity / request.param).glob('case_*.npz'), None)
    if path is None:
        pytest.skip(f'no golden data in {parity / request.param}: set ADAPTIS_PARITY to the '
                    'full golden data')
    name, options = NETWORKS[request.param]
    net = official_net(parity_root, request.param, name, **options)
    case = Arrays.load(path)
    image = case['image'].transpose(2, 0, 1)[None].astype(np.float32)
    return Golden(net, case, mx.nd.array(image), mx.nd.array(case['points'][None]))


@pytest.fixture(params=[False, True], ids=['imperative', 'hybridized'])
def golden(request, loaded):
    loaded.net.hybridize(request.param)
    return loaded


def test_outputs(golden):
    instances, semantic, proposals = golden.net(golden.image, golden.points)
    golden.close(instances, 'instances', 1e-3, np.s_[..., ::2, ::2])
    golden.close(semantic, 'semantic', 2e-4, np.s_[..., ::4, ::4])
    golden.close(proposals, 'proposals', 2e-4)


def test_once_per_image(golden):
    features, query_map, semantic, proposals = golden.net.encoder(golden.image)
    golden.close(features, 'features', 2e-4, QUARTER)
    golden.close(query_map, 'features', 2e-4, QUARTER)
    golden.close(semantic, 'semantic_lowres', 2e-4)
    golden.close(proposals, 'proposals_map', 2e-4)
    if 'p2' in golden.case:
        encoder = golden.net.encoder
        _, p2, p3, p4 = encoder.backbone(encoder.normalize(golden.image))
        golden.close(p2, 'p2', 2e-4, QUARTER)
        golden.close(p3, 'p3', 2e-4, np.s_[:, ::4])
        golden.close(p4, 'p4', 2e-4, np.s_[:, ::4])


def test_once_per_point(golden):
    head, taps, points = golden.net.point_head, golden.case['tap_points'], golden.points
    features, query_map, *_ = golden.net.encoder(golden.image)
    sampled = head.sample(query_map, points)
    golden.close(sampled, 'query', 2e-4)
    query = head.controller(sampled)
    golden.close(query, 'controller_out', 2e-4)
    golden.close(head.adain.scale(query), 'adain_scale', 2e-4)
    golden.close(head.adain.bias(query), 'adain_bias', 2e-4)
    coordinates = head.coordinates(features, points)
    golden.close(coordinates, 'coords', 1e-6, taps)
    adain = head.adain(head.before(head.first(features, coordinates, points)), query)
    golden.close(adain.asnumpy()[taps], 'adain', 2e-3, QUARTER)
    golden.close(head(features, query_map, points), 'instances_lowres', 1e-3)
    share, rest = head.split()
    golden.close(rest(share(features), query_map, points), 'instances_lowres', 1e-3)


@pytest.mark.parametrize('flip', [False, True])
def test_probabilities_of_the_prediction_wrapper(golden, flip):
    suffix = '_flip' if flip else ''
    encoded = ImageEncoder(golden.net, AdaptISSettings(flip=flip,
                                                         official=True))(golden.case['image'])
    masks = encoded.masks_at(golden.case['points'][golden.case['flip_points']])
    golden.close(masks, f'instances_prob{suffix}', 2e-4, np.s_[..., ::2, ::2])
    golden.close(encoded.proposals_prob, f'proposals_prob{suffix}', 2e-4)
    if flip:
        golden.close(encoded.things_prob, 'things_prob_flip', 2e-4, np.s_[..., ::4, ::4])
        golden.close(encoded.stuff_prob, 'stuff_prob_flip', 2e-4, np.s_[..., ::4, ::4])
