from __future__ import annotations

import numpy as np
import pytest

from adaptis.errors import AdaptisError
from adaptis.inference.predictor import Predictor, as_rgb
from adaptis.inference.settings import AdaptISSettings
from adaptis.loading import load_predictor, predict
from adaptis.model import get_model, save_model
from adaptis.runtime import mx
from adaptis.types import Category, Taxonomy

LOOSE = AdaptISSettings(things_threshold=0.1, mask_threshold=0.1, min_area=1, max_candidates=6,
                        overlap_threshold=1.0, stuff_prob_mult=0.0)


@pytest.fixture(scope='module')
def net():
    mx.random.seed(3)
    net = get_model('adaptis_toy', width=4)
    net.initialize(mx.init.Xavier(magnitude=4))
    net.hybridize()
    return net


@pytest.fixture(scope='module')
def image():
    return np.random.RandomState(0).randint(0, 256, (30, 26, 3)).astype(np.uint8)


def test_one_click_and_a_batch_of_clicks_agree(net, image):
    predictor = Predictor(net, LOOSE).set_image(image)
    batch = predictor.mask_at(x=[3, 25, 7.5, 0, 1, 2], y=[4, 29, 0.25, 0, 1, 2])
    assert batch.mask.shape == (6, 30, 26) and batch.mask.dtype == np.float32
    assert batch.confidence.shape == (6,)
    one = predictor.mask_at(x=25, y=29)
    assert one.mask.shape == (30, 26) and isinstance(one.confidence, float)
    np.testing.assert_allclose(one.mask, batch.mask[1], atol=1e-5)
    inside = one.mask[one.mask > 0.1]
    assert one.confidence == pytest.approx(inside.mean(), rel=1e-5)


def test_confidence_of_an_empty_mask_is_zero(net, image):
    predictor = Predictor(net, LOOSE.replace(mask_threshold=1.0)).set_image(image)
    assert predictor.mask_at(x=1, y=1).confidence == 0.0


def test_x_is_the_column_and_y_the_row(net, image):
    """The network sees (row, col): asking it directly gives the same mask."""
    features, queries, _, _ = net.encoder(
        mx.nd.array(image.transpose(2, 0, 1)[None].astype(np.float32)))
    logits = net.point_head(features, queries, mx.nd.array([[[4, 20]]]))
    expected = logits.sigmoid().asnumpy()[0, 0]
    mask = Predictor(net, LOOSE).set_image(image).mask_at(x=20, y=4).mask
    np.testing.assert_allclose(mask, expected, atol=1e-5)


@pytest.mark.parametrize('x, y', [(-1, 3), (26, 3), (3, 30), (float('nan'), 3), (3, -0.5)])
def test_a_point_outside_the_image(net, image, x, y):
    with pytest.raises(AdaptisError, match='outside the image'):
        Predictor(net, LOOSE).set_image(image).mask_at(x=x, y=y)


def test_proposals_are_maxima_of_their_map_in_pixels_of_the_image(net, image):
    settings = LOOSE.replace(proposal_threshold=0.0, things_threshold=0.0, proposal_blur=0)
    small = Predictor(net, settings).set_image(image)
    x, y, score = small.proposals().T
    assert len(x) > 1 and small.has_proposals and small.size == (30, 26)
    np.testing.assert_allclose(score, small.proposal_map()[y.astype(int), x.astype(int)])
    twice = Predictor(net, settings.replace(short_side=52)).set_image(image).proposals()
    # The middles of halves of pixels, and the border, to which they are moved.
    places = {*(twice[:, :2] % 1).ravel()}
    assert places <= {0, 0.25, 0.75} and places - {0}
    assert twice[:, 0].max() <= 25 and twice[:, 1].max() <= 29


def test_the_category_of_a_mask_is_the_most_probable_thing_inside(image):
    mx.random.seed(3)
    net = get_model('adaptis_toy', width=4, num_classes=4, num_stuff=1)
    net.initialize(mx.init.Xavier(magnitude=4))
    taxonomy = Taxonomy([Category(7, 'ground', False), Category(9, 'cat', True),
                         Category(5, 'dog', True), Category(6, 'ant', True)])
    predictor = Predictor(net, LOOSE, taxonomy).set_image(image)
    things = predictor.segmentation().things_prob
    for k in range(3):
        mask = (things.argmax(axis=0) == k).astype(np.float32)
        if mask.any():
            assert predictor.category_of(mask).id == (9, 5, 6)[k]


