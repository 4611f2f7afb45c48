from __future__ import annotations

import numpy as np
import pytest

from adaptis import viz
from adaptis.errors import AdaptisError
from adaptis.types import TOY_TAXONOMY, Category, PanopticResult, Segment, Taxonomy


def example():
    image = np.full((8, 10, 3), 100, np.uint8)
    segment_map = np.zeros((8, 10), np.int32)
    segment_map[:4], segment_map[4:, :5] = 1, 2
    result = PanopticResult(segment_map, [Segment(1, 2, True, 0.9, 40),
                                          Segment(2, 1, False, 0.9, 20)])
    return image, result


def test_colours_are_distinct_and_stable():
    colors = viz.distinct_colors(40)
    assert len(np.unique(colors, axis=0)) == 40
    np.testing.assert_array_equal(viz.distinct_colors(7), colors[:7])
    assert viz.distinct_colors(0).shape == (0, 3)


def test_ids_are_coloured_and_zero_is_background():
    picture = viz.color_ids(np.array([[0, 5], [9, 5]]), background=(1, 2, 3))
    assert picture[0, 0].tolist() == [1, 2, 3]
    assert (picture[0, 1] == picture[1, 1]).all() and (picture[0, 1] != picture[1, 0]).any()
    assert (viz.color_ids(np.array([[4]])) == viz.distinct_colors(1)).all()


def test_overlay_changes_only_the_things_without_a_taxonomy():
    image, result = example()
    picture = viz.overlay_panoptic(image, result)
    assert (picture[:4] != 100).any(axis=2).all() and (picture[4:] == 100).all()
    with_stuff = viz.overlay_panoptic(image, result, TOY_TAXONOMY)
    assert (with_stuff[4:, :5] != 100).all() and (with_stuff[4:, 5:] == 100).all()
    assert image.min() == image.max() == 100  # the input is left alone
    with pytest.raises(AdaptisError):
        viz.overlay_panoptic(image[:3], result)


def test_heat_mask_and_click():
    assert viz.heat_map(np.array([[0.0, 1.0, np.nan]])).shape == (1, 3, 3)
    image, _ = example()
    mask = np.zeros((8, 10))
    mask[2, 3] = 1
    picture = viz.overlay_mask(image, mask)
    assert (picture != 100).any(axis=2).sum() == 1
    assert (viz.overlay_mask(image, mask, x=9, y=7) != picture).any()


def test_contact_sheet_holds_pictures_of_any_size():
    image, result = example()
    row = viz.result_row(image, result, proposals=np.zeros((8, 10)), truth=result.segment_map)
    assert len(row) == 4
    sheet = viz.contact_sheet([row, [image[:3]]], titles=['image', 'proposals'], scale=2, gap=4)
    assert sheet.shape == (18 + 4 + 20 + 10, 4 + 4 * 24, 3)
    assert (sheet[22:38, 4:24] == 100).all()
    with pytest.raises(AdaptisError):
        viz.contact_sheet([])


def test_objects_have_shades_of_the_colours_of_their_classes():
    taxonomy = Taxonomy([Category(1, 'sky', False), Category(7, 'cat', True, (200, 0, 0)),
                         Category(9, 'dog', True, (0, 0, 200))])
    ids = np.array([[1, 2, 3, 0]]).repeat(2, axis=0)
    result = PanopticResult(ids, [Segment(i, c, True, 1.0, 2)
                                  for i, c in ((1, 7), (2, 7), (3, 9), (4, 9))])
    shown = viz.overlay_panoptic(np.zeros((2, 4, 3), np.uint8), result, taxonomy, alpha=1.0)
    cat, other_cat, dog, nothing = shown[0].astype(int)
    assert cat[0] >= 140 > cat[2] and other_cat[0] >= 140 > other_cat[2]
    assert dog[2] >= 140 > dog[0] and not nothing.any()
    assert np.abs(cat - other_cat).sum() > 20
