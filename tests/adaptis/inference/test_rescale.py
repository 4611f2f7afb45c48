from __future__ import annotations

import numpy as np
import pytest

from adaptis.errors import AdaptisError
from adaptis.inference.encoded_image import EncodedImage
from adaptis.inference.predictor import Predictor
from adaptis.inference.rescale import Resized, network_size, resize, scale_points
from adaptis.inference.settings import AdaptISSettings
from adaptis.model import get_model
from adaptis.runtime import mx
from adaptis.types import Category, Taxonomy

TAXONOMY = Taxonomy([Category(1, 'sky', False), Category(2, 'grass', False),
                     Category(3, 'cat', True), Category(4, 'dog', True)])


@pytest.mark.parametrize('size, settings, expected', [
    ((400, 600), {}, (400, 600)),
    ((400, 600), {'short_side': 200}, (200, 300)),
    ((400, 600), {'short_side': 800}, (800, 1200)),
    ((600, 400), {'short_side': 800, 'max_side': 900}, (900, 600)),
    ((400, 600), {'max_side': 300}, (200, 300)),
    ((400, 600), {'max_side': 900}, (400, 600)),   # it never enlarges
    ((1, 600), {'max_side': 6}, (1, 6)),
])
def test_size_for_the_network(size, settings, expected):
    assert network_size(size, AdaptISSettings(**settings)) == expected


def test_points_stay_on_their_pixels():
    """The pixel that is brightest in the image is so at the moved point in the smaller one."""
    size, seen = (60, 90), (20, 30)
    for row, col in ((0, 0), (59, 89), (31, 44)):
        image = np.zeros((*size, 3), np.uint8)
        image[row, col] = 255
        moved = scale_points(np.array([[row, col]], np.float32), size, seen)
        assert moved.dtype == np.float32
        small = resize(image, seen)[..., 0]
        assert tuple(np.rint(moved[0]).astype(int)) == np.unravel_index(small.argmax(), seen)
    assert (scale_points(np.array([[0, 0]], np.float32), (10, 10), (40, 40)) == 1.5).all()


def test_maps_come_back_where_they_were():
    ramp = np.add.outer(np.arange(40, dtype=np.float32), 2 * np.arange(60, dtype=np.float32))
    for seen in ((20, 30), (80, 120), (27, 41)):
        back = Resized([resize(ramp, seen)], (40, 60))[0]
        np.testing.assert_allclose(back[3:-3, 3:-3], ramp[3:-3, 3:-3], atol=0.6)