def test_memory_of_an_image_grows_with_its_size(net, image):
    small = Predictor(net, LOOSE).set_image(image).nbytes
    large = Predictor(net, LOOSE).set_image(np.tile(image, (2, 2, 1))).nbytes
    assert 4 * image.size < small and large == pytest.approx(4 * small)


def test_points_that_do_not_pair(net, image):
    predictor = Predictor(net, LOOSE).set_image(image)
    for x, y in (([1, 2], [1, 2, 3]), ('left', 2)):
        with pytest.raises(AdaptisError, match='numbers'):
            predictor.mask_at(x=x, y=y)


def test_asking_before_there_is_an_image(net):
    for ask in (lambda p: p.mask_at(x=1, y=1), lambda p: p.panoptic(), lambda p: p.proposal_map()):
        with pytest.raises(AdaptisError, match='set_image'):
            ask(Predictor(net))


def test_a_refused_image_does_not_leave_the_old_one_behind(net, image):
    predictor = Predictor(net, LOOSE).set_image(image)
    with pytest.raises(AdaptisError):
        predictor.set_image(image.astype(float))
    with pytest.raises(AdaptisError, match='set_image'):
        predictor.panoptic()


@pytest.mark.parametrize('flip', [False, True])
@pytest.mark.parametrize('sampling', ['proposals', 'random'])
def test_panoptic_is_consistent(net, image, flip, sampling):
    settings = LOOSE.replace(sampling=sampling, num_iterations=3)
    result = Predictor(net, settings, flip=flip).set_image(image).panoptic(keep_masks=True)
    assert result.segment_map.shape == image.shape[:2]
    assert result.segment_map.dtype == np.int32
    counts = np.bincount(result.segment_map.ravel(), minlength=len(result.segments) + 1)
    assert [s.area for s in result.segments] == counts[1:].tolist()
    assert all(0 <= s.score <= 1 for s in result.segments)
    assert set(result.masks) == {s.id for s in result.things}


def test_panoptic_does_not_depend_on_batching(net, image):
    results = [Predictor(net, LOOSE.replace(batch_size=n)).set_image(image).panoptic()
               for n in (1, 3, 16)]
    assert results[0].things
    for result in results[1:]:
        assert (result.segment_map != results[0].segment_map).mean() < 0.002  # rounding


def test_tiles(net, image):
    predictor = Predictor(net, LOOSE.replace(tile=(20, 18))).set_image(image)
    assert predictor.panoptic().segment_map.shape == (30, 26)
    assert predictor.mask_at(x=25, y=29).mask.shape == (30, 26)


@pytest.mark.parametrize('change', [
    {}, {'sampling': 'random', 'num_iterations': 5}, {'algorithm': 'paper'},
    {'algorithm': 'paper', 'sampling': 'random', 'num_candidates': 2}, {'tile': (20, 18)}])
def test_the_search_can_be_watched(net, image, change):
    predictor = Predictor(net, LOOSE.replace(**change))
    seen = []
    result = predictor.set_image(image).panoptic(watch=lambda *step: seen.append(step))
    done, totals, masks = zip(*seen)
    assert list(done) == sorted(done) and done[-1] == totals[-1]
    accepted = [mask for mask in masks if mask is not None]
    assert accepted and all(mask.shape == image.shape[:2] for mask in accepted)
    assert len(accepted) >= len(result.things)
    unwatched = predictor.panoptic()
    np.testing.assert_array_equal(result.segment_map, unwatched.segment_map)


def test_the_ignore_mask_must_fit(net, image):
    predictor = Predictor(net, LOOSE).set_image(image)
    assert not predictor.panoptic(ignore=np.ones((30, 26))).things
    with pytest.raises(AdaptisError, match='26x30.*30x26'):
        predictor.panoptic(ignore=np.ones((26, 30)))


