"""Annotated images -> batches of a detector."""
from __future__ import annotations

import pickle
import subprocess
import sys

import numpy as np
import pytest

from adaptis.data.instances import pack_layers
from adaptis.data.resize import SampledMap, resize_lazily
from adaptis.types import AnnotatedObjects, Category, Sample, Taxonomy
from panoptic_baselines.batches import measure_objects
from panoptic_baselines.condinst.targets import CondInstTargets
from panoptic_baselines.layers.boxes import decode, pairwise_iou
from panoptic_baselines.rcnn.anchors import pyramid_anchors
from panoptic_baselines.rcnn.mask_targets import bitmap_targets
from panoptic_baselines.rcnn.targets import DetectionTargets

TAXONOMY = Taxonomy([Category(1, 'sky', False), Category(2, 'road', False),
                     Category(3, 'car', True), Category(4, 'man', True)])


def sample(height=40, width=50, **changes):
    instances = np.zeros((height, width), np.int32)
    instances[5:25, 10:30] = 1000
    instances[20:30, 25:45] = 7      # covers a part of the other
    instances[0:3, 0:3] = 9
    semantic = np.zeros((height, width), np.int32)
    semantic[instances == 1000], semantic[instances == 7], semantic[30:] = 3, 2, -1
    fields = dict(image=np.full((height, width, 3), 7, np.uint8), instances=instances,
                  classes={1000: 3, 7: 2, 9: 2}, semantic=semantic, ignored=frozenset([9]))
    return Sample(**{**fields, **changes})


def make(*samples, **options):
    rngs = [np.random.default_rng(i) for i in range(len(samples))]
    return DetectionTargets(TAXONOMY, **options)(samples, rngs)


def test_a_batch_by_hand():
    batch = make(sample(), sample(20, 80, instances=np.zeros((20, 80), np.int32),
                                  semantic=np.ones((20, 80), np.int32)))
    assert batch['image'].shape == (2, 3, 64, 96) and batch['image'].dtype == np.uint8
    assert batch['sizes'].tolist() == [[40, 50], [20, 80]]
    np.testing.assert_array_equal(batch['boxes'], [[[25, 20, 45, 30], [10, 5, 30, 25]],
                                                   np.zeros((2, 4))])
    assert batch['classes'].tolist() == [[0, 1], [-1, -1]]
    assert batch['instances'][0, 28, 40] == 1 and batch['instances'][0, 6, 11] == 2
    assert batch['instances'][0, 1, 1] == 0     # ignored
    assert batch['semantic'][0, 6, 11] == 0     # some thing
    assert batch['semantic'][0, 4, 4] == 1 and batch['semantic'][1, 4, 4] == 2
    for inside in ((35, 4), (50, 4), (4, 60)):
        assert batch['semantic'][0][inside] == -1
    assert not batch['image'][0, :, 40:].any() and (batch['image'][0, :, :40, :50] == 7).all()


def test_anchors_lead_to_the_objects():
    batch = make(sample(), anchor_sizes=(8, 16, 32, 64, 128), anchors=64)
    shapes = [(16, 16), (8, 8), (4, 4), (2, 2), (1, 1)]
    anchors = np.concatenate(pyramid_anchors(shapes, (8, 16, 32, 64, 128)))
    positive = batch['anchor_labels'][0] == 1
    assert 0 < positive.sum() <= 32 and (batch['anchor_labels'][0] >= 0).all()
    reached = decode(batch['anchor_deltas'][0], anchors[batch['anchor_index'][0]])[positive]
    assert pairwise_iou(reached, batch['boxes'][0]).max(axis=1).min() > 0.999


def test_the_semantic_branch_alone_with_all_classes():
    batch = make(sample(), instances=False, merge_things=False)
    assert set(batch) == {'image', 'sizes', 'semantic'}
    assert batch['semantic'][0, 6, 11] == 3 and batch['semantic'][0, 35, 0] == -1


def test_few_anchors_are_filled_up():
    batch = make(sample(1, 1, instances=np.zeros((1, 1), np.int32)), anchors=2000)
    assert batch['anchor_labels'].shape == (1, 2000)
    assert set(batch['anchor_labels'][0]) == {0, -1}
    assert batch['boxes'].shape == (1, 1, 4) and batch['classes'].tolist() == [[-1]]


def test_measures_of_objects():
    ids = np.zeros((6, 7), np.int32)
    ids[2, 3] = 1
    ids[0, 6], ids[5, 0] = 2, 2
    found = measure_objects(SampledMap(ids, *map(np.arange, ids.shape)), 3)
    np.testing.assert_array_equal(found.boxes[:2], [[3, 2, 4, 3], [0, 0, 7, 6]])
    assert found.pixels.tolist() == [1, 2, 0]
    assert found.centers.tolist() == [[3, 2], [3, 2.5], [0, 0]]
    assert measure_objects(SampledMap(ids * 0, *map(np.arange, ids.shape)), 0).boxes.shape == (0, 4)


