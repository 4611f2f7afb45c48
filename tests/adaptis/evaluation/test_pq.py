from __future__ import annotations

import json
import math
import sys
import types

import numpy as np
import pytest
from evaluation_cases import TAXONOMY, result, row

from adaptis.errors import AdaptisError
from adaptis.evaluation.coco import PanopticFolder, write_panoptic
from adaptis.evaluation.overlap import compute_overlap
from adaptis.evaluation.pq import (
    PanopticQuality,
    compute_record_overlap,
    evaluate_with_panopticapi,
    iterate_pairs,
)
from adaptis.types import TOY_TAXONOMY, PanopticResult, Segment

TOLERANCE = 1e-9


def quality_of(truth, found, crowd=()):
    quality = PanopticQuality(TAXONOMY)
    quality.add(truth.segment_map, truth.segments, found.segment_map, found.segments, crowd)
    return quality


def quality_of_folders(gt, pred, **options):
    quality = PanopticQuality(gt.taxonomy, **options)
    for truth, found in iterate_pairs(gt, pred):
        quality.add(truth.result.segment_map, truth.result.segments,
                    found.result.segment_map, found.result.segments, truth.crowd)
    return quality.result()


def counts(quality, category):
    entry = quality.result()['per_class'][category]
    return entry['tp'], entry['fp'], entry['fn']


def test_worked_by_hand():
    # cat: truth 10 pixels, found 8 of them and nothing else: IoU 0.8; a dog is missed, sky is
    # called grass.
    truth = result(row((1, 10), (2, 4), (3, 6)), {1: 21, 2: 22, 3: 7})
    found = result(row((5, 8), (0, 6), (6, 6)), {5: 21, 6: 9})
    scores = quality_of(truth, found).result()
    assert scores['per_class'][21] == dict(pq=.8, sq=.8, rq=1.0, tp=1, fp=0, fn=0, iou=.8)
    assert scores['per_class'][22]['fn'] == 1
    assert (scores['per_class'][7]['fn'], scores['per_class'][9]['fp']) == (1, 1)
    assert scores['Things']['pq'] == pytest.approx(.4)
    assert scores['Stuff'] == dict(pq=0, sq=0, rq=0, tp=0, fp=1, fn=1, n=2)
    assert scores['All'] == dict(pq=pytest.approx(.2), sq=pytest.approx(.2), rq=.25,
                                 tp=1, fp=1, fn=2, n=4)


def test_half_is_no_match():
    truth = result(row((1, 10), (0, 10)), {1: 21})
    assert counts(quality_of(truth, result(row((4, 5), (0, 15)), {4: 21})), 21) == (0, 1, 1)
    assert counts(quality_of(truth, result(row((4, 6), (0, 14)), {4: 21})), 21) == (1, 0, 0)


def test_void_pixels_leave_the_union_and_excuse():
    truth = result(row((1, 10), (0, 10)), {1: 21})
    mostly_void = result(row((4, 10), (4, 10)), {4: 21})
    assert quality_of(truth, mostly_void).result()['per_class'][21]['iou'] == 1.0
    split = result(row((4, 10), (5, 10)), {4: 21, 5: 22})
    assert counts(quality_of(truth, split), 22) == (0, 0, 0)
    half_void = result(row((0, 5), (5, 10), (0, 5)), {5: 22})
    assert counts(quality_of(truth, half_void), 22) == (0, 1, 0)


def test_crowd_excuses_its_own_category_alone():
    truth = result(row((1, 10), (2, 10)), {1: 21, 2: 7})
    found = result(row((4, 3), (5, 3), (6, 4), (7, 10)), {4: 21, 5: 21, 6: 22, 7: 7})
    quality = quality_of(truth, found, crowd=[1])
    assert counts(quality, 21) == (0, 0, 0)
    assert counts(quality, 22) == (0, 1, 0)


def test_last_of_two_crowds_counts():
    truth = result(row((1, 5), (2, 5)), {1: 21, 2: 21})
    found = result(row((4, 5), (5, 5)), {4: 21, 5: 21})
    assert counts(quality_of(truth, found, crowd=[1, 2]), 21) == (0, 1, 0)


def test_empty_groups_are_nan_not_an_error():
    scores = PanopticQuality(TOY_TAXONOMY).result()
    assert all(math.isnan(scores[g]['pq']) and scores[g]['n'] == 0
               for g in ('All', 'Things', 'Stuff'))
    background = PanopticResult(np.ones((2, 2), np.int32), [Segment(1, 1, False, 1.0, 4)])
    quality = PanopticQuality(TOY_TAXONOMY)
    quality.add(background.segment_map, background.segments, np.zeros((2, 2), np.int32), [])
    assert math.isnan(quality.result()['Things']['pq'])
    assert quality.result()['Stuff']['pq'] == 0


