from __future__ import annotations

import math

import numpy as np
import pytest
from evaluation_cases import TAXONOMY, result, row

from adaptis.errors import AdaptisError
from adaptis.evaluation.miou import MeanIoU, semantic_map


def test_worked_by_hand():
    semantic = MeanIoU(4)
    semantic.add(np.array([[0, 0, 0, 1, 1, -1]]), np.array([[0, 0, 1, 1, -1, 2]]))
    scores = semantic.result()
    # Class 0: 2 of 3; class 1: one hit, one pixel of class 0, one unlabelled: 1 of 3; class 2 was
    # predicted where nothing counts; class 3 never.
    assert scores['per_class'][:2] == pytest.approx([2 / 3, 1 / 3])
    assert all(math.isnan(v) for v in scores['per_class'][2:])
    assert scores['miou'] == pytest.approx(.5)
    assert scores['accuracy'] == pytest.approx(3 / 5)


def test_merge_and_empty():
    rng = np.random.default_rng(0)
    whole, part = MeanIoU(3), MeanIoU(3)
    assert math.isnan(whole.result()['miou']) and math.isnan(whole.result()['accuracy'])
    for accumulator in (whole, whole, part):
        accumulator.add(rng.integers(-1, 3, (5, 6)), rng.integers(-1, 3, (5, 6)))
    both = MeanIoU(3)
    both.merge(whole)
    both.merge(part)
    whole.merge(part)
    assert both.result() == whole.result()


def test_bad_input_is_named():
    semantic = MeanIoU(2)
    with pytest.raises(AdaptisError, match='sizes'):
        semantic.add(np.zeros((2, 3), int), np.zeros((3, 2), int))
    with pytest.raises(AdaptisError, match='outside the range -1 to 1'):
        semantic.add(np.zeros((2, 3), int), np.full((2, 3), 2))


def test_semantics_of_a_panoptic_result():
    picture = result(row((5, 2), (6, 1), (0, 1)), {5: 22, 6: 9})
    assert semantic_map(picture, TAXONOMY).tolist() == [[3, 3, 1, -1]]


def test_by_kind_worked_by_hand():
    # Class indices: sky 0, grass 1, cat 2, dog 3; void -1.
    truth = np.array([[0, 0, 0, 0, 1, 1, 2, 2, 2, 3, -1]])
    said = np.array([[0, 0, 0, 1, 1, 2, 2, 2, 0, -1, 2]])
    semantic = MeanIoU(4)
    semantic.add(truth, said)
    scores = semantic.result_by_kind(TAXONOMY)
    sky, grass, cat, dog = 3 / 5, 1 / 3, 2 / 4, 0
    assert scores['per_class'] == pytest.approx([sky, grass, cat, dog])
    assert scores['stuff'] == pytest.approx((sky + grass) / 2)
    assert scores['things'] == pytest.approx((cat + dog) / 2)
    assert scores['fiou'] == pytest.approx((4 * sky + 2 * grass + 3 * cat + 1 * dog) / 10)
    assert scores['fiou_stuff'] == pytest.approx((4 * sky + 2 * grass) / 6)
    # Of 6 pixels of stuff one is taken for a thing; of 4 of things one for stuff, one for nothing.
    assert scores['confusion']['stuff'] == pytest.approx({'stuff': 5 / 6, 'things': 1 / 6})
    assert scores['confusion']['things'] == pytest.approx({'stuff': 1 / 3, 'things': 2 / 3})
    assert scores['miou'] == semantic.result()['miou']
    empty = MeanIoU(4).result_by_kind(TAXONOMY)
    assert all(math.isnan(empty[key]) for key in ('stuff', 'things', 'fiou', 'fiou_stuff'))
    assert math.isnan(empty['confusion']['things']['stuff'])


def test_frequency_weighted_iou_is_the_definition():
    rng = np.random.default_rng(1)
    truth, said = rng.integers(-1, 4, (2, 30, 40))
    semantic = MeanIoU(4)
    semantic.add(truth, said)
    labelled = truth >= 0
    expected = 0.0
    for c in range(4):
        union = (((truth == c) | (said == c)) & labelled).sum()
        iou = ((truth == c) & (said == c)).sum() / union
        expected += iou * (truth == c).sum() / labelled.sum()
    assert semantic.result()['fiou'] == pytest.approx(expected, abs=1e-12)
