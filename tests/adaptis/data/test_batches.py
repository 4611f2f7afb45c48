"""Batches are pure functions of (seed, step)."""
from __future__ import annotations

import numpy as np
import pytest
from samples import MadeUp, Unequal

from adaptis.data.augment import Crop, RandomScale, Rescale
from adaptis.data.batches import BatchSource
from adaptis.errors import AdaptisError


def images(batch: dict) -> list:
    return batch['image'][:, 0, 0, 0].tolist()


def assert_equal(a: dict, b: dict) -> None:
    assert a.keys() == b.keys()
    for key, value in a.items():
        np.testing.assert_array_equal(value, b[key])


def test_shapes_and_types() -> None:
    batch = BatchSource(MadeUp(6), batch_size=3, points=2).batch(0)
    assert {key: (value.shape, value.dtype) for key, value in batch.items()} == {
        'image': ((3, 3, 8, 8), np.uint8), 'points': ((3, 2, 2), np.float32),
        'instances': ((6, 1, 8, 8), np.int8), 'semantic': ((3, 8, 8), np.int16)}


def test_targets_replace_points() -> None:
    def targets(samples: tuple, rngs: tuple) -> dict:
        return {'sizes': np.array([s.image.shape[:2] for s in samples]),
                'drawn': np.array([rng.random() for rng in rngs])}

    def source(**options: object) -> BatchSource:
        return BatchSource(Unequal(9), 3, None, targets=targets, augmentation='flip', **options)
    assert_equal(source().batch(1), source().batch(1))
    chosen = Rescale((16, 32), max_side=30)
    sizes = np.concatenate([source(rescale=chosen).batch(step)['sizes'] for step in range(9)])
    assert set(map(tuple, sizes.tolist())) == {(16, 16), (30, 30)}
    smaller = np.concatenate([source(rescale=Rescale(max_side=10)).batch(step)['sizes']
                              for step in range(3)])
    assert sorted(smaller[:, 0].tolist()) == [8, 9] + 7 * [10]


def test_a_part_that_is_rescaled_after_it_was_cut_out() -> None:
    def targets(samples: tuple, rngs: tuple) -> dict:
        return {'sizes': np.array([s.image.shape[:2] for s in samples])}

    def sizes(**options: object) -> np.ndarray:
        source = BatchSource(MadeUp(20, size=24), 20, None, targets=targets, augmentation='flip',
                             crop=Crop((10, 16)), crop_until=9, **options)
        return np.concatenate([source.batch(step)['sizes'] for step in range(3)])
    assert set(map(tuple, sizes().tolist())) == {(10, 16)}
    found = sizes(rescale=RandomScale(0.7, 1.3))
    factors = found / (10, 16)   # rounded to pixels
    assert np.abs(factors[:, 0] - factors[:, 1]).max() <= 0.5 / 10 + 0.5 / 16
    assert (7, 11) <= tuple(found.min(axis=0)) < (8, 13)
    assert (12, 19) < tuple(found.max(axis=0)) <= (13, 21)


