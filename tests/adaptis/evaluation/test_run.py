from __future__ import annotations

import math
import os

import numpy as np
import pytest
from evaluation_cases import TAXONOMY, result, row, square
from random_cases import random_images

from adaptis.errors import AdaptisError
from adaptis.evaluation.coco import PanopticFolder, write_panoptic
from adaptis.evaluation.miou import MeanIoU, semantic_map
from adaptis.evaluation.parallel import parallel_map
from adaptis.evaluation.record import (
    make_record,
    provenance,
    read_records,
    short_commit,
    write_record,
)
from adaptis.evaluation.report import format_metrics
from adaptis.evaluation.run import Evaluator, evaluate, evaluate_folders
from adaptis.evaluation.segments import sample_truth
from adaptis.types import TOY_TAXONOMY, Category, PanopticResult, Sample, Segment, Taxonomy


def toy_samples(count, seed=0):
    rng = np.random.default_rng(seed)
    for index in range(count):
        instances = np.kron(rng.integers(0, 4, (3, 4)), np.ones((4, 4), int)).astype(np.int32)
        yield Sample(np.zeros((12, 16, 3), np.uint8), instances,
                     {int(i): 1 for i in np.unique(instances) if i},
                     (instances > 0).astype(np.int32), name=f'sample {index}')


def without(truth, segment_id):
    kept = np.where(truth.segment_map == segment_id, 0, truth.segment_map)
    return PanopticResult(kept, [s for s in truth.segments if s.id != segment_id])


def test_perfect_results():
    pairs = [(s, sample_truth(s, TOY_TAXONOMY)[0]) for s in toy_samples(4)]
    scores = evaluate(iter(pairs), TOY_TAXONOMY)
    assert scores['images'] == 4
    assert scores['pq']['All']['pq'] == scores['miou']['miou'] == 1
    assert scores['ap']['ap90'] == pytest.approx(1)
    assert scores['objects'] == {'found': scores['pq']['Things']['tp'], 'missed': 0, 'false': 0}
    assert 'ap_by_class' not in scores


def test_every_measure_sees_what_is_missing():
    sample = next(toy_samples(1))
    truth, _ = sample_truth(sample, TOY_TAXONOMY)
    objects = len(truth.things)
    scores = evaluate([(sample, without(truth, truth.things[0].id))], TOY_TAXONOMY)
    assert scores['pq']['Things']['fn'] == scores['objects']['missed'] == 1
    assert scores['pq']['Things']['sq'] == 1
    assert scores['pq']['Things']['pq'] == pytest.approx((objects - 1) / (objects - .5))
    assert scores['ap']['ap'] < 1 and scores['miou']['miou'] < 1


def test_merged_parts_equal_the_whole():
    whole, parts = Evaluator(TOY_TAXONOMY), [Evaluator(TOY_TAXONOMY) for _ in range(2)]
    for index, sample in enumerate(toy_samples(6)):
        found = without(sample_truth(sample, TOY_TAXONOMY)[0], 1 + index % 3)
        for evaluator in (whole, parts[index % 2]):
            evaluator.add_sample(index, sample, found)
    parts[0].merge(parts[1])
    assert parts[0].result() == whole.result()


def test_folders(tmp_path):
    truth = result(row((1, 10), (2, 10)), {1: 21, 2: 7})
    for name in ('gt', 'pred'):
        write_panoptic(tmp_path / f'{name}.json', tmp_path / name, [(1, 'a.jpg', truth)], TAXONOMY)
    scores = evaluate_folders(*(PanopticFolder(tmp_path / f'{n}.json') for n in ('gt', 'pred')))
    assert scores['pq']['All']['n'] == 2
    assert scores['ap_by_class']['per_class'] == pytest.approx({21: 1.0})


def test_sizes_must_agree():
    sample = next(toy_samples(1))
    with pytest.raises(AdaptisError, match='sample 0: the ground truth is 12x16 but'):
        evaluate([(sample, PanopticResult(np.zeros((3, 3), np.int32), []))], TOY_TAXONOMY)


