from __future__ import annotations

import numpy as np
import pytest

from adaptis.errors import AdaptisError
from adaptis.inference.merge import Merger, merge, to_panoptic
from adaptis.inference.settings import AdaptISSettings
from adaptis.types import TOY_TAXONOMY, Category, Taxonomy

TAXONOMY = Taxonomy([Category(3, 'sky', False), Category(5, 'car', True), Category(7, 'man', True)])


def probabilities():
    """Left half car, right half sky; nothing is certain."""
    things = np.zeros((2, 4, 6), np.float32)
    things[0, :, :3], things[1, :, :3] = 0.6, 0.3
    return 1 - things.sum(axis=0, keepdims=True), things


def box(cols: slice, prob: float) -> np.ndarray:
    mask = np.zeros((4, 6), np.float32)
    mask[:, cols] = prob
    return mask


def test_pixels_go_to_the_likeliest_mask_and_ties_to_the_first():
    stuff, things = probabilities()
    masks = [box(np.s_[:2], 0.7), box(np.s_[1:3], 0.7), box(np.s_[5:], 0.5)]
    merged = merge(masks, stuff, things, AdaptISSettings())
    assert merged.instances[0].tolist() == [1, 1, 2, 0, 0, 0]
    assert merged.class_ids.tolist() == [1, 1, 1]
    assert merged.semantic[0].tolist() == [1, 1, 1, 0, 0, 0]


def test_thresholds_of_the_merge():
    stuff, things = probabilities()
    masks = [box(np.s_[:2], 0.7), box(np.s_[5:], 0.5)]
    weak = merge(masks, stuff, things, AdaptISSettings(min_things_prob=0.8))
    assert (weak.instances == 0).all()
    less_stuff = merge(masks, stuff, things, AdaptISSettings(stuff_prob_mult=0.4))
    assert less_stuff.instances[0].tolist() == [1, 1, 0, 0, 0, 2]
    sure = merge(masks, stuff, things, AdaptISSettings(min_stuff_prob=0.5))
    assert sure.semantic[0].tolist() == [-1, -1, -1, 0, 0, 0]
    ignored = merge(masks, stuff, things, AdaptISSettings(), ignore=np.eye(4, 6))
    assert ignored.semantic[0, 0] == -1 and ignored.semantic[0, 1] == 1


def test_the_class_of_a_weak_object_is_its_likeliest_but_the_first_officially():
    stuff, things = probabilities()
    things = things[::-1]
    weak = box(np.s_[:2], 0.3)
    assert merge([weak], stuff, things, AdaptISSettings()).class_ids.tolist() == [2]
    assert merge([weak], stuff, things, AdaptISSettings(official=True)).class_ids.tolist() == [1]


def test_panoptic_result_counts_scores_and_drops_what_lost_every_pixel():
    stuff, things = probabilities()
    masks = [box(np.s_[:3], 0.8), box(np.s_[1:2], 0.6)]
    merged = merge(masks, stuff, things, AdaptISSettings())
    result = to_panoptic(merged, stuff, TAXONOMY, keep_masks=True)
    assert [(s.id, s.category_id, s.isthing, s.area) for s in result.segments] == [
        (1, 5, True, 12), (2, 3, False, 12)]
    assert result.segments[0].score == pytest.approx(0.8)
    assert result.segments[1].score == pytest.approx(1.0)
    assert result.segment_map.dtype == np.int32
    assert result.segment_map[0].tolist() == [1, 1, 1, 2, 2, 2]
    assert list(result.masks) == [1]
    assert to_panoptic(merged, stuff, TAXONOMY).masks is None


def test_masks_need_not_be_kept():
    stuff, things = probabilities()
    masks = [box(np.s_[:3], 0.8), box(np.s_[1:2], 0.9), box(np.s_[1:2], 0.1)]
    merger = Merger(stuff, things, AdaptISSettings(), keep_masks=False)
    for mask in masks:
        merger.add(mask)
        mask[:] = 1  # it may be reused
    merged = merger.result()
    assert merged.masks is None
    result = to_panoptic(merged, stuff, TAXONOMY)
    assert [s.area for s in result.segments] == [8, 4, 12] and result.masks is None
    assert [s.score for s in result.segments] == pytest.approx([0.8, 0.9, 1.0])
    np.testing.assert_allclose(merged.prob[0], [0.8, 0.9, 0.8, 1, 1, 1], rtol=1e-6)


def test_kept_masks_are_numbered_like_their_segments():
    stuff, things = probabilities()
    masks = [box(np.s_[:2], 0.5), box(np.s_[:2], 0.7), box(np.s_[2:3], 0.6)]
    result = to_panoptic(merge(masks, stuff, things, AdaptISSettings()), stuff, TAXONOMY,
                         keep_masks=True)
    assert sorted(result.masks) == [1, 2]  # the first lost every pixel
    np.testing.assert_array_equal(result.masks[1], masks[1])
    np.testing.assert_array_equal(result.masks[2], masks[2])


def test_the_class_of_an_object_is_that_of_its_pixels_alone():
    """A mean over its box, or over all pixels, would choose the first class."""
    things = np.zeros((2, 20, 30), np.float32)
    things[0] = 0.6
    mask = np.zeros((20, 30), np.float32)
    mask[np.arange(5, 15), np.arange(5, 15)] = 0.9
    things[:, mask > 0] = np.array([[0.2], [0.3]])
    assert merge([mask], 1 - things.sum(axis=0, keepdims=True), things,
                 AdaptISSettings()).class_ids.tolist() == [2]


def test_no_masks_at_all():
    stuff, things = probabilities()
    result = to_panoptic(merge([], stuff, things, AdaptISSettings()), stuff, TAXONOMY)
    assert [s.category_id for s in result.segments] == [3]
    assert result.segment_map[0].tolist() == [0, 0, 0, 1, 1, 1]


def test_classes_that_the_taxonomy_lacks():
    stuff, things = probabilities()
    merged = merge([box(np.s_[:2], 0.7)], stuff, things[::-1], AdaptISSettings())
    with pytest.raises(AdaptisError, match='taxonomy'):
        to_panoptic(merged, stuff, TOY_TAXONOMY)