def test_masks_are_ordered_image_by_image_then_point_by_point() -> None:
    source = BatchSource(MadeUp(6), batch_size=3, points=4)
    batch = source.batch(0)
    for k, mask in enumerate(batch['instances']):
        row, col = batch['points'][k // 4, k % 4].astype(int)
        assert mask[0, row, col] == 1


def test_an_epoch_shows_every_image_once_but_for_the_partial_batch() -> None:
    source = BatchSource(MadeUp(11), batch_size=2, points=1)
    assert len(source) == 5
    epochs = [[i for step in range(5 * e, 5 * e + 5) for i in images(source.batch(step))]
              for e in range(2)]
    for epoch in epochs:
        assert len(set(epoch)) == 10
    assert epochs[0] != epochs[1]


def test_any_step_can_be_asked_for_at_any_time() -> None:
    def fresh() -> BatchSource:
        return BatchSource(MadeUp(9), batch_size=2, points=3, seed=(4, 1), augmentation='toy_v2')
    whole = fresh()
    for step in (7, 0, 12, 7):
        assert_equal(whole.batch(step), fresh().batch(step))


def test_the_seed_matters() -> None:
    a, b = (BatchSource(MadeUp(40), 8, 2, seed=(0, s)).batch(0) for s in (0, 1))
    assert images(a) != images(b)


def test_ranks_share_the_joint_batch() -> None:
    joint = BatchSource(MadeUp(13), batch_size=6, points=2)
    shares = [BatchSource(MadeUp(13), batch_size=3, points=2, rank=rank, world_size=2)
              for rank in range(2)]
    for step in range(5):
        parts = [s.batch(step) for s in shares]
        assert_equal(joint.batch(step), {key: np.concatenate([p[key] for p in parts])
                                         for key in parts[0]})


def shares(world: int) -> list[BatchSource]:
    return [BatchSource(MadeUp(24), batch_size=2, points=1, rank=rank, world_size=world)
            for rank in range(world)]


@pytest.mark.parametrize('before, after', [(2, 1), (2, 3), (1, 2), (3, 2), (2, 2)])
@pytest.mark.parametrize('done', [0, 1, 3, 7])
def test_another_number_of_ranks_goes_on_where_the_data_were_left(before: int, after: int,
                                                                  done: int) -> None:
    seen = [image for step in range(done) for source in shares(before)
            for image in images(source.batch(step))]
    progress = shares(before)[0].progress(done)
    assert 24 * progress['epochs'] + progress['images'] == len(seen)
    sources = [source.resumed(done, progress) for source in shares(after)]
    batch = 2 * after
    epochs, again = len(seen) // 24, len(seen) % 24 % batch   # images that come a second time
    steps = (24 * (epochs + 1) - len(seen) + again) // batch
    later = [image for step in range(done, done + steps) for source in sources
             for image in images(source.batch(step))]
    whole = seen[:len(seen) - again] + later
    assert sorted(whole) == sorted((epochs + 1) * list(range(24)))
    assert seen[len(seen) - again:] == later[:again]
    assert sources[0].progress(done + steps) == {'epochs': epochs + 1, 'images': 0}


def test_crops_end_with_the_step_they_end_with() -> None:
    source = BatchSource(MadeUp(8), batch_size=2, points=1, crop=Crop((6, 6)), crop_until=3)
    assert [source.batch(step)['image'].shape[2] for step in (0, 2, 3)] == [6, 6, 8]


def test_photos_of_any_size_make_a_batch() -> None:
    def source() -> BatchSource:
        return BatchSource(Unequal(6), batch_size=6, points=2, augmentation='coco', crop_until=9,
                           crop=Crop((10, 12), (0.5, 2.0)), empty_crop_prob=0.1)
    batch = source().batch(1)
    assert batch['image'].shape == (6, 3, 10, 12)
    padded = batch['semantic'] == -1
    assert padded.any() and not padded.all()
    masks = batch['instances'].reshape(6, 2, 10, 12)
    assert (masks[np.repeat(padded[:, None], 2, axis=1)] == -1).all()
    assert_equal(batch, source().batch(1))


def test_a_part_without_an_object_is_drawn_again() -> None:
    def share(**options: float) -> float:
        source = BatchSource(MadeUp(30, size=24), 30, 1, augmentation='vistas', crop_until=9,
                             crop=Crop((9, 9)), **options)
        return float((source.batch(0)['instances'] == 1).any(axis=(1, 2, 3)).mean())
    assert share() < 0.3  # an object of 3x4 pixels in a corner of 24x24
    assert share(empty_crop_prob=0.0) > share() + 0.25


def test_points_on_nothing_reach_the_batch() -> None:
    batch = BatchSource(MadeUp(6), 6, 8, background_prob=0.5).batch(0)
    empty = (batch['instances'] == 0).all(axis=(1, 2, 3)).mean()
    assert 0.25 < empty < 0.75


def test_images_of_different_sizes_are_named() -> None:
    with pytest.raises(AdaptisError, match='image [01] has .* but image [01] has .* the same size'):
        BatchSource(Unequal(2), batch_size=2, points=1).batch(0)


@pytest.mark.parametrize('options, words', [
    ({'augmentation': 'toy_v3'}, 'no augmentation "toy_v3"'),
    ({'strategy': 'grid'}, 'no point sampling "grid"')])
def test_names_are_checked_before_the_first_batch(options: dict, words: str) -> None:
    with pytest.raises(AdaptisError, match=words):
        BatchSource(MadeUp(8), batch_size=2, points=1, **options)


def test_a_batch_larger_than_the_data_is_refused() -> None:
    with pytest.raises(AdaptisError, match='batch of 8 images cannot be taken from 7'):
        BatchSource(MadeUp(7), batch_size=4, points=1, world_size=2)


def test_an_epoch_can_be_so_many_random_images_none_of_them_twice_the_same() -> None:
    source = BatchSource(MadeUp(3), 4, points=1, epoch_images=8, augmentation='toy_v1')
    assert len(source) == 2
    first, again = source.batch(0), source.batch(0)
    assert_equal(first, again)
    assert len({image.tobytes() for image in first['image']}) == 4   # of three images
    everything = [i for step in range(20) for i in images(
        BatchSource(MadeUp(30), 2, points=1, epoch_images=4).batch(step))]
    assert 5 < len(set(everything)) <= 30 and max(map(everything.count, everything)) > 1
