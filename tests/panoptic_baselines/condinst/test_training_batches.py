"""Annotated images -> batches of CondInst."""
from __future__ import annotations

import pickle
import subprocess
import sys

import numpy as np
import pytest
from pycocotools import mask as coco

from adaptis.config import OptimizerConfig
from adaptis.engine.schedules import build_schedule
from adaptis.errors import AdaptisError
from adaptis.types import Category, Sample, Taxonomy
from panoptic_baselines.condinst.targets import CondInstTargets
from panoptic_baselines.layers.resize import subsample

TAXONOMY = Taxonomy([Category(1, 'sky', False), Category(2, 'road', False),
                     Category(3, 'car', True), Category(4, 'man', True)])
SMALL = dict(strides=(8, 16), sizes=(16,))


def sample(*boxes, size=(40, 50)):
    """Rectangles (top, left, bottom, right); the later ones cover the earlier ones."""
    instances, semantic = np.zeros(size, np.int32), np.zeros(size, np.int32)
    for k, (top, left, bottom, right) in enumerate(boxes):
        instances[top:bottom, left:right] = 10 * k + 10
        semantic[top:bottom, left:right] = 2 + k % 2
    return Sample(np.full((*size, 3), 7, np.uint8), instances,
                  {10 * k + 10: 2 + k % 2 for k in range(len(boxes))}, semantic)


def make(*samples, **options):
    rngs = [np.random.default_rng(i) for i in range(len(samples))]
    return CondInstTargets(TAXONOMY, **{**SMALL, **options})(samples, rngs)


def test_a_batch_by_hand():
    batch = make(sample((4, 10, 24, 30), (28, 0, 40, 9)), sample(size=(20, 60)), sizes=(18,))
    assert batch['image'].shape == (2, 3, 64, 64)
    assert batch['objects'].shape == batch['labels'].shape == (2, 8 * 8 + 4 * 4)
    assert batch['boxes'][0].tolist() == [[10, 4, 30, 24], [0, 28, 9, 40]]
    fine, coarse = np.split(batch['objects'][0], [64])
    # Less than 12 pixels from the centers (19.5, 13.5) and (4, 33.5), and not on a side.
    expected = np.full((8, 8), -1)
    expected[1:3, 1:4], expected[4, 0] = 0, 1
    assert (fine.reshape(8, 8) == expected).all()
    assert (coarse == -1).all()   # no location there is 18 pixels from a side
    assert batch['labels'][0, 9] == 0 and batch['labels'][0, 32] == 1
    np.testing.assert_array_equal(batch['distances'][0, 9], np.float32([2, 8, 18, 12]) / 8)
    assert batch['centerness'][0, 9] == pytest.approx(np.sqrt(2 / 18 * 8 / 12))
    assert (batch['labels'][1] == -1).all() and batch['classes'][1].tolist() == [-1, -1]
    assert batch['masks'].shape == (2, 2, 16, 16) and not batch['masks'][1].any()
    assert (batch['things'][1] == -1).all() and batch['things'][0, 4, 0] == 1


def test_masks_are_every_fourth_pixel_and_do_not_overlap():
    item = sample((3, 3, 33, 33), (10, 10, 20, 20))
    batch = make(item)
    full = np.zeros((64, 64), np.int32)
    full[:40, :50] = item.instances
    for row, id_ in enumerate((10, 20)):
        np.testing.assert_array_equal(batch['masks'][0, row], full[2::4, 2::4] == id_)
    assert make(item, mask_stride=2)['masks'].shape == (1, 2, 32, 32)
    np.testing.assert_array_equal(batch['things'][0], np.select(
        [full[4::8, 4::8] == 10, full[4::8, 4::8] == 20], [0, 1], -1))


def test_the_center_of_mass_is_not_that_of_the_box():
    item = sample((0, 0, 40, 40))
    item.instances[:36, 4:] = 0   # an L
    by_mass, by_box = (make(item, center=c, strides=(8,), sizes=())['objects'][0].reshape(8, 8)
                       for c in ('mass', 'box'))
    assert by_box[1, 3] == 0 and by_mass[1, 3] == -1 and by_mass[3, 0] == 0 and by_box[3, 0] == -1


def test_averages_are_of_the_whole_batch():
    batch = make(sample((4, 10, 24, 30)), sample(), sample((4, 4, 30, 30)))
    count = (batch['labels'] >= 0).sum()
    np.testing.assert_allclose(batch['averages'],
                               [[count / 3, batch['centerness'].sum() / 3]] * 3, rtol=1e-6)


@pytest.mark.parametrize('box', [(0, 0, 1, 1), (39, 49, 40, 50), (0, 0, 40, 50), (0, 0, 1, 50),
                                 (4, 4, 5, 5), (0, 49, 40, 50)])
def test_tiny_objects_and_those_at_the_border(box):
    batch = make(sample(box))
    assert batch['classes'].tolist() == [[0]]
    assert np.isfinite(batch['distances']).all() and batch['centerness'].max() <= 1
    assert (batch['centerness'][0] > 0).sum() == (batch['objects'][0] == 0).sum()


def test_the_official_bitmaps(ops):
    case = ops('gt_bitmasks')
    size = case.size('padded_size')
    names = [sorted(n for n in case if n.startswith(f'poly_{k}_')) for k in range(3)]
    full = np.stack([coco.decode(coco.merge(coco.frPyObjects(
        [case[n].tolist() for n in of], *size))) for of in names])
    np.testing.assert_array_equal(np.packbits(full.reshape(3, -1), axis=1), case['full_packed'])
    np.testing.assert_array_equal(subsample(full, 4), case['s4'])


@pytest.mark.parametrize('name, steps', [('1x', 90000), ('3x', 270000)])
def test_the_official_learning_rates(ops, name, steps):
    case = ops('lr_schedule')
    milestones = [60000, 80000] if name == '1x' else [210000, 250000]
    schedule = build_schedule(OptimizerConfig(
        name='torchsgd', lr=0.01, wd=1e-4, schedule='step', milestone_steps=milestones,
        warmup_steps=1000, warmup_factor=0.001), steps, 1)
    rates = [schedule(int(step)) for step in case[f'iters_{name}']]
    np.testing.assert_allclose(rates, case[f'lr_{name}'], rtol=1e-9)


def test_an_unknown_center():
    with pytest.raises(AdaptisError, match="center is 'middle'"):
        make(center='middle')


def test_data_workers_do_not_import_mxnet():
    code = ('import sys, panoptic_baselines.condinst.targets\n'
            'assert not {"mxnet", "gluoncv"} & set(sys.modules)')
    subprocess.run([sys.executable, '-c', code], check=True)
    assert pickle.loads(pickle.dumps(CondInstTargets(TAXONOMY))).radius == 1.5
