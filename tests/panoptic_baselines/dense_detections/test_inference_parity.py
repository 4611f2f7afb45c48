"""From the official network's outputs, and from the image, to official results."""
from __future__ import annotations

import numpy as np
import pytest

from adaptis.runtime import mx
from panoptic_baselines.dense_detections.network import (
    STRIDES,
    DenseOutputs,
    Maps,
    full_map,
    full_masks,
    select_detections,
)
from panoptic_baselines.dense_detections.settings import DENSE_DETECTIONS_PRESETS
from panoptic_baselines.fcos.decode import (
    Candidates,
    distances_to_boxes,
    find_candidates,
    locations,
)
from panoptic_baselines.layers.boxes import clip
from panoptic_baselines.layers.upsample import upsampled_labels
from panoptic_baselines.merge import Instances, merge
from panoptic_baselines.predictor import Predictor
from tests.panoptic_baselines.dense_detections.golden import CITYSCAPES, LEVELS, close

SETTINGS = DENSE_DETECTIONS_PRESETS['cityscapes_official'].replace(short_side=None, max_side=None)


def official_maps(case):
    return Maps(case.levels('box_cls_logits'), case.levels('box_offsets'),
                case.levels('centerness_logits'), case.nd('sem_logits'),
                case.nd('levelness_logits'))


def candidates(boxes, scores, classes):
    """As of one level, wherever their cells are."""
    cells = np.arange(len(scores))
    return Candidates(boxes, scores, classes, np.zeros((len(scores), 2)), 0 * cells, cells)


def level_candidates(case, level, stride, per_level=1000):
    return find_candidates(*([case.whole(f'{key}_{level}')] for key in (
        'box_cls_logits', 'box_offsets', 'centerness_logits')), [stride],
                           threshold=0.06, per_level=per_level, thresh_with_ctr=False,
                           sqrt_scores=False)


def sorted_alike(found, size, boxes, scores, labels):
    assert len(found.scores) == len(scores)
    if not len(scores):
        return
    order = np.argsort(-found.scores, kind='stable')
    close(found.scores[order], scores, 1e-6)
    close(clip(found.boxes, (size[0] - 1, size[1] - 1))[order], boxes, 1e-3)
    np.testing.assert_array_equal(found.classes[order] + 1, labels)


@pytest.mark.parametrize('name', 'abc')
def test_candidates_of_every_level(cases, name):
    case = cases[name]
    for level, stride in zip(LEVELS, STRIDES):
        everything = level_candidates(case, level, stride, 10 ** 6)
        assert abs(len(everything.scores) - case[f'cand_count_{level}']) <= 1
        found = level_candidates(case, level, stride)
        sorted_alike(found, case.size(), *(
            case[f'cand_{key}_{level}'] for key in ('boxes', 'scores', 'labels')))


@pytest.mark.parametrize('per_level', [1000, 12])
def test_candidates_near_the_threshold(ops, per_level):
    d = ops('candidates')
    found = find_candidates([d['box_cls_logits']], [d['offsets']], [d['centerness_logits']],
                            [int(d['stride'])], threshold=float(d['thresh']),
                            per_level=per_level, thresh_with_ctr=False, sqrt_scores=False)
    sorted_alike(found, d['image_hw'], *(
        d[f'{key}_top{per_level}'] for key in ('boxes', 'scores', 'labels')))


def test_locations_and_boxes(dense_net, ops):
    d = ops('locations')
    for i, (h, w, stride) in enumerate(d['hw_stride']):
        np.testing.assert_array_equal(locations((h, w), stride), d[f'loc_{i}'])
    d = ops('decode')
    dense_net.encoder.head.hybridize(False)
    raw = d.nd('raw') * float(d['scale'])   # the network's own first factor is 1
    found, *_ = dense_net.encoder.head.distances(mx.nd, [raw])
    np.testing.assert_allclose(found.asnumpy()[0], d['offsets'], rtol=1e-5)
    boxes = distances_to_boxes(d['locations'], d['offsets'].reshape(4, -1).T)
    np.testing.assert_allclose(boxes, d['boxes'], rtol=1e-6)
    close(clip(boxes, d['image_wh'][::-1] - 1), d['boxes_clipped'], 1e-4)


def test_both_suppressions(ops):
    d = ops('nms')
    found = candidates(d['boxes'], d['scores'], d['labels'])
    for limit in (1000, 100, 25):
        kept = select_detections(found, SETTINGS.replace(detections_per_image=limit))
        for key, part in (('boxes', kept.boxes), ('scores', kept.scores),
                          ('labels', kept.classes)):
            np.testing.assert_array_equal(part, d[f'det_{key}_top{limit}'])
    in_classes = select_detections(found, SETTINGS.replace(agnostic_nms_threshold=1.0,
                                                           detections_per_image=1000))
    np.testing.assert_array_equal(np.sort(in_classes.cells), np.sort(d['class_nms_keep']))


