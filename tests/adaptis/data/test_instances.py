"""COCO instance annotation: polygons, RLE and crowds, against pycocotools; and broken files."""
from __future__ import annotations

import contextlib
import io
import json
import pickle
from pathlib import Path
from typing import Any, Callable

import numpy as np
import pytest
from pycocotools import mask as rle
from pycocotools.coco import COCO

from adaptis.data import check
from adaptis.data.augment import Crop, Rescale, build_augmentation, random_crop, resize_sample
from adaptis.data.datasets import open_dataset
from adaptis.data.instances import InstanceIndex, front, pack_layers
from adaptis.errors import AdaptisError
from adaptis.types import AnnotatedObjects, Sample
from tests.miniatures import edit_json, write_coco, write_instances

JSON = 'annotations/instances_val2017.json'
IDS = (1009, 1010, 1011)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_coco(tmp_path, splits=['val'])
    write_instances(tmp_path, splits=['val'])
    return tmp_path


def masks_of(objects: AnnotatedObjects) -> list[np.ndarray]:
    return [(objects.layers == k + 1).any(axis=0) for k in range(len(objects))]


@pytest.mark.parametrize('annotation', ['instances', 'both'])
def test_every_mask_is_that_of_pycocotools(root: Path, annotation: str) -> None:
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(root / JSON))
    dataset = open_dataset('coco', root, 'val', annotation=annotation)
    overlaps = 0
    for index, image_id in enumerate(IDS):
        assert dataset.image_id(index) == image_id
        sample, annotations = dataset[index], coco.loadAnns(coco.getAnnIds([image_id]))
        objects = sample.objects
        assert len(objects) == len(annotations) == (5 if index < 2 else 0)
        for k, (mask, entry) in enumerate(zip(masks_of(objects), annotations)):
            np.testing.assert_array_equal(mask, coco.annToMask(entry))
            x, y, w, h = entry['bbox']
            assert objects.boxes[k].tolist() == [x, y, x + w, y + h]
            assert objects.areas[k] == entry['area'] and objects.crowd[k] == entry['iscrowd']
            assert dataset.taxonomy.categories[objects.classes[k]].id == entry['category_id']
        overlaps += len(objects.layers) > 1
    assert overlaps and dataset.taxonomy.num_things == 3
    assert dataset.taxonomy.num_stuff == (0 if annotation == 'instances' else 3)


def test_the_map_of_instances_shows_the_smaller_object(root: Path) -> None:
    sample = open_dataset('coco', root, 'val', annotation='instances')[0]
    areas, masks = sample.objects.areas, masks_of(sample.objects)
    for y, x in np.argwhere(np.sum(masks, axis=0) > 1)[::17]:
        there = [k for k, mask in enumerate(masks) if mask[y, x]]
        assert sample.instances[y, x] == min(there, key=areas.__getitem__) + 1
    np.testing.assert_array_equal(sample.instances > 0, np.any(masks, axis=0))
    np.testing.assert_array_equal(sample.semantic >= 0, sample.instances > 0)
    assert sample.ignored == {k + 1 for k in range(5) if sample.objects.crowd[k]} != set()


def test_coordinates_of_any_number_of_digits_stay_as_they_are(root: Path) -> None:
    def odd(data: dict) -> None:
        polygon = [1.23456789, 2.1, 30.7, 5.000001, 20.3, 40.9]
        data['annotations'][1].update(segmentation=[polygon, [3, 3, 9, 3, 9, 9, 3, 9]])
    edit_json(root / JSON, odd)
    entry = json.loads((root / JSON).read_text())['annotations'][1]
    found = open_dataset('coco', root, 'val', annotation='instances')[0].objects
    parts = rle.frPyObjects(entry['segmentation'], *found.layers.shape[1:])
    np.testing.assert_array_equal(masks_of(found)[1], rle.decode(rle.merge(parts)))