def test_one_process_is_this_one():
    assert [v for v, _ in parallel_map(square, range(4), 1)] == [0, 1, 4, 9]


def test_processes_keep_the_order_and_have_one_thread():
    before = os.environ.get('OMP_NUM_THREADS')
    assert list(parallel_map(square, range(30), 2)) == [(v * v, '1') for v in range(30)]
    assert os.environ.get('OMP_NUM_THREADS') == before


def test_errors_of_processes_arrive():
    with pytest.raises(AdaptisError, match='no square of 99'):
        list(parallel_map(square, [1, 99, 2], 2))
    with pytest.raises(AdaptisError, match='was killed'):
        list(parallel_map(square, [1, -1, 2], 2))


def test_record_roundtrip(tmp_path):
    metrics = {'pq': {'All': {'pq': float('nan')}, 'per_class': {7: {'tp': np.int64(3)}}},
               'ap': {'ap50': np.float64(.25)}}
    record = make_record(metrics, {'data': tmp_path}, label='tiny', table='1', row='adaptis')
    write_record(tmp_path / 'r.json', record)
    read = read_records(tmp_path)[0]
    assert read['metrics'] == {'pq': {'All': {'pq': None}, 'per_class': {'7': {'tp': 3}}},
                               'ap': {'ap50': .25}}
    assert (read['table'], read['row'], read['label']) == ('1', 'adaptis', 'tiny')
    assert read['file'] == 'r.json' and read['settings'] == {'data': str(tmp_path)}


def test_provenance_names_commit_and_machine():
    facts = provenance()
    assert facts['versions']['numpy'] == np.__version__
    assert facts['hardware']['cpu'] and facts['hardware']['cores'] >= 1
    assert facts['commit'] is None or len(facts['commit'].rstrip('+')) == 40


@pytest.mark.parametrize('commit, shown', [('a' * 40, 'a' * 10), ('a' * 40 + '+', 'a' * 10 + '+'),
                                           (None, 'unknown')])
def test_short_commit_keeps_the_sign_of_changed_files(commit, shown):
    assert short_commit(commit, 10) == shown


def test_what_is_no_record_is_named(tmp_path):
    assert read_records(tmp_path / 'absent') == []
    (tmp_path / 'x.json').write_text('{"format": 1}')
    with pytest.raises(AdaptisError, match='x.json is not a record'):
        read_records(tmp_path)


def test_segment_listed_twice_is_refused():
    sample = next(toy_samples(1))
    found = PanopticResult(np.ones((12, 16), np.int32), [Segment(1, 2, True, 1.0, 192)] * 2)
    with pytest.raises(AdaptisError, match='lists segment 1 twice'):
        evaluate([(sample, found)], TOY_TAXONOMY)


def test_every_class_by_its_name():
    truth = result(row((1, 10), (2, 10), (3, 20)), {1: 21, 2: 22, 3: 7})
    found = result(row((1, 8), (0, 2), (2, 10), (3, 20)), {1: 21, 2: 21, 3: 7})
    evaluator = Evaluator(TAXONOMY)
    evaluator.add(0, truth, found)
    metrics = evaluator.result()
    classes = metrics['per_class']
    assert list(classes) == ['sky', 'grass', 'cat', 'dog']
    assert classes['sky'] == dict(isthing=False, pq=1, sq=1, rq=1, iou=1, ap=pytest.approx(
        float('nan'), nan_ok=True))
    # A cat of two found with IoU .8, the other one is a dog: 8 of 20 pixels are rightly cat.
    assert classes['cat'] == dict(isthing=True, pq=pytest.approx(.8 / 1.5), sq=.8,
                                  rq=pytest.approx(1 / 1.5), iou=.4, ap=pytest.approx(.7))
    assert classes['dog'] == dict(isthing=True, pq=0, sq=0, rq=0, iou=0, ap=0)
    assert all(np.isnan(classes['grass'][k]) for k in ('pq', 'sq', 'rq', 'iou', 'ap'))
    text = format_metrics(metrics, per_class=True)
    assert text.startswith(format_metrics(metrics)) and text.splitlines()[-5:] == [
        'class             PQ      SQ      RQ     IoU      AP',
        'sky    stuff  100.00  100.00  100.00  100.00       -',
        'grass  stuff       -       -       -       -       -',
        'cat    thing   53.33   80.00   66.67   40.00   70.00',
        'dog    thing    0.00    0.00    0.00    0.00    0.00']