@pytest.mark.parametrize('name', 'abc')
def test_detections_from_official_outputs(dense_net, cases, name):
    case = cases[name]
    found, = dense_net.detect(official_maps(case), [case.size()], SETTINGS)
    close(found.boxes, case['det_boxes'], 1e-3)
    close(found.scores, case['det_scores'], 1e-6)
    np.testing.assert_array_equal(found.classes + 1, case['det_labels'])


@pytest.mark.parametrize('name', 'abc')
def test_masks_from_official_outputs(either_net, cases, name):
    case, size = cases[name], cases[name].size()
    things = case.nd('thing_prob')
    boxes = mx.nd.array(case.whole('dense_boxes').T).reshape((1, 4, *things.shape[2:]))
    dense = DenseOutputs(official_maps(case), boxes, things)
    found = candidates(case['det_boxes'], case['det_scores'], case['det_labels'] - 1)
    probabilities = either_net.mask_probabilities(dense, 0, found)
    shown = case['query_idx']
    close(probabilities[shown], case['mask_prob'], 5e-6)
    everywhere = dense._replace(things=mx.nd.ones_like(things))
    location = either_net.mask_probabilities(everywhere, 0, found.take(shown))
    close(location, case['loc_map'], 5e-6)
    maps = np.stack([full_map(p, size, size) for p in probabilities])
    close(maps[shown, ::3, ::3], case['mask_prob_full_s3'], 5e-6)
    close(maps.max(axis=(1, 2)), case['mask_max'], 5e-6)
    masks = full_masks(probabilities, size, size, 0.4)
    assert (np.abs(masks.sum(axis=(1, 2)) - case['mask_area']) <= 3).all()
    assert ((masks != case.masks()).sum(axis=(1, 2)) <= 3).all()


def test_masks_of_a_few_pixels(dense_net, ops):
    d = ops('mask')
    size = tuple(d['image_hw'])
    things = d.nd('thing_prob')
    boxes = mx.nd.array(d['dense_boxes'].T).reshape((1, 4, *things.shape[2:]))
    found = candidates(d['det_boxes'], np.ones(4, np.float32), d['det_labels'] - 1)
    probabilities = dense_net.mask_probabilities(DenseOutputs(None, boxes, things), 0, found)
    close(probabilities, d['mask_prob'], 1e-6)
    close(np.stack([full_map(p, size, size) for p in probabilities]), d['mask_prob_full'], 1e-6)
    masks = full_masks(probabilities, size, size, float(d['sigma']))
    np.testing.assert_array_equal(masks, d['masks'])
    assert not masks[3].any()


def instances_of(case):
    return Instances(case['det_boxes'], case['det_scores'], case['det_labels'] - 1, case.masks())


def merged(instances, semantic, params):
    score, overlap, area = params
    return merge(instances, semantic, CITYSCAPES, instance_score=score, overlap_threshold=overlap,
                 stuff_area_limit=int(area))


def same_panoptic(result, segment_map, segments, allowed=0):
    assert np.count_nonzero(result.segment_map != segment_map) <= allowed
    assert [(s.id, s.category_id, s.isthing) for s in result.segments] == [
        (int(s[0]), int(s[1]), bool(s[2])) for s in segments]
    for found, expected in zip(result.segments, segments):
        assert abs(found.area - expected[3]) <= allowed
        assert abs(found.score - (expected[4] if found.isthing else 1)) < 1e-4


@pytest.mark.parametrize('name', 'abc')
def test_labels_and_panoptic_from_official_outputs(cases, name):
    case, size = cases[name], cases[name].size()
    labels = upsampled_labels(case.whole('sem_logits'), 8, size, size)
    assert np.count_nonzero(labels != case['sem_x8_argmax']) <= 5
    result = merged(instances_of(case), case['sem_x8_argmax'].astype(np.int32),
                    case['pan_params'])
    same_panoptic(result, case['panoptic'], case['segments'])


@pytest.mark.parametrize('i', range(3))
def test_fusion(ops, i):
    d = ops('panoptic_merge')
    instances = Instances(np.zeros((len(d['masks']), 4)), d['scores'], d['labels'] - 1, d['masks'])
    result = merged(instances, d['sem_argmax'].astype(np.int32), d[f'params_{i}'])
    same_panoptic(result, d[f'panoptic_{i}'], d[f'segments_{i}'])


@pytest.mark.parametrize('name', 'abc')
def test_results_from_the_image(dense_net, cases, name):
    case = cases[name]
    dense_net.hybridize(name != 'c')
    score, overlap, area = case['pan_params']
    predictor = Predictor(dense_net, CITYSCAPES, SETTINGS.replace(
        instance_score=float(score), overlap_threshold=float(overlap),
        stuff_area_limit=int(area))).set_image(case['image'])
    found = predictor.instances()
    close(found.boxes, case['det_boxes'], 5e-3)
    close(found.scores, case['det_scores'], 1e-4)
    np.testing.assert_array_equal(found.classes + 1, case['det_labels'])
    assert ((found.masks != case.masks()).sum(axis=(1, 2)) <= 3).all()
    assert np.count_nonzero(predictor.semantic() != case['sem_x8_argmax']) <= 5
    same_panoptic(predictor.panoptic(), case['panoptic'], case['segments'], allowed=10)