def test_panoptic_stays_the_default_and_both_differs_in_objects_alone(root: Path) -> None:
    plain, both = (open_dataset('coco', root, 'val', **options)
                   for options in ({}, {'annotation': 'both'}))
    for index in range(3):
        assert plain[index].objects is None
        for key in ('instances', 'semantic'):
            np.testing.assert_array_equal(getattr(plain[index], key), getattr(both[index], key))
    assert len(pickle.loads(pickle.dumps(both))[0].objects) == 5
    check.quick_check(open_dataset('coco', root, 'val', annotation='instances'))


def test_images_without_truth_have_the_things_alone(tmp_path: Path) -> None:
    write_coco(tmp_path, splits=['test'])
    dataset = open_dataset('coco', tmp_path, 'test', annotation='instances')
    assert (dataset.taxonomy.num_stuff, dataset.taxonomy.num_things) == (0, 80)
    with pytest.raises(AdaptisError, match='Only coco has the annotation "both", not toy'):
        open_dataset('toy', tmp_path, 'test', annotation='both')
    with pytest.raises(AdaptisError, match='no annotation "keypoints": choose from panoptic, ins'):
        open_dataset('coco', tmp_path, 'test', annotation='keypoints')


def annotation(**values: Any) -> Callable[[dict], None]:
    return lambda data: data['annotations'][1].update(values)


BROKEN = [
    (lambda data: data.update(categories=[]), 'lists no categories: add'),
    (lambda data: data.pop('categories'), 'has no list "categories", so it is not'),
    (lambda data: data['categories'][0].pop('name'), 'category 1 has no name: it must be text'),
    (lambda data: data['images'][0].pop('height'), 'image 1009 .*"height" is missing'),
    (lambda data: data.update(images=[]), 'lists no image'),
    (lambda data: data['images'].append(data['images'][0]), 'lists an image id twice'),
    (annotation(segmentation=[[1, 2, 3, 4]]), 'has a polygon of 4 numbers, but at least 6'),
    (annotation(segmentation=[]), 'object 2 of image 1009 has no polygon'),
    (annotation(segmentation=[[1, 2, 3, 4, float('inf'), 6]]), 'something other than finite num'),
    (annotation(segmentation=[['a'] * 6]), 'something other than finite numbers'),
    (annotation(segmentation={'size': [9, 9], 'counts': [81]}),
     'has a mask of 9x9, but the image is 96x128'),
    (annotation(segmentation={'size': [96, 128], 'counts': [81]}),
     'the runs of its RLE do not cover its 96x128 pixels'),
    (annotation(segmentation={'size': [96, 128], 'counts': '01'}),
     'the runs of its RLE do not cover'),
    (annotation(segmentation={'size': [96, 128], 'counts': 'oo'}),
     'the runs of its RLE do not cover'),
    (annotation(segmentation={'size': [96, 128], 'counts': 5}),
     'its RLE has the counts 5, which are neither'),
    (annotation(segmentation=[[1e8, 2, 3, 4, 5, 6]]), 'has a polygon far outside of the image'),
    (annotation(segmentation=5), 'its segmentation is 5, which is neither polygons nor RLE'),
    (annotation(bbox=[500, 2, 3, 4]), r'has the box \[500.0, 2.0, 3.0, 4.0\], which is outside of'),
    (annotation(bbox=[5, 2, -3, 4]), 'outside of the image'),
    (annotation(bbox=[5, 2, 3]), r'object 2 of image 1009 .*its bbox is \[5, 2, 3\], not'),
    (annotation(category_id=77), 'has the category 77, which is not listed'),
    (annotation(image_id=5), 'object 2 of image 5 belongs to an image that is not listed'),
    (lambda data: data['images'][0].update(file_name='x.jpg'), 'x.jpg, which does not exist'),
]


@pytest.mark.parametrize('change, sentence', BROKEN, ids=[s[:30] for _, s in BROKEN])
def test_broken_files_get_a_sentence(root: Path, change: Callable, sentence: str) -> None:
    edit_json(root / JSON, change)
    with pytest.raises(AdaptisError, match=sentence.replace(': ?.*', '.*')) as error:
        open_dataset('coco', root, 'val', annotation='instances')
    assert JSON in str(error.value) and '\n' not in str(error.value)


