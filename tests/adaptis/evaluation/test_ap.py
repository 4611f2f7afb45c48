from __future__ import annotations

import math
from dataclasses import replace

import cv2
import numpy as np
import pytest
from evaluation_cases import TAXONOMY, result, row
from random_cases import coco_eval_precision, disturbed, overlapping, random_images, scene

from adaptis.errors import AdaptisError
from adaptis.evaluation.ap import TABLE_1, THRESHOLDS, AveragePrecision, Counts, count_objects
from adaptis.evaluation.coco import PanopticFolder
from adaptis.evaluation.overlap import compute_object_overlap, compute_overlap
from adaptis.evaluation.run import Evaluator
from adaptis.types import Objects, PanopticResult, Segment


def ap_of(*images, crowd=(), **kwargs):
    precision = AveragePrecision(**kwargs)
    for index, (truth, found) in enumerate(images):
        precision.add(index, truth, found, crowd)
    return precision.result()


def test_thresholds_hold_those_of_table_1():
    assert set(TABLE_1) <= set(THRESHOLDS)


def test_one_of_two_found_and_one_false():
    # By falling score: hit, miss.  Precision is 1 up to recall 1/2 and 0 beyond: 51 of the 101
    # recalls 0, .01, ... 1.
    truth = result(row((1, 10), (2, 10), (0, 10)), {1: 21, 2: 21})
    found = result(row((1, 10), (0, 10), (3, 10)), {1: 21, 3: 21}, {1: .9, 3: .5})
    assert ap_of((truth, found))['ap'] == pytest.approx(51 / 101)
    # The false one first: precision 1/2 at recall 1/2.
    first = result(row((1, 10), (0, 10), (3, 10)), {1: 21, 3: 21}, {1: .5, 3: .9})
    assert ap_of((truth, first))['ap50'] == pytest.approx(51 / 101 / 2)


def test_threshold_by_threshold():
    truth = result(row((1, 20)), {1: 21})
    scores = ap_of((truth, result(row((1, 15), (0, 5)), {1: 21})))  # IoU .75
    assert [scores[f'ap{t}'] for t in (50, 70, 75, 80, 90)] == pytest.approx([1, 1, 1, 0, 0])
    assert scores['ap'] == pytest.approx(.6)


def test_ties_keep_the_order_of_images_and_segments():
    truth = result(row((1, 10), (0, 10)), {1: 21})
    tied = result(row((4, 10), (5, 10)), {4: 21, 5: 21}, {4: .5, 5: .5})
    swapped = PanopticResult(tied.segment_map, tied.segments[::-1])
    assert ap_of((truth, tied))['ap50'] == pytest.approx(1)
    assert ap_of((truth, swapped))['ap50'] == pytest.approx(.5)


def test_classes():
    truth = result(row((1, 10), (2, 10)), {1: 21, 2: 22})
    wrong = result(row((1, 10), (2, 10)), {1: 21, 2: 21}, {1: .9, 2: .8})
    assert ap_of((truth, wrong))['ap'] == pytest.approx(1)
    scores = ap_of((truth, wrong), class_agnostic=False)
    assert scores['ap'] == pytest.approx(.5)
    assert scores['per_class'] == pytest.approx({21: 1.0, 22: 0.0})


def test_stuff_and_crowds_do_not_count():
    truth = result(row((1, 10), (2, 10), (3, 10)), {1: 7, 2: 21, 3: 21})
    found = result(row((1, 10), (2, 10), (3, 4), (4, 6)), {1: 7, 2: 21, 3: 21, 4: 21},
                   {3: .99, 4: .99, 2: .5})
    assert ap_of((truth, found), crowd=[3])['ap'] == pytest.approx(1)


