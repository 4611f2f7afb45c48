"""COCO's metrics, accumulated image by image, against COCOeval on all images at once."""
from __future__ import annotations

import contextlib
import io
import json
import math
from dataclasses import replace

import numpy as np
import pytest
from evaluation_cases import TAXONOMY, result, row
from pycocotools import mask as rle
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from test_shards import numbers

from adaptis.data.datasets import open_dataset
from adaptis.data.instances import pack_layers
from adaptis.errors import AdaptisError
from adaptis.evaluation.coco import InstancesWriter
from adaptis.evaluation.coco_ap import CocoAP
from adaptis.evaluation.run import Evaluator
from adaptis.evaluation.shards import Shard
from adaptis.types import AnnotatedObjects, Objects, PanopticResult, Sample, Taxonomy
from tests.miniatures import write_coco, write_instances

SIZE = (130, 170)
THINGS = [c.id for c in TAXONOMY.categories if c.isthing]
NAMES = ('ap', 'ap50', 'ap75', 'ap_small', 'ap_medium', 'ap_large', 'ar1', 'ar10', 'ar100',
         'ar_small', 'ar_medium', 'ar_large')


def boxes_in(rng, count):
    """Boxes of all sizes, (count, 4) as x0, y0, x1, y1 with two decimals."""
    sides = rng.choice([8, 20, 40, 60, 110, 125], (count, 2)) + rng.random((count, 2))
    first = rng.random((count, 2)) * np.maximum([SIZE[1], SIZE[0]] - sides, 1)
    return np.round(np.concatenate([first, first + sides], axis=1), 2)


def mask_of(box, hole=0.0, rng=None):
    mask = np.zeros(SIZE, bool)
    x0, y0, x1, y1 = np.round(box).astype(int)
    mask[max(y0, 0):y1, max(x0, 0):x1] = True
    return mask & (rng.random(SIZE) >= hole) if hole else mask


def picture(rng, kind):
    """Annotated objects and what a poor detector finds; ``kind`` 1 has no object, 2 no detection,
    3 more detections of a class than count."""
    count = 0 if kind == 1 else int(rng.integers(3, 9))
    boxes = boxes_in(rng, count)
    masks = [mask_of(box) for box in boxes]
    if count:
        masks[0][:] = False   # an object without a pixel
    areas = np.round(np.array([m.sum() for m in masks], float) * rng.choice([.5, 1, 1.6], count), 2)
    truth = AnnotatedObjects(pack_layers(masks, SIZE), rng.integers(2, 4, count),
                             rng.random(count) < .2, boxes, areas)
    seen = np.repeat(np.arange(count), rng.integers(1, 4, count))
    moved = boxes[seen] + np.round(rng.normal(0, 3, (len(seen), 4)), 2)
    others = boxes_in(rng, 150 if kind == 3 else 5)
    found = np.concatenate([moved, boxes[:1], others])[:0 if kind == 2 else None]
    found[:, 2:] = np.maximum(found[:, 2:], found[:, :2])   # some have neither area nor pixels
    classes = np.r_[truth.classes[seen], truth.classes[:1], rng.integers(2, 4, len(others))]
    classes = classes[:len(found)]
    if kind == 3:
        classes[:] = 2
    scores = rng.choice([.3, .5, .7, rng.random()], len(found))
    masks = np.array([mask_of(b, .05, rng) for b in found], bool).reshape(-1, *SIZE)
    ids = np.array([TAXONOMY.categories[c].id for c in classes], int)
    return truth, Objects(masks, scores, ids, found)


@pytest.fixture(scope='module')
def pictures():
    return [picture(np.random.default_rng((7, k)), k % 5) for k in range(10)]


def whole_coco(pictures, kind):
    """The twelve numbers and AP of each class, by pycocotools alone."""
    truths, founds = [], []
    for image_id, (truth, found) in enumerate(pictures):
        for k in range(len(truth)):
            mask = (truth.layers == k + 1).any(axis=0)
            x0, y0, x1, y1 = truth.boxes[k]
            truths.append({'id': len(truths) + 1, 'image_id': image_id, 'area': truth.areas[k],
                           'category_id': TAXONOMY.categories[truth.classes[k]].id,
                           'iscrowd': int(truth.crowd[k]), 'bbox': [x0, y0, x1 - x0, y1 - y0],
                           'segmentation': rle.encode(np.asfortranarray(mask.astype(np.uint8)))})
        for mask, score, category, (x0, y0, x1, y1) in zip(found.masks, found.scores,
                                                            found.category_ids, found.boxes):
            entry = {'image_id': image_id, 'category_id': int(category), 'score': score}
            if kind == 'bbox':
                founds.append({**entry, 'bbox': [x0, y0, x1 - x0, y1 - y0]})
            elif mask.any():
                founds.append({**entry, 'segmentation': rle.encode(
                    np.asfortranarray(mask.astype(np.uint8)))})
    coco = COCO()
    coco.dataset = {'images': [{'id': k, 'height': SIZE[0], 'width': SIZE[1]}
                               for k in range(len(pictures))],
                    'categories': [{'id': c} for c in THINGS], 'annotations': truths}
    return judged(coco, founds, kind)


def judged(coco, founds, kind):
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
        judge = COCOeval(coco, coco.loadRes(founds), kind)
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    precision = judge.eval['precision'][:, :, :, 0, -1]
    return judge.stats, [precision[:, :, k] for k in range(precision.shape[2])]


def evaluator_of(pictures, indices, **options):
    evaluator = Evaluator(TAXONOMY, coco=True, **options)
    empty = PanopticResult(np.zeros(SIZE, np.int32), [])
    for index in indices:
        truth, found = pictures[index]
        evaluator.add(int(index), empty, replace(empty, objects=found), objects=truth)
    return evaluator