class Scene(EncodedImage):
    """Reads classes off the red channel; a point's mask is all that has its green."""

    def __init__(self, image):
        red = (image[..., 0] // 60).astype(int)
        prob = np.stack([np.where(red == k, 0.7, 0.1) for k in range(4)]).astype(np.float32)
        self.stuff_prob, self.things_prob = prob[:2], prob[2:]
        self.proposals_prob = np.zeros(red.shape, np.float32)
        self._owner = image[..., 1]
        for label in np.unique(self._owner)[1:]:
            rows, cols = np.nonzero(self._owner == label)
            row, col = int(rows.mean()), int(cols.mean())
            self.proposals_prob[row - 2:row + 3, col - 2:col + 3] = 0.5
            self.proposals_prob[row, col] = 0.9

    def masks_at(self, points):
        labels = [self._owner[int(row), int(col)] for row, col in points]
        return np.stack([(self._owner == k) * np.float32(0.9) for k in labels])


def scene():
    """A cat and a dog, each 20 x 20, on half sky, half grass: (60, 80, 3)."""
    image = np.zeros((60, 80, 3), np.uint8)
    image[30:, :, 0] = 60
    image[20:40, 10:30] = 120, 1, 0
    image[20:40, 50:70] = 180, 2, 0
    return image


@pytest.fixture
def predictor(monkeypatch):
    def make(**settings):
        net = get_model('adaptis_toy', width=2, num_classes=4, num_stuff=2)
        net.initialize()
        predictor = Predictor(net, AdaptISSettings(proposal_blur=0, **settings), TAXONOMY)
        monkeypatch.setattr(predictor, '_encode', Scene)
        # The stand-in reads colours, which averaging would mix.
        monkeypatch.setattr('adaptis.inference.predictor.resize', nearest_for_images)
        return predictor.set_image(scene())
    return make


def nearest_for_images(values, size):
    if values.ndim == 2:
        return resize(values, size)
    rows, cols = (np.arange(n) * old // n for n, old in zip(size, values.shape))
    return values[rows][:, cols]


@pytest.mark.parametrize('settings', [{'short_side': 30}, {'max_side': 40}, {'short_side': 120},
                                      {'max_side': 40, 'tile': (20, 40)}])
def test_results_come_back_at_the_size_of_the_image(predictor, settings):
    whole = predictor().panoptic(keep_masks=True)
    result = predictor(**settings).panoptic(keep_masks=True)
    assert result.segment_map.shape == (60, 80) and result.semantic.shape == (60, 80)
    assert len(whole.things) == 2
    assert [s.category_id for s in result.segments] == [s.category_id for s in whole.segments]
    assert (result.segment_map != whole.segment_map).mean() < 0.03
    assert (result.semantic != whole.semantic).mean() < 0.05
    for segment in result.things:
        assert result.masks[segment.id].shape == (60, 80)
        assert segment.area == (result.segment_map == segment.id).sum()
        assert np.abs(result.masks[segment.id] - whole.masks[segment.id]).mean() < 0.02


def test_semantic_is_the_likeliest_class_whatever_the_segments_say(predictor):
    result = predictor(max_candidates=0, min_stuff_prob=1.0).panoptic()
    assert not result.segments  # neither objects nor stuff that is sure enough
    expected = (scene()[..., 0] // 60).astype(int)
    np.testing.assert_array_equal(result.semantic, expected)


def test_clicks_are_of_the_images_own_pixels(predictor):
    here = predictor(short_side=30)
    clicked = here.mask_at(x=[12, 68], y=[38, 22])
    assert clicked.mask.shape == (2, 60, 80)
    assert (clicked.mask[0] > 0.5).sum() == pytest.approx(400, abs=40)
    assert clicked.mask[0][38, 12] > 0.5 and clicked.mask[0][22, 68] < 0.1
    assert clicked.mask[1][22, 68] > 0.5 and clicked.mask[1][38, 12] < 0.1
    with pytest.raises(AdaptisError, match='x must be between 0 and 79'):
        here.mask_at(x=80, y=1)
    assert here.proposal_map().shape == (60, 80)


def test_ignore_is_of_the_images_own_pixels(predictor):
    ignore = np.zeros((60, 80))
    ignore[:, 40:] = 1
    result = predictor(short_side=30).panoptic(ignore)
    assert [s.category_id for s in result.things] == [3]
    assert (result.segment_map[:, 40:] == 0).all() and (result.segment_map[:, :40] > 0).all()
    with pytest.raises(AdaptisError, match='30x40, but the image is 60x80'):
        predictor(short_side=30).panoptic(np.zeros((30, 40)))


def test_a_network_sees_the_smaller_image_and_its_results_are_the_images_size():
    mx.random.seed(3)
    net = get_model('adaptis_toy', width=2)
    net.initialize(mx.init.Xavier(magnitude=4))
    settings = AdaptISSettings(things_threshold=0.1, mask_threshold=0.1, min_area=1,
                               max_candidates=3,
                               short_side=32, flip=True)
    image = np.random.RandomState(0).randint(0, 256, (64, 77, 3)).astype(np.uint8)
    predictor = Predictor(net, settings).set_image(image)
    assert predictor.segmentation().things_prob.shape == (1, 32, 38)
    assert predictor.panoptic().segment_map.shape == (64, 77)


def test_a_long_strip_is_not_blown_up():
    net = get_model('adaptis_toy', width=2)
    net.initialize()
    with pytest.raises(AdaptisError, match='set max_side'):
        Predictor(net, AdaptISSettings(short_side=800)).set_image(np.zeros((1, 2000, 3), np.uint8))
