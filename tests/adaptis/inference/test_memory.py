"""Chunks of points that fit into a memory budget, and errors for what does not fit."""
from __future__ import annotations

import numpy as np
import pytest

from adaptis.errors import AdaptisError
from adaptis.inference import memory
from adaptis.inference.encoded import ImageEncoder, NetworkRunner
from adaptis.inference.memory import estimate_footprint, points_at_once
from adaptis.inference.predictor import Predictor
from adaptis.inference.settings import AdaptISSettings
from adaptis.model import get_model
from adaptis.runtime import mx
from experiments.benchmarks.plain import make_plain

SIDE = 96
IMAGE = np.random.RandomState(0).randint(0, 256, (SIDE, SIDE, 3)).astype(np.uint8)
POINTS = np.random.RandomState(1).uniform(0, SIDE - 1, (9, 2)).astype(np.float32)


@pytest.fixture(scope='module')
def net():
    mx.random.seed(0)
    net = get_model('adaptis_toy', width=16)
    net.initialize(mx.init.Xavier(magnitude=4))
    net.hybridize()
    return net


def masks_and_batches(net, monkeypatch, **settings):
    """Masks of all points, and how many were computed at a time."""
    batches = []
    run = NetworkRunner.run

    def counting_run(self, stage, *arrays):
        if stage == 'points':
            batches.append(arrays[2].shape[1])
        return run(self, stage, *arrays)

    monkeypatch.setattr(NetworkRunner, 'run', counting_run)
    masks = ImageEncoder(net, AdaptISSettings(**settings))(IMAGE).masks_at(POINTS)
    monkeypatch.undo()
    return masks, batches


@pytest.mark.parametrize('flip', [False, True])
def test_masks_do_not_depend_on_the_budget(net, monkeypatch, flip):
    each = estimate_footprint(net).point * SIDE ** 2 / 2 ** 20
    assert 2 < each < 3  # MiB
    expected, batches = masks_and_batches(net, monkeypatch, batch_size=100, flip=flip)
    assert batches == [9] * (1 + flip)
    for budget, most in ((3, 1), (6, 2), (12, 4)):
        masks, batches = masks_and_batches(net, monkeypatch, batch_size=100, flip=flip,
                                           memory_mib=budget)
        assert max(batches) == most and sum(batches) == 9 * (1 + flip)
        # A dense layer rounds otherwise for one point than for several.
        np.testing.assert_allclose(masks, expected, rtol=0, atol=1e-6)


def test_the_budget_bounds_batches_from_above_only(net, monkeypatch):
    assert masks_and_batches(net, monkeypatch, batch_size=2)[1] == [2, 2, 2, 2, 1]


def test_a_point_that_does_not_fit_into_the_budget(net):
    encoder = ImageEncoder(net, AdaptISSettings(memory_mib=2))
    with pytest.raises(AdaptisError, match='96x96 pixels takes about 3 MiB.*memory_mib.*--tile'):
        encoder(IMAGE)
    tiled = AdaptISSettings(memory_mib=2, tile=(48, 48), max_candidates=2)
    assert Predictor(net, tiled).set_image(IMAGE).panoptic().segment_map.shape == (SIDE, SIDE)


def test_features_that_do_not_fit_into_memory(net, monkeypatch):
    needs = estimate_footprint(net)
    enough = needs.weights + (needs.features + 2 * 4) * SIDE ** 2
    for flip, bytes_ in ((False, enough), (True, enough + (needs.kept + 2 * 2 * 4) * SIDE ** 2)):
        encoder = ImageEncoder(net, AdaptISSettings(flip=flip))
        name = 'adaptis.inference.encoded.device_memory'
        monkeypatch.setattr(name, lambda ctx, b=bytes_: b + 1)
        encoder(IMAGE)
        monkeypatch.setattr(name, lambda ctx, b=bytes_: b - 1e3)
        with pytest.raises(AdaptisError, match='features of 96x96 pixels.*GiB.*--tile'):
            encoder(IMAGE)


def test_more_clicks_than_masks_fit_into_memory(net, monkeypatch):
    encoded = ImageEncoder(net, AdaptISSettings())(IMAGE)
    monkeypatch.setattr(memory, 'physical_memory', lambda: 2.0 * 4 * 8 * SIDE ** 2)
    assert len(encoded.masks_at(POINTS[:8])) == 8
    with pytest.raises(AdaptisError, match='9 objects on 96x96'):
        encoded.masks_at(POINTS)


def test_averaging_drops_the_maps_of_both_passes(net):
    both = ImageEncoder(net, AdaptISSettings(flip=True))(IMAGE)
    for image in (both._plain, both._mirrored):
        assert not hasattr(image, 'things_prob') and image.proposals_prob is None
    assert both.masks_at(POINTS[:1]).shape == (1, SIDE, SIDE)


def test_footprint_grows_with_the_width():
    small, large = (estimate_footprint(get_model('adaptis_toy', width=w)) for w in (8, 16))
    assert large.point == pytest.approx(2 * small.point, rel=0.01)
    assert small.weights < large.weights and small.features < large.features
    assert [points_at_once(n, (1024, 1024), 1050) for n in (small, large)] == [6, 3]


def test_a_network_that_cannot_be_traced_is_not_bounded(net):
    plain = make_plain(get_model('adaptis_toy', width=2))
    assert estimate_footprint(plain) is None


def test_memory_of_this_machine():
    assert 2 ** 28 < memory.physical_memory() == memory.device_memory(mx.cpu())
    assert memory.device_memory('cpu') == memory.physical_memory() < memory.device_memory('gpu:0')