def test_large_ids_do_not_collide():
    # 255^3 + 1 and 1 are one number where pairs of ids are packed with 255^3.
    big, top = 255 ** 3 + 1, 256 ** 3 - 1
    truth = result(row((1, 4), (big, 4), (top, 4)), {1: 21, big: 22, top: 7})
    assert quality_of(truth, truth).result()['All']['pq'] == 1.0


def test_prediction_without_pixels_is_passed_over():
    truth = result(row((1, 4)), {1: 21})
    found = result(row((1, 4)), {1: 21, 2: 21})
    assert counts(quality_of(truth, found), 21) == (1, 0, 0)


@pytest.mark.parametrize('found, message', [
    (result(row((1, 3)), {1: 21}), '1x4 but the prediction is 1x3'),
    (result(row((1, 2), (8, 2)), {1: 21}), 'holds segment 8'),
    (PanopticResult(np.full((1, 4), -3, np.int32), []), 'holds segment -3'),
    (PanopticResult(np.ones((1, 4), np.int32), [Segment(1, 21, True, 1.0, 4)] * 2), 'twice'),
    (PanopticResult(np.ones((1, 4), np.int32), [Segment(1, 99, True, 1.0, 4)]), 'no category 99'),
    (PanopticResult(np.zeros((1, 4), np.int32), [Segment(1 << 24, 21, True, 1.0, 0)]),
     'ids must be between 1 and 16777215'),
])
def test_bad_input_is_named(found, message):
    with pytest.raises(AdaptisError, match=message):
        quality_of(result(row((1, 4)), {1: 21}), found)


def random_results(rng, count):
    for _ in range(count):
        yield [result(rng.integers(0, 5, (9, 11)), {1: 7, 2: 21, 3: 22, 4: 21}) for _ in 'ab']


def test_merged_parts_equal_the_whole_exactly():
    rng = np.random.default_rng(3)
    whole, parts = PanopticQuality(TAXONOMY), [PanopticQuality(TAXONOMY) for _ in range(3)]
    for index, (truth, _) in enumerate(random_results(rng, 12)):
        found = truth.segment_map.copy()
        found[rng.random(found.shape) < .2] = 0
        for quality in (whole, parts[index % 3]):
            quality.add(truth.segment_map, truth.segments, found, truth.segments)
    for part in parts[1:]:
        parts[0].merge(part)
    assert parts[0].result() == whole.result()
    assert parts[0].images == 12
    with pytest.raises(AdaptisError, match='different categories'):
        whole.merge(PanopticQuality(TOY_TAXONOMY))


def assert_equal(mine, official, official_counts):
    for group in ('All', 'Things', 'Stuff'):
        for key, value in official[group].items():
            assert mine[group][key] == pytest.approx(value, abs=TOLERANCE, rel=0), (group, key)
    for category, entry in official['per_class'].items():
        for key, value in entry.items():
            assert mine['per_class'][int(category)][key] == pytest.approx(
                value, abs=TOLERANCE, rel=0), (category, key)
    for category, entry in mine['per_class'].items():
        expected = official_counts.get(str(category), dict(tp=0, fp=0, fn=0, iou=0))
        for key, value in expected.items():
            assert entry[key] == pytest.approx(value, abs=TOLERANCE, rel=0), (category, key)


@pytest.mark.parametrize('name', ['synthetic', 'real'])
def test_equals_panopticapi(parity, name):
    folder = parity / 'pq' / name
    official = json.loads((folder / 'results.json').read_text())
    gt, pred = PanopticFolder(folder / 'gt.json'), PanopticFolder(folder / 'pred.json')
    assert_equal(quality_of_folders(gt, pred), official['all'], official['counts'])
    for truth, found in iterate_pairs(gt, pred):
        quality = PanopticQuality(gt.taxonomy)
        quality.add(truth.result.segment_map, truth.result.segments,
                    found.result.segment_map, found.result.segments, truth.crowd)
        key = str(truth.image_id)
        assert_equal(quality.result(), official['per_image'][key],
                     official['counts_per_image'][key])


@pytest.mark.parametrize('name', ['synthetic', 'real'])
def test_official_switch_confuses_large_ids_as_the_official_metric_does(parity, name):
    folder = parity / 'pq' / name
    expected = json.loads((folder / 'results.json').read_text())['adaptis_own_metric']
    files = PanopticFolder(folder / 'gt.json'), PanopticFolder(folder / 'pred.json')
    scores = quality_of_folders(*files, official=True)
    assert scores != quality_of_folders(*files)
    for group in ('All', 'Things', 'Stuff'):
        for key, value in expected[group].items():
            assert scores[group][key] == pytest.approx(value, abs=TOLERANCE, rel=0), (group, key)


