"""Which object each location of a pyramid belongs to."""
from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from panoptic_baselines.fcos.targets import assign_locations, centerness, locations, size_ranges
from tests.panoptic_baselines.golden import mass_centers


@pytest.fixture(scope='module')
def golden(parity_root):
    return dict(np.load(parity_root / 'condinst' / 'ops' / 'targets.npz'))


def masks(golden, image):
    size = golden['mask_hw']
    packed = golden[f'masks_{image}_packed']
    return np.unpackbits(packed, axis=1)[:, :size.prod()].reshape(-1, *size).astype(bool)


def test_centers_of_mass(golden):
    np.testing.assert_allclose(mass_centers(masks(golden, 0)), golden['mass_centers_0'], rtol=1e-6)


@pytest.mark.parametrize('around', ['mass', 'box'])
def test_the_official_assignment(golden, around):
    """Three images, the last one empty; the official order is by level and then by image."""
    shapes, strides = golden['level_sizes'].tolist(), golden['strides'].tolist()
    found = []
    for image in range(3):
        centers = mass_centers(masks(golden, image)) if around == 'mass' and image < 2 else None
        boxes = golden.get(f'boxes_{image}', np.zeros((0, 4), np.float32))
        found.append(assign_locations(boxes, shapes, strides, [64, 128, 256, 512], 1.5, centers))
    ends = np.cumsum([h * w for h, w in shapes])[:-1]
    by_level = list(zip(*(np.split(a.objects, ends) for a in found)))
    first = golden['boxes_0'].shape[0], golden['boxes_1'].shape[0]
    objects = np.concatenate([np.where(o >= 0, o + shift, -1) for level in by_level
                              for o, shift in zip(level, np.cumsum([0, *first]))])
    distances = np.concatenate([d / stride for stride, *level in zip(
        strides, *(np.split(a.distances, ends) for a in found)) for d in level])
    positive = np.flatnonzero(objects >= 0)
    np.testing.assert_array_equal(positive, golden[f'{around}_pos_inds'])
    np.testing.assert_array_equal(objects[positive], golden[f'{around}_pos_target_inds'])
    classes = np.concatenate([golden['classes_0'], golden['classes_1']])
    labels = np.where(objects >= 0, classes[objects], 80)
    np.testing.assert_array_equal(labels, golden[f'{around}_labels'])
    np.testing.assert_array_equal(distances[positive], golden[f'{around}_pos_reg_targets'])
    assert not distances[objects < 0].any()
    np.testing.assert_allclose(centerness(distances[positive]),
                               golden[f'{around}_pos_ctr_targets'], atol=1e-6)


def test_locations(parity_root):
    golden = np.load(parity_root / 'condinst' / 'ops' / 'compute_locations.npz')
    for name in golden.files:
        size, stride = name[len('loc_'):].split('_s')
        shape = tuple(int(n) for n in size.split('x'))
        np.testing.assert_array_equal(locations(shape, int(stride)), golden[name])


def test_ranges_meet():
    assert size_ranges([64, 128]) == [(-1, 64), (64, 128), (128, np.inf)]
    box = np.float32([[4, 4, 20, 20]])   # (12, 12) is 8 from every side
    for sizes, levels in (([8], 2), ([7.9], 1), ([8.1], 1)):
        found = assign_locations(box, [(3, 3), (3, 3)], [8, 8], sizes, radius=0.1)
        assert (found.objects == 0).sum() == levels and found.objects[4 + 9 * (sizes[0] < 8)] == 0
    distances = assign_locations(box, [(3, 3)], [8], []).distances
    np.testing.assert_array_equal(distances[4], [8, 8, 8, 8])


def test_the_smallest_box_wins_and_without_radius_all_inside_count():
    boxes = np.float32([[0, 0, 32, 32], [0, 0, 16, 16], [8, 8, 16, 16]])
    found = assign_locations(boxes, [(4, 4)], [8], [], radius=0)
    np.testing.assert_array_equal(found.objects.reshape(4, 4), [
        [1, 1, 0, 0], [1, 2, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])


@pytest.mark.parametrize('box', [
    (4, 4, 5, 5), (3, 3, 4, 4), (0, 0, 1, 64), (63, 63, 64, 64), (5, 5, 11, 11)])
def test_what_is_smaller_than_the_grid_is_found_only_where_a_location_is_inside(box):
    found = assign_locations(np.float32([box]), [(8, 8), (4, 4)], [8, 16], [16])
    inside = (locations((8, 8), 8) > box[:2]).all(1) & (locations((8, 8), 8) < box[2:]).all(1)
    assert (found.objects[:64] >= 0).sum() == inside.sum() and np.isfinite(found.distances).all()


def test_no_objects():
    found = assign_locations(np.zeros((0, 4)), [(2, 3), (1, 2)], [8, 16], [16])
    assert found.objects.tolist() == [-1] * 8 and not found.distances.any()


def test_centerness_by_hand():
    got = centerness([[1, 4, 4, 1], [3, 3, 3, 3], [0, 2, 5, 2], [0, 0, 0, 0]])
    np.testing.assert_allclose(got, [0.25, 1, 0, 0])


def test_data_workers_do_not_import_mxnet():
    code = ('import sys, panoptic_baselines.fcos.targets\n'
            'assert not {"mxnet", "gluoncv"} & set(sys.modules)')
    subprocess.run([sys.executable, '-c', code], check=True)