@pytest.mark.parametrize('size', [(1, 1), (1, 9), (2, 3), (17, 33)])
def test_any_size(net, size):
    image = np.full((*size, 3), 200, np.uint8)
    for flip in (False, True):
        predictor = Predictor(net, LOOSE, flip=flip).set_image(image)
        assert predictor.panoptic().segment_map.shape == size
        assert predictor.mask_at(x=size[1] - 1, y=size[0] - 1).mask.shape == size


def test_kinds_of_images():
    rng = np.random.RandomState(0)
    rgb = rng.randint(0, 256, (5, 4, 3)).astype(np.uint8)
    np.testing.assert_array_equal(as_rgb(rgb), rgb)
    np.testing.assert_array_equal(as_rgb(np.dstack([rgb, rgb[..., :1]])), rgb)
    grey = rgb[..., 0].repeat(3).reshape(5, 4, 3)
    np.testing.assert_array_equal(as_rgb(rgb[..., 0]), grey)
    np.testing.assert_array_equal(as_rgb(rgb[..., :1]), grey)
    np.testing.assert_array_equal(as_rgb(rgb.astype(np.uint16) * 257), rgb)
    np.testing.assert_array_equal(as_rgb(rgb[..., 0].astype(np.uint16) * 257), grey)


@pytest.mark.parametrize('image, message', [
    (np.zeros((4, 4, 3), np.float32), 'float32'), ([[1, 2]], 'list'), (None, 'NoneType'),
    (np.zeros((4, 4, 2), np.uint8), '4x4x2'), (np.zeros(4, np.uint8), '4'),
    (np.zeros((0, 4, 3), np.uint8), '0x4'),
    (np.broadcast_to(np.uint8(0), (20000, 20000, 3)), '20000x20000')])
def test_what_is_no_image(image, message):
    with pytest.raises(AdaptisError, match=message):
        as_rgb(image)


def test_an_image_too_large_for_one_piece(net, image):
    with pytest.raises(AdaptisError, match='tiles'):
        Predictor(net, LOOSE.replace(max_pixels=100)).set_image(image)
    Predictor(net, LOOSE.replace(max_pixels=400, tile=(16, 16))).set_image(image).panoptic()


def broken_net(parameter):
    """A network with NaN in one parameter."""
    net = get_model('adaptis_toy', width=2)
    net.initialize()
    weights = net._collect_params_with_prefix()[parameter]
    weights.set_data(mx.nd.full(weights.shape, float('nan')))
    return net


@pytest.mark.parametrize('parameter', ['encoder.backbone.image_norm.running_mean',
                                       'encoder.proposals.2.bias', 'point_head.adain.bias.bias'])
def test_weights_that_are_not_numbers(parameter):
    with pytest.raises(AdaptisError, match=parameter):
        Predictor(broken_net(parameter))


@pytest.mark.parametrize('parameter, what', [
    ('encoder.semantic.3.bias', 'class probabilities'), ('encoder.proposals.2.bias', 'proposals'),
    ('point_head.after.1.bias', 'masks')])
def test_outputs_that_are_not_numbers(image, parameter, what, monkeypatch):
    monkeypatch.setattr('adaptis.inference.encoded.check_finite_weights', lambda net: None)
    with pytest.raises(AdaptisError, match=f'{what} that are not numbers'):
        Predictor(broken_net(parameter)).set_image(image).mask_at(x=0, y=0)


def test_a_taxonomy_that_does_not_fit(net):
    taxonomy = Taxonomy([Category(1, 'thing', True)])
    with pytest.raises(AdaptisError, match='2 classes, 1 of them stuff'):
        Predictor(net, taxonomy=taxonomy)


def test_prediction_from_a_checkpoint_file(net, image, tmp_path):
    save_model(net, tmp_path / 'net.params')
    expected = Predictor(net).set_image(image).panoptic()
    result = predict(image, tmp_path / 'net.params')
    np.testing.assert_array_equal(result.segment_map, expected.segment_map)
    official = load_predictor(tmp_path / 'net.params', AdaptISSettings(official=True))
    assert official.set_image(image).panoptic().segment_map.shape == image.shape[:2]


def test_the_callers_network_is_left_as_it_is(image):
    net = get_model('adaptis_toy', width=2)
    net.initialize()
    Predictor(net, LOOSE).set_image(image).panoptic()
    assert not net._active and not net.encoder._active and not net.point_head._active