def write_pair(folder):
    truth = result(row((1, 10), (2, 4), (3, 6)), {1: 21, 2: 22, 3: 7})
    found = result(row((5, 8), (0, 6), (6, 6)), {5: 21, 6: 9})
    write_panoptic(folder / 'gt.json', folder / 'gt', [(1, 'a.jpg', truth)], TAXONOMY)
    write_panoptic(folder / 'pred.json', folder / 'pred', [(1, 'a.jpg', found)], TAXONOMY)
    return [folder / n for n in ('gt.json', 'gt', 'pred.json', 'pred')]


def test_panopticapi_absent_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'panopticapi', None)
    with pytest.raises(AdaptisError, match='panopticapi is not installed'):
        evaluate_with_panopticapi(*write_pair(tmp_path))


def test_panopticapi_switch_reads_its_counts(tmp_path, monkeypatch):
    """A stand-in with the interface of panopticapi: the averages here must not divide by zero."""
    seen = {}

    def pq_compute_single_core(_, annotations, gt_folder, pred_folder, categories):
        seen.update(annotations=annotations, folders=(gt_folder, pred_folder))
        zero = types.SimpleNamespace(tp=0, fp=0, fn=0, iou=0.0)
        one = types.SimpleNamespace(tp=1, fp=1, fn=0, iou=0.75)
        return {c: one if c == 21 else zero for c in categories}

    module = types.ModuleType('panopticapi.evaluation')
    module.pq_compute_single_core = pq_compute_single_core
    monkeypatch.setitem(sys.modules, 'panopticapi', types.ModuleType('panopticapi'))
    monkeypatch.setitem(sys.modules, 'panopticapi.evaluation', module)
    files = write_pair(tmp_path)
    scores = evaluate_with_panopticapi(*files)
    assert scores['Things'] == dict(pq=.5, sq=.75, rq=1 / 1.5, tp=1, fp=1, fn=0, n=1)
    assert math.isnan(scores['Stuff']['pq'])
    assert [a['image_id'] for a in seen['annotations'][0]] == [1, 1]
    assert seen['folders'] == (str(files[1]), str(files[3]))


def test_equals_installed_panopticapi(parity):
    pytest.importorskip('panopticapi', reason='panopticapi is not installed')
    folder = parity / 'pq' / 'synthetic'
    official = evaluate_with_panopticapi(folder / 'gt.json', folder / 'gt',
                                         folder / 'pred.json', folder / 'pred')
    mine = quality_of_folders(*(PanopticFolder(folder / f'{n}.json') for n in ('gt', 'pred')))
    for group in ('All', 'Things', 'Stuff'):
        assert official[group] == pytest.approx(mine[group], abs=TOLERANCE)


def test_images_and_categories_must_agree(tmp_path):
    write_pair(tmp_path)
    other = result(row((1, 20)), {1: 21})
    write_panoptic(tmp_path / 'b.json', tmp_path / 'b', [(2, 'b.jpg', other)], TAXONOMY)
    gt = PanopticFolder(tmp_path / 'gt.json')
    with pytest.raises(AdaptisError, match='no prediction for 1 of 1 images; the first one is 1'):
        quality_of_folders(gt, PanopticFolder(tmp_path / 'b.json'))
    write_panoptic(tmp_path / 'c.json', tmp_path / 'c', [], TOY_TAXONOMY)
    (tmp_path / 'c').mkdir()
    with pytest.raises(AdaptisError, match='same categories'):
        quality_of_folders(gt, PanopticFolder(tmp_path / 'c.json'))


@pytest.mark.filterwarnings('ignore:.*has no pixel')
@pytest.mark.parametrize('size', [(9, 13), (1, 1), (1, 40)])
def test_runs_of_records_give_the_overlap_of_their_maps(tmp_path, size):
    rng = np.random.default_rng(3)
    for name in ('gt', 'pred'):
        maps = [rng.integers(0, 4, size).repeat(3, axis=1)[:, :size[1]] for _ in range(4)]
        write_panoptic(tmp_path / f'{name}.json', tmp_path / name,
                       [(k, f'{k}.png', result(ids, {1: 21, 2: 22, 3: 7}))
                        for k, ids in enumerate(maps)], TAXONOMY)
        data = json.loads((tmp_path / f'{name}.json').read_text())
        for annotation in data['annotations']:   # a segment without pixels, before the others
            annotation['segments_info'].insert(0, {'id': 9, 'category_id': 21, 'iscrowd': 0})
        (tmp_path / f'{name}.json').write_text(json.dumps(data))
    gt, pred = (PanopticFolder(tmp_path / f'{name}.json') for name in ('gt', 'pred'))
    for truth, found in iterate_pairs(gt, pred):
        by_runs = compute_record_overlap(truth, found)
        by_maps = compute_overlap(truth.result, found.result)
        np.testing.assert_array_equal(by_runs.shared, by_maps.shared)
        assert by_runs.shared.sum() == truth.result.segment_map.size
