"""The whole algorithm with the network, against the official get_panoptic_segmentation."""
from __future__ import annotations

import json

import numpy as np
import pytest

from adaptis.inference.greedy import search_proposals
from adaptis.inference.predictor import Predictor
from adaptis.inference.settings import AdaptISSettings
from tests.adaptis.model.golden import official_net
from tests.golden.reading import Arrays, stored

WIDTHS = {'toy_w8': 8, 'toy': 32}
CASES = [('toy_w8', 'proposals_96x96'), ('toy_w8', 'proposals_101x83'),
         ('toy_w8', 'proposals_flip_96x96'), ('toy_w8', 'proposals_flip_101x83'),
         ('toy_w8', 'random_96x96'), ('toy_w8', 'random_101x83'),
         ('toy', 'proposals_flip_96x96'), ('toy', 'proposals_101x83')]
SEED = 7  # of the official runs


@pytest.fixture(scope='module')
def networks(parity_root):
    """Official networks by name, built when first asked for."""
    built = {}

    def get(name):
        if name not in built:
            net = official_net(parity_root, name, 'adaptis_toy', width=WIDTHS[name])
            net.hybridize()
            built[name] = net
        return built[name]
    return get


@pytest.mark.parametrize('network, case', CASES)
def test_equals_the_official_run(parity, networks, network, case):
    expected = Arrays.load(parity / network / f'e2e_{case}.npz')
    settings = AdaptISSettings.from_official(json.loads(str(expected['params'])), official=True,
                                             seed=SEED)
    predictor = Predictor(networks(network), settings).set_image(expected['image'])
    merged = predictor.segmentation().merged
    assert len(merged.masks) == len(expected['masks'])
    for mask, right in zip(merged.masks, expected['masks']):
        np.testing.assert_allclose(mask, right.astype(np.float32), atol=2e-3)
    np.testing.assert_allclose(merged.background, expected['background'], atol=1e-4)
    np.testing.assert_array_equal(merged.class_ids, expected['class_ids'])
    assert (merged.instances == expected['instances_mask']).mean() >= 0.999
    assert (merged.semantic == expected['semantic_segmentation']).mean() >= 0.999
    if 'pmap' in expected:
        prob = predictor.proposal_map()
        np.testing.assert_allclose(prob, expected['pmap'], atol=1e-4)
        found = search_proposals(prob, settings, with_colors=True)
        np.testing.assert_array_equal(found.candidates, expected['candidates'])
        assert (found.colors == expected['colors']).mean() >= 0.995


def check(probability, expected):
    np.testing.assert_allclose(*stored(probability, expected), atol=2e-4)


@pytest.mark.parametrize('network, size', [('toy_w8', '96x96'), ('toy_w8', '101x83')])
def test_probabilities_of_the_prediction_wrapper(parity, networks, network, size):
    case = Arrays.load(parity / network / f'case_{size}.npz')
    net, points = networks(network), case['points'][case['flip_points']]
    for flip, suffix in ((False, ''), (True, '_flip')):
        settings = AdaptISSettings(flip=flip, official=True)
        predictor = Predictor(net, settings).set_image(case['image'])
        encoded = predictor._encoded()
        check(encoded.proposals_prob, case[f'proposals_prob{suffix}'])
        check(encoded.masks_at(points), case[f'instances_prob{suffix}'])
    check(encoded.things_prob, case['things_prob_flip'])
    check(encoded.stuff_prob, case['stuff_prob_flip'])


def test_by_default_the_mirrored_point_is_the_right_pixel(networks):
    """A symmetric image and a symmetric point must give a symmetric mask; officially not."""
    half = np.random.RandomState(0).randint(0, 256, (32, 16, 3)).astype(np.uint8)
    image = np.concatenate([half, half[:, ::-1]], axis=1)
    x, y = 15.5, 12.0  # on the axis
    skew = {}
    for official in (False, True):
        settings = AdaptISSettings(flip=True, official=official)
        mask = Predictor(networks('toy_w8'), settings).set_image(image).mask_at(x=x, y=y).mask
        skew[official] = np.abs(mask - mask[:, ::-1]).max()
    assert skew[False] < 1e-4 < skew[True]
