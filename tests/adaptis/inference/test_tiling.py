from __future__ import annotations

import numpy as np
import pytest
from scene_network import DrawnImage

from adaptis.errors import AdaptisError
from adaptis.inference import memory
from adaptis.inference.panoptic import segment_tiles
from adaptis.inference.settings import AdaptISSettings
from adaptis.inference.tiling import Stitcher, Tile, split_axis, split_tiles


@pytest.mark.parametrize('size', [40, 97, 128, 200, 1000])
@pytest.mark.parametrize('min_overlap', [0.0, 0.2, 0.5])
def test_tiles_cover_the_image_and_overlap_enough(size, min_overlap):
    axis = split_axis(size, 32, min_overlap)
    assert axis.starts[0] == 0 and axis.starts[-1] == size - 32
    gaps = np.diff(axis.starts)
    assert (gaps > 0).all() and (32 - gaps >= int(32 * min_overlap)).all()
    assert len(axis.starts) == 2 or size > 32 + (32 - int(32 * min_overlap))


@pytest.mark.parametrize('size, length, min_overlap', [(2016, 44, 0.062), (240, 8, 0.8)])
def test_many_tiles_stay_inside_the_image(size, length, min_overlap):
    """The official strides add up to more than the image."""
    assert max(split_axis(size, length, min_overlap, official=True).starts) > size - length
    starts = split_axis(size, length, min_overlap).starts
    assert starts[-1] == size - length and (np.diff(starts) > 0).all()
    tiles = split_tiles((size, 8), (length, 8), min_overlap)
    assert len({tile.rows.start for tile in tiles}) == len(starts)


def test_a_tile_as_large_as_the_image_is_the_image():
    assert split_tiles((10, 20), (10, 20), 0.2) == [Tile(slice(0, 10), slice(0, 20), 0, 0)]


def test_a_larger_tile_shrinks_but_stops_the_official_code():
    assert split_tiles((10, 20), (50, 20), 0.2) == [Tile(slice(0, 10), slice(0, 20), 0, 0)]
    with pytest.raises(AdaptisError, match='divides by zero'):
        split_tiles((10, 20), (50, 20), 0.2, official=True)


def two_tiles():
    return split_tiles((8, 12), (8, 8), 0.25)


def halves(where: int, width: int = 8) -> list:
    left = np.zeros((8, width), np.float32)
    left[:, :where] = 0.8
    return [left, 0.8 - left]


def test_an_object_in_two_tiles_becomes_one_and_is_averaged():
    first, second = two_tiles()
    stitcher = Stitcher((8, 12))
    stitcher.add(first, halves(5))
    stitcher.add(second, [m * 0.5 for m in halves(1)])
    masks = list(stitcher.masks())
    assert len(masks) == 2
    np.testing.assert_allclose(masks[0][0, :6], [0.8] * 4 + [0.6, 0.0])
    np.testing.assert_allclose(masks[1][0], [0] * 5 + [0.6] * 3 + [0.4] * 4)


def test_more_objects_than_fit_into_memory(monkeypatch):
    first, second = two_tiles()
    stitcher = Stitcher((8, 12))
    monkeypatch.setattr(memory, 'physical_memory', lambda: 2.0 * 4 * 3 * 8 * 8)
    stitcher.add(first, halves(5))
    with pytest.raises(AdaptisError, match='4 objects on 8x8 pixels .* smaller parts'):
        stitcher.add(second, halves(4))


def test_a_tile_without_objects_starts_nothing_by_default():
    first, second = two_tiles()
    stitcher = Stitcher((8, 12))
    stitcher.add(first, [])
    stitcher.add(second, halves(4))
    assert len(list(stitcher.masks())) == 2


def test_a_tile_without_objects_stops_the_official_code():
    first, second = two_tiles()
    stitcher = Stitcher((8, 12), official=True)
    stitcher.add(first, [])
    with pytest.raises(AdaptisError, match='TypeError'):
        stitcher.add(second, halves(4))


def test_tiles_give_what_the_whole_image_gives():
    rows, cols = np.mgrid[:40, :40] // 10
    owner = rows * 4 + cols + 1
    image = np.stack([*np.mgrid[:40, :40], np.zeros((40, 40), int)], axis=-1).astype(np.uint8)
    rng = np.random.RandomState(0)
    proposals = 0.3 + 0.6 * rng.random_sample(owner.shape).astype(np.float32)

    def encode(part):
        (y, x), (h, w) = part[0, 0, :2], part.shape[:2]
        here = owner[y:y + h, x:x + w]
        return DrawnImage(here, [here == k for k in range(1, here.max() + 1)],
                          proposals[y:y + h, x:x + w])

    whole = segment_tiles(encode, image, AdaptISSettings(proposal_blur=0))
    tiled = segment_tiles(encode, image, AdaptISSettings(proposal_blur=0, tile=(25, 30)))
    assert len(tiled.merged.masks) == 16
    np.testing.assert_allclose(tiled.things_prob, whole.things_prob)
    pairs = np.unique(np.stack([whole.merged.instances, tiled.merged.instances]).reshape(2, -1),
                      axis=1)
    assert pairs.shape[1] == 16  # the same partition, numbered otherwise
