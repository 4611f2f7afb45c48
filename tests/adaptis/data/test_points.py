"""Object-level stratified point sampling (section 3) and its relatives."""
from __future__ import annotations

import numpy as np
import pytest

from adaptis.data.points import sample_points
from adaptis.errors import AdaptisError


def scene() -> np.ndarray:
    """A huge object 5, a small one 9 of 6 pixels, a tiny one 300 of 1 pixel."""
    ids = np.zeros((20, 30), np.int32)
    ids[2:18, 1:15] = 5
    ids[4:6, 20:23] = 9
    ids[19, 29] = 300
    return ids


def chosen(ids: np.ndarray, points: np.ndarray) -> np.ndarray:
    rows, cols = points.astype(int).T
    return ids[rows, cols]


def test_masks_are_the_objects_under_the_points() -> None:
    ids = scene()
    points, masks = sample_points(ids, 12, np.random.default_rng(0))
    assert points.shape == (12, 2) and points.dtype == np.float32
    assert masks.shape == (12, 20, 30) and masks.dtype == np.int8
    for object_id, mask in zip(chosen(ids, points), masks):
        assert object_id
        np.testing.assert_array_equal(mask, ids == object_id)


def test_every_object_is_equally_likely_whatever_its_area() -> None:
    ids, rng = scene(), np.random.default_rng(1)
    hits = np.concatenate([chosen(ids, sample_points(ids, 1, rng)[0]) for _ in range(900)])
    counts = [(hits == i).sum() for i in (5, 9, 300)]
    assert min(counts) > 240 and max(counts) < 360  # 300 expected, standard deviation 14


def test_no_object_comes_twice_before_all_came_once() -> None:
    ids = scene()
    hits = chosen(ids, sample_points(ids, 7, np.random.default_rng(2))[0])
    assert sorted((hits == i).sum() for i in (5, 9, 300)) == [2, 2, 3]


def test_pixels_inside_an_object_are_equally_likely() -> None:
    ids, rng = scene(), np.random.default_rng(3)
    ids[ids != 9] = 0
    points = sample_points(ids, 1200, rng)[0]
    counts = np.unique(points, axis=0, return_counts=True)[1]
    assert len(counts) == 6 and counts.min() > 150 and counts.max() < 250


def test_uniform_sampling_prefers_large_objects() -> None:
    ids = scene()
    points = sample_points(ids, 600, np.random.default_rng(4), strategy='uniform')[0]
    share = (chosen(ids, points) == 5).mean()
    assert share == pytest.approx(224 / 231, abs=0.03)


def test_independent_draws_may_take_an_object_several_times_and_leave_others_out() -> None:
    ids, rng = scene(), np.random.default_rng(6)
    draws = [chosen(ids, sample_points(ids, 3, rng, strategy='independent')[0])
             for _ in range(300)]
    counts = [(np.concatenate(draws) == i).sum() for i in (5, 9, 300)]
    assert min(counts) > 240 and max(counts) < 360  # 300 expected, standard deviation 14
    different = [len(set(draw)) for draw in draws]
    assert different.count(3) < 100 and different.count(1) > 15  # 2/9 and 1/9 of 300 expected


def test_one_object_gets_all_points_and_every_object_is_equally_likely() -> None:
    ids, rng = scene(), np.random.default_rng(7)
    hits = []
    for _ in range(300):
        points, masks = sample_points(ids, 8, rng, strategy='one_object', min_object_area=2)
        (hit,) = set(chosen(ids, points))
        hits.append(hit)
        assert (masks == (ids == hit)).all()
    assert 110 < hits.count(5) < 190 and hits.count(300) == 0
    assert len(np.unique(points, axis=0)) > 3  # pixels differ


def test_points_of_one_object_move_to_an_ignored_one_together() -> None:
    ids, rng = scene(), np.random.default_rng(8)
    shares = [(chosen(ids, sample_points(ids, 9, rng, strategy='one_object', ignored={5},
                                         ignore_object_prob=0.5)[0]) == 5).mean()
              for _ in range(60)]
    assert set(shares) == {0.0, 1.0}