def grid(count):
    """``count`` objects of 4 x 4 pixels."""
    width = 25
    ids = np.zeros((width, -(-count // width)), np.int32)
    ids.T.flat[:count] = np.arange(1, count + 1)
    return result(np.kron(ids.T, np.ones((4, 4), np.int32)), dict.fromkeys(range(1, count + 1), 21))


def test_many_objects_are_not_cut():
    truth = grid(700)
    assert ap_of((truth, truth))['ap'] == pytest.approx(1)
    assert ap_of((truth, truth), max_detections=100)['ap'] == pytest.approx(15 / 101)


def test_size_does_not_matter():
    large = np.ones((900, 900), np.int32)
    large[0, 0] = 2
    truth = result(large, {1: 21, 2: 21})
    assert ap_of((truth, truth))['ap'] == pytest.approx(1)


def test_empty():
    nothing = PanopticResult(np.zeros((1, 5), np.int32), [])
    something = result(row((1, 5)), {1: 21})
    assert ap_of((something, nothing))['ap'] == 0
    for images in ([(nothing, something)], [(nothing, nothing)], []):
        assert all(math.isnan(v) for v in ap_of(*images).values())


def test_merged_parts_equal_the_whole_exactly():
    rng = np.random.default_rng(1)
    whole, parts = AveragePrecision(), [AveragePrecision() for _ in range(2)]
    for index in range(10):
        segment_map = rng.integers(0, 4, (6, 8))
        truth = result(segment_map, {1: 21, 2: 22, 3: 21})
        noisy = np.where(rng.random(segment_map.shape) < .25, 0, segment_map)
        found = result(noisy, {1: 21, 2: 22, 3: 21}, {1: .5, 2: .5, 3: float(rng.random())})
        for precision in (whole, parts[index % 2]):
            precision.add(index, truth, found)
    parts[1].merge(parts[0])
    assert parts[1].result() == whole.result()
    with pytest.raises(AdaptisError, match='Image 0 was added twice'):
        whole.merge(parts[0])


def test_bad_input_is_named():
    precision = AveragePrecision()
    picture = result(row((1, 5)), {1: 21})
    precision.add(0, picture, picture)
    with pytest.raises(AdaptisError, match='Image 0 was added twice'):
        precision.add(0, picture, picture)
    with pytest.raises(AdaptisError, match='Image 1: the ground truth is 1x5 but'):
        precision.add(1, picture, result(row((1, 6)), {1: 21}))


def test_counts_worked_by_hand():
    truth = result(row((1, 10), (2, 10), (3, 10), (4, 5)), {1: 21, 2: 22, 3: 21, 4: 7})
    found = result(row((5, 8), (0, 2), (6, 5), (7, 5), (0, 10), (8, 5)),
                   {5: 22, 6: 21, 7: 21, 8: 21})
    # 1 by 5 (IoU .8), 2 by 6 or 7 (.5 each, but only once), 3 by none; 8 lies on stuff.
    assert count_objects(compute_overlap(truth, found)) == Counts(found=2, missed=1, false=2)
    assert count_objects(compute_overlap(truth, found), iou=0.6) == Counts(1, missed=2, false=3)


def test_best_match_comes_first():
    truth = result(row((1, 6), (2, 4)), {1: 21, 2: 21})
    found = result(row((3, 4), (4, 6)), {3: 21, 4: 21})
    # IoU: 1-3 is 4/6, 1-4 is 2/10, 2-4 is 4/6.
    assert count_objects(compute_overlap(truth, found), iou=0.1) == Counts(2, 0, 0)


def test_counts_and_crowds():
    truth = result(row((1, 10), (2, 10)), {1: 21, 2: 21})
    found = result(row((3, 6), (0, 4), (4, 10)), {3: 21, 4: 21, 9: 21})
    assert count_objects(compute_overlap(truth, found, crowd=[1])) == Counts(1, 0, 0)
    nothing = PanopticResult(np.zeros((1, 20), np.int32), [])
    assert count_objects(compute_overlap(truth, nothing)) == Counts(0, 2, 0)
    assert count_objects(compute_overlap(nothing, truth)) == Counts(0, 0, 2)


def test_counts_of_the_250_objects(shared):
    ids = cv2.imread(str(shared / 'toy_samples' / '250_sample_gt.png'), cv2.IMREAD_UNCHANGED)
    names = [int(i) for i in np.unique(ids) if i]
    truth = PanopticResult(ids.astype(np.int32), [Segment(i, 2, True, 1.0, 0) for i in names])
    assert count_objects(compute_overlap(truth, truth)) == Counts(250, 0, 0)
    fewer = np.where(ids > 16, ids, 0).astype(np.int32)
    found = PanopticResult(fewer, [s for s in truth.segments if s.id > 16])
    assert count_objects(compute_overlap(truth, found)) == Counts(234, 16, 0)


@pytest.mark.parametrize('class_agnostic', [True, False])
@pytest.mark.parametrize('max_detections', [None, 4])
def test_streaming_equals_coco_eval_on_everything(class_agnostic, max_detections):
    """To the last bit, with crowds, ties, classes, IoUs of exactly .5, images without objects."""
    for seed in range(4):
        triples = list(random_images(12, seed))
        categories, precision = coco_eval_precision(triples, class_agnostic, max_detections)
        accumulator = AveragePrecision(class_agnostic, max_detections)
        for index in np.random.default_rng(seed).permutation(len(triples)):
            truth, found, crowd = triples[index]
            accumulator.add(int(index), truth, found, crowd)
        scores = accumulator.result()
        assert scores['ap'] == precision[precision > -1].mean()
        for threshold, values in zip(THRESHOLDS, precision):
            assert scores[f'ap{round(100 * threshold)}'] == values[values > -1].mean()
        if not class_agnostic:
            means = [precision[:, :, k] for k in range(len(categories))]
            assert list(scores['per_class']) == categories
            assert all(np.isnan(s) if p.max() < 0 else s == p.mean()
                       for s, p in zip(scores['per_class'].values(), means))
        assert 0 < scores['ap'] < 1


@pytest.mark.parametrize('class_agnostic', [True, False])
def test_streaming_equals_coco_eval_on_objects_that_overlap(class_agnostic):
    rng = np.random.default_rng(2)
    triples = [(truth, overlapping(rng, found), crowd)
               for truth, found, crowd in random_images(12, seed=6)]
    _, precision = coco_eval_precision(triples, class_agnostic)
    evaluator = Evaluator(TAXONOMY)
    for index, triple in enumerate(triples):
        evaluator.add(index, *triple)
    scores = evaluator.result()['ap' if class_agnostic else 'ap_by_class']
    assert 0 < scores['ap'] == precision[precision > -1].mean() < 1
    merged = Evaluator(TAXONOMY)
    for index, (truth, found, crowd) in enumerate(triples):
        merged.add(index, truth, replace(found, objects=None), crowd)
    assert merged.result()['pq'] == evaluator.result()['pq']
    assert merged.result()['ap'] != evaluator.result()['ap']


def test_objects_of_another_size_are_named():
    truth, crowd = scene(np.random.default_rng(0))
    found = Objects(np.ones((1, 2, 2), bool), np.ones(1), np.ones(1, int))
    with pytest.raises(AdaptisError, match='24x32 but the predicted objects are 2x2'):
        compute_object_overlap(truth, found, crowd)


def test_streaming_equals_coco_eval_on_many_objects():
    rng = np.random.default_rng(5)
    truth, crowd = scene(rng, cells=(30, 40), cell=2)
    triples = [(truth, disturbed(rng, truth), crowd)]
    assert len(triples[0][1].things) > 100
    _, precision = coco_eval_precision(triples)
    accumulator = AveragePrecision()
    accumulator.add(0, *triples[0])
    assert accumulator.result()['ap'] == precision[precision > -1].mean() > 0


def test_streaming_equals_coco_eval_on_real_images(shared):
    folder = PanopticFolder(shared / 'coco_sample' / 'panoptic_examples.json')
    triples, scores = [], AveragePrecision(class_agnostic=False)
    for index, record in enumerate(folder):
        moved = PanopticResult(np.roll(record.result.segment_map, 4, axis=1), [
            replace(s, score=k % 5 / 5) for k, s in enumerate(record.result.segments)])
        triples.append((record.result, moved, record.crowd))
        scores.add(index, *triples[-1])
    categories, precision = coco_eval_precision(triples, class_agnostic=False)
    result = scores.result()
    assert result['ap'] == precision[precision > -1].mean() and .2 < result['ap'] < 1
    assert list(result['per_class']) == categories


def test_a_detection_costs_a_few_bytes():
    accumulator = AveragePrecision()
    truth = grid(700)
    accumulator.add(0, truth, truth)
    assert sum(a.nbytes for a in accumulator.detections.state().values()) == 700 * 20 + 16 + 16


def test_an_object_comes_before_a_crowd():
    # One detection covers an object and as much of a crowd: COCO's share is 1/2 of either.
    truth = result(row((1, 10), (2, 10)), {1: 21, 2: 21})
    found = result([[5] * 20], {5: 21})
    triples = [(truth, found, {2})]
    assert ap_of((truth, found), crowd={2})['ap50'] == pytest.approx(1)
    assert coco_eval_precision(triples)[1][0].mean() == pytest.approx(1)
