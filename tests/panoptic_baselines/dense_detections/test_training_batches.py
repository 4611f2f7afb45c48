"""Annotated images -> batches of dense detections."""
from __future__ import annotations

import pickle
import subprocess
import sys

import numpy as np
import pytest

from adaptis.errors import AdaptisError
from adaptis.types import Category, Sample, Taxonomy
from panoptic_baselines.dense_detections.targets import DenseDetectionsTargets

TAXONOMY = Taxonomy([Category(1, 'sky', False), Category(2, 'road', False),
                     Category(3, 'car', True), Category(4, 'man', True)])


def sample(height=40, width=50, **changes):
    """A big car, of which a man covers the middle, and an ignored object."""
    instances = np.zeros((height, width), np.int32)
    instances[2:38, 4:44] = 1000
    instances[14:24, 16:30] = 7
    instances[0:2, 0:9] = 9
    semantic = np.ones((height, width), np.int32)
    semantic[instances == 1000], semantic[instances == 7] = 2, 3
    fields = dict(image=np.full((height, width, 3), 7, np.uint8), instances=instances,
                  classes={1000: 2, 7: 3, 9: 2}, semantic=semantic, ignored=frozenset([9]))
    return Sample(**{**fields, **changes})


def make(*samples, **options):
    rngs = [np.random.default_rng(i) for i in range(len(samples))]
    return DenseDetectionsTargets(TAXONOMY, merge_things=False, **options)(samples, rngs)


def at(batch, key, x, y, stride=8):
    """Of the location at pixel (x, y) in an image padded to 64 x 64."""
    return batch[key][0, (y // stride) * (64 // stride) + x // stride].tolist()


def test_a_batch_by_hand():
    batch = make(sample(), sample(20, 60, instances=np.zeros((20, 60), np.int32),
                                  semantic=np.ones((20, 60), np.int32)))
    count = 64 + 16 + 4 + 1 + 1
    shapes = {'objects': (2, count), 'labels': (2, count), 'distances': (2, count, 4),
              'centerness': (2, count), 'averages': (2, 2), 'levelness': (2, 16, 16),
              'pixels': (2, 256)}
    assert {key: batch[key].shape for key in shapes} == shapes
    assert batch['boxes'][0].tolist() == [[16, 14, 30, 24], [4, 2, 44, 38]]
    assert at(batch, 'objects', 12, 12) == 1 and at(batch, 'labels', 12, 12) == 0
    assert at(batch, 'distances', 12, 12) == [8, 10, 31, 25]   # to the last pixels, 43 and 37
    assert at(batch, 'objects', 20, 20) == 0 and at(batch, 'labels', 20, 20) == 1
    assert at(batch, 'distances', 20, 20) == [4, 6, 9, 3]
    assert at(batch, 'centerness', 20, 20) == pytest.approx(np.sqrt(4 / 9 * 3 / 6))
    assert at(batch, 'objects', 4, 36) == 1 and at(batch, 'objects', 44, 4) == -1
    assert at(batch, 'objects', 4, 60) == -1   # padding
    assert not batch['distances'][batch['objects'] < 0].any()
    assert (batch['labels'][1] == -1).all() and not batch['levelness'][1].any()
    assert batch['levelness'][0, 3, 3] == 1 and batch['levelness'][0, 0, 0] == 0
    assert batch['pixels'][0, 4 * 16 + 4] == 0 and batch['pixels'][0, 2 * 16 + 2] == 1
    found = (batch['labels'] >= 0).sum()
    np.testing.assert_allclose(batch['averages'][:, 0], found / 2)
    assert (batch['semantic'][0, 12, 12], batch['semantic'][0, 20, 20]) == (2, 3)
    assert batch['semantic'][0, 50, 5] == -1


def test_sizes_share_out_the_levels():
    batch = make(sample(), sizes=(12, 24, 36, 48))
    levels = np.split(batch['objects'][0], [64, 80, 84, 85])
    assert {k for k, level in enumerate(levels) if (level == 0).any()} == {0}
    assert {k for k, level in enumerate(levels) if (level == 1).any()} == {1}
    assert set(np.unique(batch['levelness'])) == {0, 1, 2, 3, 4}


def test_boxes_alone_teach_the_smallest_around_a_location():
    full, weak = make(sample()), make(sample(), supervision='boxes')
    np.testing.assert_array_equal(weak['boxes'], full['boxes'])
    ring = sample()
    ring.instances[10:30, 10:40] = 0   # a car that is only a frame
    boxes = make(ring, supervision='boxes')
    assert (boxes['boxes'][0] == [[4, 2, 44, 38]]).all()
    assert at(boxes, 'objects', 20, 20) == 0 and at(make(ring), 'objects', 20, 20) == -1
    np.testing.assert_array_equal(weak['pixels'], full['pixels'])   # both fill their boxes
    assert weak['pixels'].max() == 1


def test_identical_boxes_and_tiny_objects():
    instances = np.zeros((32, 32), np.int32)
    instances[::2], instances[1::2] = 1, 2    # two combs
    instances[0, 0], instances[31, 31], instances[5, 5] = 2, 1, 3   # around the same pixels
    classes = {1: 2, 2: 3, 3: 3}
    batch = make(sample(32, 32, instances=instances, classes=classes))
    assert (batch['boxes'][0, 0] == batch['boxes'][0, 1]).all()
    assert (batch['labels'] >= 0).any() and np.isfinite(batch['distances']).all()
    assert (batch['objects'] == 2).sum() == 0   # lies between the locations
    weak = make(sample(32, 32, instances=instances, classes=classes), supervision='boxes')
    assert len(np.unique(weak['objects'])) == 2   # one of the combs, and the background


def test_one_huge_object_and_images_of_odd_sizes():
    huge = sample(97, 161, instances=np.ones((97, 161), np.int32), classes={1: 2})
    batch = make(huge)
    assert batch['image'].shape == (1, 3, 128, 192)
    shapes = [(16, 24), (8, 12), (4, 6), (2, 3), (1, 2)]
    levels = np.split(batch['objects'][0], np.cumsum([h * w for h, w in shapes])[:-1])
    assert (levels[0] == -1).all() and (levels[1] == 0).any() and (levels[2] == 0).any()
    padding = levels[1].reshape(8, 12)
    assert (padding[7:] == -1).all() and (padding[:, 11:] == -1).all()   # beyond 97 x 161
    tiny = make(sample(1, 3, instances=np.ones((1, 3), np.int32), classes={1: 2},
                       semantic=np.zeros((1, 3), np.int32)))
    assert (tiny['objects'] == -1).all() and tiny['averages'][0, 0] == 0


def test_workers_pickle_it_and_do_not_import_mxnet():
    code = ('import sys, panoptic_baselines.dense_detections.targets\n'
            'assert not {"mxnet", "gluoncv"} & set(sys.modules)')
    subprocess.run([sys.executable, '-c', code], check=True)
    assert pickle.loads(pickle.dumps(DenseDetectionsTargets(TAXONOMY))).supervision == 'masks'
    with pytest.raises(AdaptisError, match="supervision is 'points'"):
        DenseDetectionsTargets(TAXONOMY, supervision='points')