def test_annotations_that_do_not_fit_each_other(root: Path) -> None:
    edit_json(root / JSON, lambda data: data['categories'][0].update(id=149, name='road'))
    edit_json(root / JSON, lambda data: data.update(annotations=[]))
    with pytest.raises(AdaptisError, match=r'category road \(149\), which is not a thing'):
        open_dataset('coco', root, 'val', annotation='both')
    edit_json(root / JSON, lambda data: data['images'].pop())
    with pytest.raises(AdaptisError, match='does not list image 1011, which'):
        open_dataset('coco', root, 'val', annotation='both')


def test_an_image_of_another_size(root: Path) -> None:
    edit_json(root / JSON, lambda data: data['images'][2].update(height=5))
    dataset = open_dataset('coco', root, 'val', annotation='instances')
    with pytest.raises(AdaptisError, match='96x128 but .* says 5x128'):
        dataset[2]
    assert 'its entry in the JSON is 5x128' in check.find_problem(dataset, 2, headers_only=True)


# Layers.

def random_objects(seed: int, count: int = 12) -> AnnotatedObjects:
    rng = np.random.default_rng(seed)
    masks = []
    for _ in range(count):
        y, x = rng.integers(0, 30, 2)
        masks.append(np.zeros((40, 48), bool))
        masks[-1][y:y + rng.integers(3, 20), x:x + rng.integers(3, 20)] = True
    areas = np.array([mask.sum() for mask in masks], float)
    return AnnotatedObjects(pack_layers(masks, (40, 48)), np.zeros(count, int),
                            np.zeros(count, bool), areas=areas)


def test_layers_hold_every_object_whole() -> None:
    objects = random_objects(0)
    assert 1 < len(objects.layers) < 12
    counts = np.bincount(objects.layers.ravel(), minlength=13)[1:]
    np.testing.assert_array_equal(counts, objects.areas)
    for k in range(1, 13):
        assert sum((layer == k).any() for layer in objects.layers) == 1
    assert pack_layers([], (4, 5)).shape == (1, 4, 5)


@pytest.mark.parametrize('change', [
    lambda s: build_augmentation('flip')(s, 3),
    lambda s: build_augmentation('toy_v2')(s, 5),
    lambda s: build_augmentation('coco', Crop((64, 64), (0.5, 1.5)))(s, 4),
    lambda s: build_augmentation({'shift_rotate': {'shift': 0.2, 'degrees': 9, 'prob': 1}})(s, 6),
    lambda s: random_crop(s, (20, 20), np.random.default_rng(1)),
    lambda s: resize_sample(s, (61, 70)),
    lambda s: Rescale((64,), 90)(s, np.random.default_rng(1))])
def test_objects_move_with_the_image(change: Callable) -> None:
    for seed, count in ((0, 12), (1, 12), (2, 0)):
        objects = random_objects(seed, count)
        flat = front(objects.layers, objects.areas)
        sample = Sample(np.zeros((40, 48, 3), np.uint8), flat,
                        dict.fromkeys(range(1, count + 1), 0),
                        np.where(flat, 0, -1).astype(np.int32), objects=objects)
        moved = change(sample)
        assert moved.objects.boxes is None
        assert moved.objects.layers.shape[1:] == moved.image.shape[:2]
        np.testing.assert_array_equal(front(moved.objects.layers, objects.areas),
                                      np.maximum(moved.instances, 0))


def test_objects_of_another_size_are_refused() -> None:
    flat = np.zeros((4, 5), np.int32)
    with pytest.raises(AdaptisError, match='the objects are 40x48 but the image is 4x5'):
        Sample(np.zeros((4, 5, 3), np.uint8), flat, {}, flat, objects=random_objects(0))


def test_an_index_is_small(root: Path) -> None:
    index = InstanceIndex(root / JSON)
    assert len(pickle.dumps(index)) < 6000   # a JSON of 10 objects, two of them RLE of 96x128