def test_small_and_ignored_objects_are_never_chosen() -> None:
    ids, rng = scene(), np.random.default_rng(5)
    points, masks = sample_points(ids, 20, rng, ignored={5, 7000}, min_object_area=2)
    assert set(chosen(ids, points)) == {9}
    assert (masks[:, ids == 5] == -1).all()
    assert (masks[:, ids == 300] == 0).all()


@pytest.mark.parametrize('options', [{}, {'ignored': {5}, 'min_object_area': 1000}])
def test_without_an_object_every_mask_is_ignored(options: dict) -> None:
    ids = np.zeros((4, 6), np.int32) if not options else np.full((4, 6), 5, np.int32)
    points, masks = sample_points(ids, 3, np.random.default_rng(6), **options)
    assert (masks == -1).all() and masks.shape == (3, 4, 6)
    assert (points >= 0).all() and (points < (4, 6)).all()


def test_unknown_pixels_are_ignored_in_every_mask() -> None:
    ids = scene()
    plain = sample_points(ids, 9, np.random.default_rng(8))
    ids[0] = -1
    ids[2:4] = -1
    points, masks = sample_points(ids, 9, np.random.default_rng(8))
    assert set(chosen(ids, points)) == {5, 9, 300}
    assert (masks[:, ids == -1] == -1).all() and (masks[:, ids >= 0] >= 0).all()
    assert len(plain[0]) == 9


def test_a_point_on_an_ignored_object_learns_not_to_leave_it() -> None:
    ids = scene()
    points, masks = sample_points(ids, 400, np.random.default_rng(9), ignored={5},
                                  ignore_object_prob=0.3)
    on_crowd = chosen(ids, points) == 5
    assert on_crowd.mean() == pytest.approx(0.3, abs=0.07)
    assert (masks[:, ids == 5] == -1).all() and (masks[on_crowd][:, ids != 5] == 0).all()
    assert all((mask == 1).any() for mask in masks[~on_crowd])


def test_a_point_on_no_object_has_an_empty_mask() -> None:
    ids = scene()
    points, masks = sample_points(ids, 400, np.random.default_rng(10), ignored={300},
                                  ignore_object_prob=0.2, background_prob=0.3)
    hit = chosen(ids, points)
    assert (hit == 0).mean() == pytest.approx(0.3, abs=0.07)
    assert (hit == 300).mean() == pytest.approx(0.2, abs=0.07)
    assert (masks[hit == 0][:, ids != 300] == 0).all()
    nothing = np.zeros((5, 6), np.int32)
    masks = sample_points(nothing, 50, np.random.default_rng(11), background_prob=0.5,
                          ignore_object_prob=0.5)[1]
    assert set(masks.max(axis=(1, 2))) == {0, -1}


def test_one_seed_gives_the_same_points() -> None:
    a, b = (sample_points(scene(), 5, np.random.default_rng(7)) for _ in range(2))
    np.testing.assert_array_equal(a[0], b[0])
    np.testing.assert_array_equal(a[1], b[1])


def test_an_unknown_strategy_is_refused() -> None:
    with pytest.raises(AdaptisError, match='no point sampling "grid"'):
        sample_points(scene(), 1, np.random.default_rng(0), strategy='grid')


def test_half_of_the_points_lie_on_objects_that_others_divide() -> None:
    ids = scene()
    ids[8:10, 1:15] = 7          # divides 5; 9 is one, though its parts meet at a corner only
    ids[4:6, 20:23] = 0
    ids[[4, 5], [20, 21]] = 9
    rng = np.random.default_rng(9)
    hits = [chosen(ids, sample_points(ids, 8, rng, strategy='occluded')[0]) for _ in range(50)]
    assert all((hit == 5).sum() >= 5 for hit in hits)      # 4, and 1 of the 4 on all objects
    assert {5, 7, 9, 300} == set(np.concatenate(hits))
    ids[8:10, 1:15] = 5
    whole = chosen(ids, sample_points(ids, 9, rng, strategy='occluded')[0])
    assert sorted((whole == i).sum() for i in (5, 9, 300)) == [3, 3, 3]
