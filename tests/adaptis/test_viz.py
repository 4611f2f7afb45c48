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
    row = viz.result_row(image, result, proposals=np.zeros((8, 10)), truth=result)
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


def scene(*boxes: tuple, size: tuple[int, int] = (64, 96)) -> PanopticResult:
    """Objects (id, category, top, left, bottom, right) of the taxonomy ``ANIMALS``."""
    segment_map = np.zeros(size, np.int32)
    for number, _, top, left, bottom, right in boxes:
        segment_map[top:bottom, left:right] = number
    return PanopticResult(segment_map, [
        Segment(number, c, True, 0.875, int((segment_map == number).sum()), ANIMALS.by_id(c).name)
        for number, c, *_ in boxes])


ANIMALS = Taxonomy([Category(1, 'sky', False), Category(7, 'cat', True, (200, 0, 0)),
                    Category(9, 'dog', True, (0, 0, 200))])


@pytest.mark.parametrize('taxonomy', [None, ANIMALS])
def test_an_object_keeps_its_colour_when_others_come_and_go(taxonomy):
    alone = scene((5, 7, 10, 10, 30, 30))
    among = scene((1, 9, 40, 60, 60, 90), (2, 7, 11, 10, 31, 30), (3, 7, 2, 60, 20, 80))
    first, second = (viz.instance_colors(r, taxonomy) for r in (alone, among))
    np.testing.assert_array_equal(first[5], second[2])
    assert len({tuple(color) for color in second.values()}) == 3


def test_objects_in_one_place_differ():
    crowd = scene(*((k, 7, 8 + k, 8, 9 + k, 12) for k in range(1, 8)))
    assert len({tuple(c) for c in viz.instance_colors(crowd, ANIMALS).values()}) == 7


def test_prediction_and_truth_have_the_same_colours():
    truth = scene((1, 7, 8, 8, 28, 28), (2, 9, 30, 30, 60, 60))
    found = scene((4, 9, 34, 36, 60, 62), (9, 7, 8, 8, 24, 23), (3, 7, 2, 70, 9, 80))
    expected, colors = viz.instance_colors(truth, ANIMALS), viz.instance_colors(found, ANIMALS,
                                                                               like=truth)
    np.testing.assert_array_equal(colors[9], expected[1])
    np.testing.assert_array_equal(colors[4], expected[2])
    assert tuple(colors[3]) not in {tuple(c) for c in expected.values()}
    image = np.full((64, 96, 3), 90, np.uint8)
    _, left, right = viz.result_row(image, found, truth=truth, taxonomy=ANIMALS)
    np.testing.assert_array_equal(left[15, 15], right[15, 15])


def test_labels_are_written_where_they_fit():
    image = np.full((200, 300, 3), 90, np.uint8)
    result = scene((1, 7, 20, 20, 120, 140), (2, 9, 180, 290, 184, 294), size=(200, 300))
    plain = viz.overlay_panoptic(image, result, ANIMALS)
    named = viz.overlay_panoptic(image, result, ANIMALS, labels=True)
    changed = (plain != named).any(axis=2)
    assert changed[20:120, 20:140].any() and not changed[180:].any()
    assert named[changed].max() > 200   # white on dark
    result.segments[0].__dict__['score'] = 0.5
    other = viz.overlay_panoptic(image, result, ANIMALS, labels=True)
    assert (named != other).any()
    tiny = scene((1, 7, 0, 0, 4, 4), size=(4, 4))
    viz.overlay_panoptic(np.zeros((4, 4, 3), np.uint8), tiny, ANIMALS, labels=True)
