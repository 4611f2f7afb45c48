from __future__ import annotations

import json

import numpy as np
import pytest

from adaptis.errors import AdaptisError
from adaptis.types import Category, Taxonomy
from panoptic_baselines.classes import semantic_to_class_index
from panoptic_baselines.merge import Instances, merge
from tests.panoptic_baselines.golden import unpack
from tests.panoptic_baselines.panoptic_fpn.test_inference_parity import (
    expected_segments,
    merge_options,
)

SMALL = Taxonomy([Category(7, 'car', True), Category(3, 'road', False), Category(5, 'sky', False),
                  Category(9, 'dog', True)])   # classes: road, sky, car, dog


def instances(masks, scores, classes=None):
    masks = np.array(masks, bool)
    return Instances(np.zeros((len(masks), 4), np.float32), np.array(scores, np.float32),
                     np.zeros(len(masks), int) if classes is None else np.array(classes), masks)


def row(*ranges, width=10):
    """Masks of one row, each from a column up to another."""
    return [[[begin <= x < end for x in range(width)]] for begin, end in ranges]


def nothing():
    return instances(np.zeros((0, 1, 10)), [])


@pytest.mark.parametrize('name', ['case1', 'case2', 'case3', 'case3b', 'case4_no_instances'])
def test_it_is_the_official_one(kit, coco, name):
    d, info = np.load(kit / 'ops/combine.npz'), json.loads((kit / 'ops/combine.json').read_text())
    semantic = d[f'{name}_sem'].astype(np.int32)
    found = instances(unpack(d[f'{name}_masks_bits'], semantic.shape), d[f'{name}_scores'],
                      d[f'{name}_classes'])
    result = merge(found, semantic_to_class_index(semantic, True), coco,
                   **merge_options(info[name]))
    np.testing.assert_array_equal(result.segment_map, d[f'{name}_panoptic'])
    expected = expected_segments(info[name]['segments_info'], coco)
    assert [(s.category_id, s.isthing) for s in result.segments] == [e[:2] for e in expected]
    np.testing.assert_allclose([s.score for s in result.segments], [e[2] for e in expected])
    areas = np.bincount(result.segment_map.ravel(), minlength=len(expected) + 1)[1:]
    assert [s.area for s in result.segments] == areas.tolist()


def test_better_instances_take_their_pixels_first():
    found = instances(row((0, 6), (4, 9)), [0.6, 0.9], [1, 0])
    result = merge(found, None, SMALL, overlap_threshold=0.34)
    assert result.segment_map.tolist() == [[2] * 4 + [1] * 5 + [0]]
    assert [(s.id, s.category_id, s.area) for s in result.segments] == [(1, 7, 5), (2, 9, 4)]
    assert [s.score for s in result.segments] == pytest.approx([0.9, 0.6])
    assert result.semantic is None


@pytest.mark.parametrize('hidden, kept', [(5, True), (6, False)])
def test_exactly_half_hidden_is_not_too_much(hidden, kept):
    found = instances(row((0, hidden), (0, 10)), [0.9, 0.8])
    result = merge(found, None, SMALL)
    assert (len(result.segments) == 2) == kept
    assert (result.segment_map[0, 9] > 0) == kept


def test_hidden_by_others_counts_free_pixels_too():
    # The second is dropped, so it hides nothing of the third.
    found = instances(row((0, 4), (0, 6), (4, 7)), [0.9, 0.8, 0.7])
    result = merge(found, None, SMALL)
    assert result.segment_map.tolist() == [[1] * 4 + [2] * 3 + [0] * 3]


def test_scores_and_empty_masks():
    found = instances(row((0, 2), (2, 2), (4, 6), (6, 8)), [0.5, 0.99, 0.49, 0.5])
    result = merge(found, None, SMALL)
    assert [s.id for s in result.segments] == [1, 2]   # at the threshold they stay; equals in order
    assert result.segment_map.tolist() == [[1, 1, 0, 0, 0, 0, 2, 2, 0, 0]]


def test_fully_hidden_instances_never_become_segments():
    found = instances(row((0, 4), (0, 4)), [0.9, 0.8])
    assert len(merge(found, None, SMALL, overlap_threshold=1.0).segments) == 1


def test_stuff_takes_what_is_left_if_it_is_enough():
    semantic = np.array([[1, 1, 1, 1, 0, 0, -1, 2, 1, 1]])
    found = instances(row((0, 2)), [0.9])
    result = merge(found, semantic, SMALL, stuff_area_limit=3)
    assert result.segment_map.tolist() == [[1, 1, 2, 2, 0, 0, 0, 0, 2, 2]]
    assert [(s.category_id, s.isthing, s.area) for s in result.segments] == [(7, True, 2),
                                                                             (5, False, 4)]
    np.testing.assert_array_equal(result.semantic, semantic)
    assert len(merge(found, semantic, SMALL, stuff_area_limit=5).segments) == 1
    # Without a limit even one pixel is a segment; class 2 is a thing and no stuff.
    tiny = merge(nothing(), semantic, SMALL, stuff_area_limit=0)
    assert [(s.category_id, s.area) for s in tiny.segments] == [(3, 2), (5, 6)]


def test_a_network_without_instances_has_things_of_its_labels():
    result = merge(None, np.array([[0, 0, 2, 3, -1]]), SMALL, stuff_area_limit=1)
    assert [(s.category_id, s.isthing, s.area) for s in result.segments] == [
        (3, False, 2), (7, True, 1), (9, True, 1)]


def test_nothing_at_all():
    result = merge(nothing(), np.full((1, 10), -1), SMALL)
    assert not result.segment_map.any() and result.segments == []


def test_sizes_must_agree():
    with pytest.raises(AdaptisError, match='the same size'):
        merge(nothing(), np.zeros((2, 10), int), SMALL)
    with pytest.raises(AdaptisError, match='the same size'):
        merge(None, None, SMALL)