def test_classes_of_one_name_are_told_apart():
    twins = Taxonomy([Category(1, 'bin', False), Category(2, 'bin', True), Category(3, 'x', True)])
    assert list(Evaluator(twins).result()['per_class']) == ['bin 1', 'bin 2', 'x']


def test_semantics_are_those_of_the_semantic_branch_if_there_is_one():
    truth = result(row((1, 10), (2, 10)), {1: 21, 2: 7})
    found = result(row((1, 10), (2, 10)), {1: 21, 2: 7})
    found.semantic = np.array([[2] * 5 + [-1] * 5 + [0] * 10], np.int32)
    evaluator = Evaluator(TAXONOMY)
    evaluator.add(0, truth, found)
    scores = evaluator.result()['miou']
    assert scores['per_class'][2] == .5
    assert scores['stuff'] == scores['per_class'][0] == 1 and scores['miou'] == .75
    assert evaluator.result()['pq']['All']['pq'] == 1
    found.semantic = found.semantic[:, :7]
    with pytest.raises(AdaptisError, match='street: the semantic maps have the sizes'):
        Evaluator(TAXONOMY).add(0, truth, found, name='street')


def test_semantics_of_segments_are_those_of_their_pixels():
    rng = np.random.default_rng(0)
    for truth, found, crowd in random_images(5):
        by_overlap, by_pixel = Evaluator(TAXONOMY), MeanIoU(len(TAXONOMY))
        by_overlap.add(0, truth, found, crowd)
        right = semantic_map(truth, TAXONOMY)
        by_pixel.add(right, semantic_map(found, TAXONOMY))
        assert_same(by_overlap.semantic.result(), by_pixel.result())
        right[rng.random(right.shape) < .1] = -1
        given, by_pixel = Evaluator(TAXONOMY), MeanIoU(len(TAXONOMY))
        given.add(0, truth, found, crowd, semantic=right)
        by_pixel.add(right, semantic_map(found, TAXONOMY))
        assert_same(given.semantic.result(), by_pixel.result())


def assert_same(one, other):
    assert one.keys() == other.keys()
    for key in one:
        np.testing.assert_array_equal(one[key], other[key])


def test_the_segments_are_measured_beside_the_semantic_branch():
    truth = result(row((1, 6), (2, 4)), {1: 7, 2: 21})
    found = PanopticResult(truth.segment_map, truth.segments,
                           semantic=np.array([[0] * 3 + [2] * 7], np.int32))
    evaluator = Evaluator(TAXONOMY)
    evaluator.add(0, truth, found)
    scores = evaluator.result()
    assert scores['miou']['stuff'] == .5 and scores['miou']['things'] == pytest.approx(4 / 7)
    assert scores['miou_panoptic']['miou'] == 1
    assert scores['miou']['confusion']['stuff'] == {'stuff': .5, 'things': .5}
    without_branch = Evaluator(TAXONOMY)
    without_branch.add(0, truth, truth)
    assert 'miou_panoptic' not in without_branch.result()


def test_things_alone_have_no_panoptic_quality():
    things = Taxonomy([c for c in TAXONOMY.categories if c.isthing])
    truth = result(row((1, 6), (2, 4)), {1: 21, 2: 22})
    evaluator = Evaluator(things)
    evaluator.add(0, truth, truth)
    scores = evaluator.result()
    assert not {'pq', 'miou', 'miou_panoptic'} & set(scores) and scores['images'] == 1
    assert scores['ap']['ap'] == pytest.approx(1)
    assert scores['per_class']['cat']['ap'] == pytest.approx(1)
    assert math.isnan(scores['per_class']['cat']['pq'])
    text = format_metrics(scores, per_class=True)
    assert 'PQ' not in text.splitlines()[0] and 'AP 100.00' in text
