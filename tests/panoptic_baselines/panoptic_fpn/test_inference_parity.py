"""From the official network's outputs, and from the image, to official results."""
from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from panoptic_baselines.classes import semantic_to_class_index, thing_to_class_index
from panoptic_baselines.layers.boxes import clip, nonempty, scale
from panoptic_baselines.layers.upsample import upsampled_labels, upsampled_logits
from panoptic_baselines.merge import Instances, merge
from panoptic_baselines.panoptic_fpn.settings import PanopticFPNSettings
from panoptic_baselines.predictor import Predictor, pad_batch
from panoptic_baselines.rcnn.anchors import pyramid_anchors
from panoptic_baselines.rcnn.paste import paste_masks
from panoptic_baselines.rcnn.proposals import detect, propose
from panoptic_baselines.rcnn.roi_align import roi_levels
from tests.golden.reading import Cases
from tests.panoptic_baselines.golden import LEVELS, load_case, unpack

ANCHORS = 32, 64, 128, 256, 512
AS_IT_IS = PanopticFPNSettings(short_side=None, max_side=None)


@pytest.fixture(scope='module')
def cases(kit):
    return Cases(lambda name: load_case(kit, f'case_{name}'))


def expected_segments(segments, taxonomy):
    """Category ids and scores of official segments, in order."""
    def category(segment):
        index = (thing_to_class_index(segment['category_id'], taxonomy) if segment['isthing']
                 else semantic_to_class_index(segment['category_id'], True))
        return taxonomy.categories[index].id
    return [(category(s), s['isthing'], s.get('score', 1.0)) for s in segments]


def same_segments(result, segments, taxonomy):
    found = [(s.category_id, s.isthing, s.score) for s in result.segments]
    expected = expected_segments(segments, taxonomy)
    return ([f[:2] for f in found] == [e[:2] for e in expected]
            and np.allclose([f[2] for f in found], [e[2] for e in expected], atol=2e-4))


def merge_options(variant):
    return dict(instance_score=variant['score_threshold'],
                overlap_threshold=variant['overlap_threshold'],
                stuff_area_limit=variant['stuff_area_limit'])


@pytest.mark.parametrize('name', ['a', 'b'])
def test_proposals_from_official_outputs(cases, name):
    a, size = cases[name].arrays, cases[name].size('image_size')
    logits, deltas = ([a.whole(f'rpn_{what}_p{level}')[0] for level in LEVELS]
                      for what in ('logits', 'deltas'))
    anchors = pyramid_anchors([x.shape[1:] for x in logits], ANCHORS)
    if name == 'a':
        for level, found in zip(LEVELS, anchors):
            np.testing.assert_allclose(found, a[f'anchors_p{level}'], atol=1e-4)
    for level, found in zip(LEVELS, anchors):
        stats = cases[name].info['anchor_stats'][f'p{level}']
        np.testing.assert_allclose(found.astype(float).sum(axis=0), stats['sum'], rtol=1e-6)
    found = propose(logits, deltas, anchors, size)
    np.testing.assert_allclose(found.boxes, a['proposals'], atol=1e-3)
    np.testing.assert_array_equal(found.logits, a['proposal_logits'])
    np.testing.assert_array_equal(found.levels, a['proposal_level'])
    np.testing.assert_array_equal(roi_levels(a['proposals']), a['roi_level'])


def test_detections_from_official_outputs(cases):
    a, size = cases['a'].arrays, cases['a'].size('image_size')
    found = detect(a.whole('cls_logits'), a.whole('box_deltas'), a['proposals'], size)
    np.testing.assert_allclose(found.boxes, a['det_boxes'], atol=1e-3)
    np.testing.assert_allclose(found.scores, a['det_scores'], atol=1e-5)
    np.testing.assert_array_equal(found.classes, a['det_classes'])
    np.testing.assert_array_equal(found.rows, a['det_proposal'])


@pytest.mark.parametrize('name, prefix, outputs', [
    ('a', '', 'out_'), ('b', '', 'out_'), ('b', 'os_', 'os_'), ('c', '', 'out_')])
