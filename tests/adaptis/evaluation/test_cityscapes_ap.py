from __future__ import annotations

import math

import numpy as np
import pytest

from adaptis.evaluation.cityscapes_ap import CityscapesAP
from adaptis.evaluation.overlap import compute_object_overlap, compute_overlap
from adaptis.types import Objects, PanopticResult, Segment

CLASSES = (24, 25, 26)


def rows(*lengths):
    """Ten rows of (id, columns) pairs one after the other."""
    return np.repeat([[i for i, n in lengths for _ in range(n)]], 10, axis=0).astype(np.int32)


def picture(segment_map, scores=None, category=26):
    ids = [int(i) for i in np.unique(segment_map) if i]
    return PanopticResult(segment_map, [Segment(i, category, True, (scores or {}).get(i, 1.0), 0)
                                        for i in ids])


def ap_of(truth, found, crowd=()):
    accumulator = CityscapesAP()
    accumulator.add_overlap(0, compute_overlap(truth, found, crowd))
    return accumulator.result()


@pytest.mark.parametrize('scores, ap', [
    # Precision and recall at falling confidence, and the artificial point (1, 0):
    ({1: .9, 3: .5}, .5),     # (1, .5), (.5, .5): 1 x .25 + 1 x .25
    ({1: .5, 3: .9}, .125),   # (0, 0), (.5, .5): .5 x .25 + 0 x .25
    ({1: .9, 3: .9}, .375),   # (.5, .5) alone, as the scores are equal: (.5 + 1) x .25
])
def test_one_of_two_found_and_one_false(scores, ap):
    truth = picture(rows((1, 20), (2, 20), (0, 10), (4, 10)))
    truth.segments[2] = Segment(4, 7, False, 1.0, 0)
    found = picture(rows((1, 20), (0, 30), (3, 10)), scores)
    assert ap_of(truth, found)['ap'] == pytest.approx(ap)


def test_threshold_by_threshold():
    # IoU .75 is above .50, .55, .60, .65, .70 and not above .75; IoU .5 is above none.
    truth = picture(rows((1, 20)))
    assert ap_of(truth, picture(rows((1, 15), (0, 5))))['ap'] == pytest.approx(.5)
    assert ap_of(truth, picture(rows((1, 10), (0, 10))))['ap50'] == 0


def test_of_two_reports_of_an_object_the_surer_one_counts():
    truth = picture(rows((1, 20), (2, 20)))
    masks = np.stack([truth.segment_map == 1, rows((1, 18), (0, 22)) > 0, truth.segment_map == 2])
    for first, second, right in ((.9, .5, [10, 0, 10]), (.5, .9, [2, 8, 10])):  # of 10 thresholds
        found = Objects(masks, np.array([first, second, .1]), np.full(3, 26))
        accumulator = CityscapesAP()
        accumulator.add_overlap(0, compute_object_overlap(truth, found))
        records = accumulator.detections.sorted()
        assert [bin(bits).count('1') for bits in records['right']] == right
        assert not records['excused'].any()


def test_small_objects_need_not_be_found_and_excuse():
    truth = picture(rows((1, 20), (2, 9), (0, 1)))
    missed = picture(rows((1, 20), (0, 10)))
    matched = picture(rows((1, 20), (2, 9), (0, 1)), {1: .5})
    assert ap_of(truth, missed)['ap'] == ap_of(truth, matched)['ap'] == 1


def test_groups_and_void_excuse_by_their_share():
    truth = picture(rows((1, 20), (2, 14), (4, 20), (0, 6)))
    truth.segments[2] = Segment(4, 7, False, 1.0, 0)
    # 14 columns on a group and 6 on stuff: excused at the thresholds below .7 alone.
    found = picture(rows((1, 20), (3, 20), (0, 20)), {1: .5})
    spoilt = .25  # (0, 0), (.5, 1): .5 x .5 + 0 x .5
    assert ap_of(truth, found, crowd=[2])['ap'] == pytest.approx((4 * 1 + 6 * spoilt) / 10)
    on_void = picture(rows((1, 20), (0, 34), (3, 6)), {1: .5})
    assert ap_of(truth, on_void, crowd=[2])['ap'] == 1


def test_nothing_to_find_or_found():
    nothing, something = picture(rows((0, 20))), picture(rows((1, 20)))
    assert math.isnan(ap_of(nothing, something)['ap'])
    assert math.isnan(ap_of(something, something, crowd=[1])['ap'])
    assert ap_of(something, nothing)['ap'] == 0
    both = ap_of(something, picture(rows((1, 20)), category=24))
    assert both['ap'] == 0 and both['per_class'] == {26: 0}


def street(number):
    """Truth, result and groups of a made-up street, from whole numbers alone."""
    truth = np.zeros((60, 80), np.int32)
    found = np.zeros_like(truth)
    truth[40:], found[38:] = 900, 901
    sides = ([Segment(900, 7, False, 1.0, 0)], [Segment(901, 7, False, 1.0, 0)])
    for k in range(9):
        y, x = (k * 37 + number * 11) % 44, (k * 53 + number * 29) % 62
        h, w = 7 + (k * 5 + number) % 13, 6 + (k * 7 + number * 3) % 14
        shift = (k + number) % 4
        truth[y:y + h, x:x + w] = k + 1
        found[y + shift:y + h, x:x + w - (k % 3 == 1) * shift] = 100 + k
        category = CLASSES[(k + number) % 3]
        said = CLASSES[(k + number + (k * number % 5 == 4)) % 3]
        sides[0].append(Segment(k + 1, category, True, 1.0, 0))
        sides[1].append(Segment(100 + k, said, True, (k * 31 + number * 17) % 20 / 20, 0))
    kept = [[s for s in side if (m == s.id).any()] for side, m in zip(sides, (truth, found))]
    crowd = {k + 1 for k in range(9) if (k + number) % 5 == 0}
    return PanopticResult(truth, kept[0]), PanopticResult(found, kept[1]), crowd


def test_equals_the_scripts_of_the_benchmark():
    """Figures of cityscapesscripts 2.3.0 (evalInstanceLevelSemanticLabeling) on these streets."""
    accumulator = CityscapesAP()
    for number in range(8):
        truth, found, crowd = street(number)
        accumulator.add_overlap(number, compute_overlap(truth, found, crowd))
    scores = accumulator.result()
    assert scores['ap'] == pytest.approx(0.40509377117817286, abs=1e-12)
    assert scores['ap50'] == pytest.approx(0.6570289353729524, abs=1e-12)
    assert scores['per_class'] == pytest.approx({
        24: 0.3718418440533825, 25: 0.3938403880070547, 26: 0.4495990814740815}, abs=1e-12)