@pytest.mark.parametrize('key, kind', [('ap_coco', 'segm'), ('ap_box', 'bbox')])
def test_the_numbers_are_those_of_coco_eval_to_the_last_bit(pictures, key, kind):
    order = np.random.default_rng(3).permutation(len(pictures))
    scores = evaluator_of(pictures, order).result()[key]
    stats, precision = whole_coco(pictures, kind)
    assert {name: scores[name] for name in NAMES} == dict(zip(NAMES, stats.tolist()))
    assert 0 < scores['ap_small'] != scores['ap_large'] and scores['ar1'] < scores['ar10'] < 1
    assert scores['ar10'] < scores['ar100'] < 1
    assert list(scores['per_class']) == THINGS
    assert list(scores['per_class'].values()) == [p.mean() for p in precision]


def test_by_class_it_is_ap_of_all_detections_where_there_are_few(pictures):
    scores = evaluator_of([p for k, p in enumerate(pictures) if k % 5 != 3], range(8)).result()
    few = {k: scores['ap_by_class'][k] for k in ('ap50', 'ap75')}
    # An object without a pixel is one to find for COCO, and none in ``ap_by_class``.
    assert all(value > scores['ap_coco'][k] for k, value in few.items())


def test_shards_give_the_whole_exactly(pictures, tmp_path):
    whole = numbers(evaluator_of(pictures, range(10)).result())
    for k in range(3):
        evaluator_of(pictures, range(k, 10, 3)).save(tmp_path / f'{k}.npz', Shard(k + 1, 3))
    merged = Evaluator.merge_files([tmp_path / f'{k}.npz' for k in (2, 0, 1)])
    assert numbers(merged.result()) == whole
    assert whole['ap_coco.ap.'] > 0 and whole['ap_box.ar_small.'] > 0


def test_nothing_to_find_or_found():
    nothing = PanopticResult(np.zeros((1, 10), np.int32), [])
    something = result(row((1, 10)), {1: 21})
    objects = Objects(np.ones((1, 1, 10), bool), np.ones(1), np.array([21]))
    for truth, found, ap in ((nothing, objects, math.nan), (something, objects, 1)):
        evaluator = Evaluator(TAXONOMY, coco=True)
        evaluator.add(0, truth, replace(nothing, objects=found))
        for key in ('ap_coco', 'ap_box'):   # the boxes are those around the pixels
            assert evaluator.result()[key]['ap'] == pytest.approx(ap, nan_ok=True)
            assert evaluator.result()[key]['ap_small'] == pytest.approx(ap, nan_ok=True)
            assert math.isnan(evaluator.result()[key]['ap_large'])
    assert math.isnan(CocoAP().result()['ar1'])


def test_a_network_without_objects_of_its_own_has_no_such_numbers():
    something = result(row((1, 10)), {1: 21})
    evaluator = Evaluator(TAXONOMY, coco=True)
    evaluator.add(0, something, something)
    assert not {'ap_coco', 'ap_box'} & set(evaluator.result())
    annotated = AnnotatedObjects(pack_layers([something.segment_map == 1], (1, 10)),
                                 np.array([2]), np.array([False]))
    evaluator.add(1, something, something, objects=annotated)
    scores = evaluator.result()
    assert scores['ap_coco']['ap50'] == scores['ap_box']['ap50'] == pytest.approx(1)
    with pytest.raises(AdaptisError, match='the ground truth is 1x10 but .* are 1x5'):
        evaluator.add(2, something, replace(something, objects=Objects(
            np.ones((1, 1, 5), bool), np.ones(1), np.array([21]))), objects=annotated)


@pytest.mark.parametrize('annotation', ['instances', 'both'])
def test_the_files_of_coco_and_of_the_results_say_the_same(tmp_path, annotation):
    write_coco(tmp_path, splits=['val'])
    write_instances(tmp_path, splits=['val'])
    dataset = open_dataset('coco', tmp_path, 'val', annotation=annotation)
    evaluator = Evaluator(dataset.taxonomy, coco=True)
    with InstancesWriter(tmp_path / 'found.json') as writer:
        for index in range(len(dataset)):
            found = shifted(dataset[index], dataset.taxonomy)
            evaluator.add_sample(index, dataset[index], found)
            writer.add(dataset.image_id(index), found)
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(tmp_path / 'annotations' / 'instances_val2017.json'))
    stats, _ = judged(coco, json.loads((tmp_path / 'found.json').read_text()), 'segm')
    scores = evaluator.result()
    expected = {k: v for k, v in zip(NAMES, stats.tolist()) if v >= 0}
    assert {k: scores['ap_coco'][k] for k in expected} == expected
    assert 0.1 < scores['ap_coco']['ap'] < 1 and {'ap_small', 'ap_medium'} <= set(expected)
    assert ('pq' in scores) == ('miou' in scores) == (annotation == 'both')


def shifted(sample: Sample, taxonomy: Taxonomy) -> PanopticResult:
    """Every annotated object, a little to the right, and sure in falling order."""
    objects = sample.objects
    masks = [np.roll((objects.layers == k + 1).any(axis=0), 2, axis=1) for k in range(len(objects))]
    ids = [taxonomy.categories[c].id for c in objects.classes]
    empty = PanopticResult(np.zeros(sample.image.shape[:2], np.int32), [])
    return replace(empty, objects=Objects(
        np.array(masks, bool).reshape(-1, *sample.image.shape[:2]),
        np.linspace(1, .1, len(masks)), np.array(ids, int)))