def test_results_from_official_logits(cases, coco, name, prefix, outputs):
    case, a = cases[name], cases[name].arrays
    source, target = case.size('image_size'), case.size(prefix + 'output_size')
    boxes = clip(scale(a['det_boxes'], source, target), target)
    assert nonempty(boxes).all()
    np.testing.assert_allclose(boxes, a[outputs + 'boxes'], atol=1e-3)
    masks = paste_masks(expit(a.whole('mask_logits')), boxes, target)
    official = unpack(a[outputs + 'masks_bits'], target)
    assert np.count_nonzero(masks != official) <= 1e-4 * masks.size
    if name != 'c':   # whose logits are there in part only
        labels = upsampled_labels(a.whole('sem_logits')[0], 4, source, target)
        assert np.count_nonzero(labels != a[prefix + 'sem_argmax']) <= 5e-4 * labels.size
        logits = upsampled_logits(a.whole('sem_logits')[0], 4, source, target)[:, ::8, ::8]
        np.testing.assert_allclose(logits, a[prefix + 'sem_seg'], atol=5e-5)
    instances = Instances(boxes, a[outputs + 'scores'], a[outputs + 'classes'], official)
    semantic = semantic_to_class_index(a[prefix + 'sem_argmax'].astype(np.int32), True)
    for key, variant in case.info[prefix + 'panoptic'].items():
        result = merge(instances, semantic, coco, **merge_options(variant))
        np.testing.assert_array_equal(result.segment_map, a[f'{prefix}panoptic_{key}'])
        assert same_segments(result, variant['segments_info'], coco)


def same_instances(found, boxes, scores, classes, masks=None):
    """Detections in any order; pixels of masks that differ, as a share."""
    assert len(found) == len(boxes)
    different = 0
    for box, score, class_, *mask in zip(found.boxes, found.scores, found.classes, found.masks):
        near = (np.abs(boxes - box).max(axis=1) < 0.02) & (classes == class_)
        row = np.flatnonzero(near)[np.abs(scores[near] - score).argmin()]
        assert abs(scores[row] - score) < 2e-4
        if masks is not None:
            different += np.count_nonzero(masks[row] != mask[0])
    assert different <= 1e-4 * found.masks.size


def same_panoptic(result, variant, expected, taxonomy):
    different = np.count_nonzero(result.segment_map != expected)
    assert different <= 1e-3 * result.segment_map.size
    assert same_segments(result, variant['segments_info'], taxonomy)


@pytest.mark.parametrize('name', ['a', 'b', 'c'])
def test_results_from_the_image(official_net, cases, coco, name):
    case, a = cases[name], cases[name].arrays
    official_net.hybridize(name != 'b')
    settings = AS_IT_IS if name != 'c' else PanopticFPNSettings(short_side=384, max_side=560)
    predictor = Predictor(official_net, coco, settings)
    predictor.set_image(case.image('image_original' if name == 'c' else 'image'))
    instances, semantic = predictor.instances(), predictor.semantic()
    same_instances(instances, a['out_boxes'], a['out_scores'], a['out_classes'],
                   unpack(a['out_masks_bits'], case.size('output_size')))
    assert np.count_nonzero(semantic + 1 != a['sem_argmax']) <= 5e-4 * semantic.size
    for key, variant in case.info['panoptic'].items():
        result = merge(instances, semantic, coco, **merge_options(variant))
        same_panoptic(result, variant, a[f'panoptic_{key}'], coco)
    if name == 'a':   # the masks of unsure instances are not computed: the result is the same
        same_panoptic(predictor.panoptic(), case.info['panoptic']['std'], a['panoptic_std'], coco)


def test_images_of_a_batch(official_net, cases, coco):
    case, a = cases['batch'], cases['batch'].arrays
    images = [case.image('image_0'), case.image('image_1')]
    sizes = [image.shape[:2] for image in images]
    official_net.hybridize()
    batch = pad_batch(images, official_net.mean)
    for k, found in enumerate(official_net.propose(official_net(batch), sizes)):
        distance = np.abs(found.boxes[:, None] - a[f'proposals_{k}'][None]).max(axis=2)
        assert (distance.min(axis=0) < 0.05).mean() >= 0.97
    for k, found in enumerate(official_net.segment(batch, sizes, sizes, AS_IT_IS)):
        same_instances(found.instances, a[f'boxes_{k}'], a[f'scores_{k}'], a[f'classes_{k}'])
        different = np.count_nonzero(found.labels != a[f'sem_argmax_{k}'])
        assert different <= 5e-4 * found.labels.size
        variant = case.info['panoptic'][k]
        result = merge(found.instances, semantic_to_class_index(found.labels, True), coco,
                       **merge_options(variant))
        same_panoptic(result, variant, a[f'panoptic_{k}'], coco)