@pytest.mark.parametrize('size', [(40, 50), (97, 31), (13, 77), (160, 200), (9, 11)])
def test_measures_before_and_after_resizing_are_equal(size):
    """Two layers of random rectangles, enlarged or reduced; some vanish."""
    rng = np.random.default_rng(0)
    layers = np.zeros((2, 40, 50), np.int32)
    for k in range(30):
        top, left = rng.integers(0, (40, 50))
        layers[k % 2, top:top + rng.integers(1, 12), left:left + rng.integers(1, 12)] = k + 1
    view = resize_lazily(Sample(np.zeros((40, 50, 3), np.uint8), layers[0], {}, layers[0]), size)
    early = measure_objects(view.sampled(layers), 30)
    whole = view.sampled(layers).whole()
    np.testing.assert_array_equal(whole, layers[:, view.rows][:, :, view.columns])
    masks = (whole == np.arange(1, 31)[:, None, None, None]).any(axis=1)
    np.testing.assert_array_equal(early.pixels, (whole == np.arange(1, 31)[
        :, None, None, None]).sum(axis=(1, 2, 3)))
    for mask, pixels, box in zip(masks, early.pixels, early.boxes):
        if pixels:
            y, x = mask.nonzero()
            assert box.tolist() == [x.min(), y.min(), x.max() + 1, y.max() + 1]
    np.testing.assert_array_equal(early.centers, [
        np.float32(np.divide(np.nonzero(whole == k)[:0:-1], 1.0).sum(axis=1) / max(pixels, 1))
        for k, pixels in enumerate(early.pixels, start=1)])


def test_batches_of_resized_samples_equal_those_of_whole_ones():
    _, objects = overlapping()
    lazy = [resize_lazily(sample(objects=each), size) for each in (objects, None)
            for size in ((70, 90), (17, 23))]
    for targets in (DetectionTargets(TAXONOMY), CondInstTargets(TAXONOMY)):
        for each in lazy:
            early, late = (targets([s], [np.random.default_rng(0)]) for s in (each, each.whole()))
            assert set(early) == set(late)
            for key, array in early.items():
                np.testing.assert_array_equal(array, late[key])


def test_data_workers_do_not_import_mxnet():
    code = ('import sys, panoptic_baselines.batches\n'
            'assert not {"mxnet", "gluoncv"} & set(sys.modules)')
    subprocess.run([sys.executable, '-c', code], check=True)
    assert pickle.loads(pickle.dumps(DetectionTargets(TAXONOMY))).anchors == 256


def overlapping():
    """A car of 20x20, a man in front of it, a crowd over both, and a car without a pixel."""
    masks = [np.zeros((40, 50), bool) for _ in range(4)]
    masks[0][5:25, 10:30], masks[1][10:20, 15:25], masks[2][0:30, 0:40] = True, True, True
    return masks, AnnotatedObjects(pack_layers(masks, (40, 50)), np.array([2, 3, 3, 2]),
                                   np.array([False, False, True, False]))


def test_objects_that_overlap_are_learnt_whole():
    masks, objects = overlapping()
    batch = make(sample(objects=objects), sample(objects=objects.moved(objects.layers[:1])))
    assert batch['boxes'][0].tolist() == [[10, 5, 30, 25], [15, 10, 25, 20]]
    assert batch['classes'].tolist() == [[0, 1], [0, -1]]
    assert batch['instances'][0, 12, 17] == 2 and batch['instances'][0, 6, 11] == 1
    assert batch['layers'].shape == (2, 3, 64, 64) and not batch['layers'][1, 1:].any()
    found = bitmap_targets(batch['layers'][0], np.array([1, 2]), batch['boxes'][0])
    assert found.mean() > 0.99   # each fills its box, but for corners
    for k in range(2):
        alone = np.zeros((64, 64), np.int32)
        alone[:40, :50] = masks[k]
        np.testing.assert_array_equal(
            bitmap_targets(batch['layers'][0], np.array([k + 1]), np.float32([[3, 4, 40, 31]])),
            bitmap_targets(alone, np.array([1]), np.float32([[3, 4, 40, 31]])))


def test_condinst_learns_whole_masks_and_their_centers():
    masks, objects = overlapping()
    flat = masks[0].astype(np.int32)
    whole, alone = (CondInstTargets(TAXONOMY)([s], [None]) for s in (
        sample(objects=objects), sample(instances=flat, classes={1: 2}, ignored=frozenset())))
    assert whole['masks'].shape[:2] == (1, 2) and 'layers' not in whole
    np.testing.assert_array_equal(whole['masks'][0, 0], alone['masks'][0, 0])
    np.testing.assert_array_equal(whole['masks'][0, 1, :10, :12], masks[1][2::4, 2::4])
    assert (whole['things'] == 1).sum() == masks[1][4::8, 4::8].sum()
    centers = [owner for owner in (0, 1) if (whole['objects'] == owner).any()]
    assert centers == [0, 1]
