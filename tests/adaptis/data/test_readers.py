"""What every reader must get right, on miniatures of the original folders."""
from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adaptis.data.datasets import DATASETS, open_dataset
from adaptis.errors import AdaptisError
from adaptis.evaluation.pq import PanopticQuality
from adaptis.evaluation.segments import sample_truth
from adaptis.types import Sample
from tests.miniatures import (
    BUILDING,
    CAR,
    PERSON,
    ROAD,
    SIZE,
    SKY,
    make_scene,
    write_cityscapes,
    write_coco,
    write_vistas,
)

WRITERS = {'cityscapes': write_cityscapes, 'vistas': write_vistas, 'coco': write_coco}
WORDS = {SKY: 'sky', BUILDING: 'building', ROAD: 'road', PERSON: 'person', CAR: 'car'}
COUNT = 3


@pytest.fixture(scope='module', params=sorted(WRITERS))
def name(request: Any) -> str:
    """The name of a data set."""
    return request.param


@pytest.fixture(scope='module')
def root(name: str, tmp_path_factory: Any) -> Path:
    """Its miniature."""
    folder = tmp_path_factory.mktemp(name)
    WRITERS[name](folder, images=COUNT)
    return folder


def assert_shows_the_scene(sample: Sample, names: list, index: int, split: str) -> None:
    """The same segments as those of the scene, of the same classes, with the same crowd."""
    scene = make_scene(split, index, COUNT)
    assert sample.image.shape == SIZE + (3,) and sample.image.dtype == np.uint8
    assert sample.instances.dtype == sample.semantic.dtype == np.int32
    assert np.abs(sample.image.astype(int) - scene.image).mean() < 12  # JPEG at most
    np.testing.assert_array_equal(sample.semantic == -1, scene.segments == 0)
    seen = set()
    for segment in np.unique(scene.segments[scene.segments > 0]):
        kind, where = scene.kinds[segment - 1], scene.segments == segment
        (class_index,) = np.unique(sample.semantic[where])
        assert WORDS[kind] in names[class_index].lower()
        (instance,) = np.unique(sample.instances[where])
        assert (instance > 0) == (kind >= PERSON)
        if instance:
            np.testing.assert_array_equal(sample.instances == instance, where)
            assert sample.classes[instance] == class_index
            assert (instance in sample.ignored) == scene.crowd[segment - 1]
            seen.add(int(instance))
    assert seen == set(sample.classes)


@pytest.mark.parametrize('split', ['train', 'val'])
def test_samples_are_what_was_written(name: str, root: Path, split: str) -> None:
    dataset = open_dataset(name, root, split)
    names = [c.name for c in dataset.taxonomy.categories]
    assert len(dataset) == COUNT
    for index in range(COUNT):
        sample = dataset[index]
        assert_shows_the_scene(sample, names, index, split)
        assert Path(sample.name).is_file()
    assert sample.classes == {} and not sample.ignored and not sample.instances.any()
    assert sum(len(dataset[i].ignored) for i in range(COUNT)) > 0


def test_void_crowd_and_objects_survive_the_way_to_a_panoptic_result(name: str,
                                                                     root: Path) -> None:
    dataset = open_dataset(name, root, 'val')
    for index in range(COUNT):
        sample = dataset[index]
        truth, crowd = sample_truth(sample, dataset.taxonomy)
        np.testing.assert_array_equal(truth.segment_map == 0, sample.semantic == -1)
        assert crowd == sample.ignored
        quality = PanopticQuality(dataset.taxonomy)
        quality.add(truth.segment_map, truth.segments, truth.segment_map, truth.segments, crowd)
        assert quality.result()['All']['pq'] == 1


def test_labels_go_both_ways_for_whole_maps(name: str, root: Path) -> None:
    dataset = open_dataset(name, root, 'train')
    classes = dataset[0].semantic
    labels = dataset.labels.to_labels(classes)
    np.testing.assert_array_equal(dataset.labels.to_classes(labels), classes)
    every = np.arange(-1, len(dataset.taxonomy))
    np.testing.assert_array_equal(dataset.labels.to_classes(dataset.labels.to_labels(every)), every)
    for index, category in enumerate(dataset.taxonomy.categories):
        assert dataset.taxonomy.index(category.id) == index


def test_every_split_gives_images_without_annotations(name: str, root: Path) -> None:
    annotated = open_dataset(name, root, 'val')
    for split in ('val', 'test'):
        dataset = open_dataset(name, root, split, annotations=False)
        assert len(dataset) == COUNT and dataset.image(0).shape == SIZE + (3,)
        assert dataset.taxonomy.categories == annotated.taxonomy.categories
        with pytest.raises(AdaptisError, match='has no annotation, because'):
            dataset[0]
    images = open_dataset(name, root, 'val', annotations=False)
    for index in range(COUNT):
        assert images.image_id(index) == annotated.image_id(index)
        assert images.file_name(index) == annotated.file_name(index)


def test_the_test_split_has_no_truth(name: str, root: Path) -> None:
    dataset = open_dataset(name, root, 'test')
    assert dataset.image(2).shape == SIZE + (3,)
    with pytest.raises(AdaptisError, match='has no annotation, because'):
        dataset[2]


def test_a_worker_process_gets_a_small_copy(name: str, root: Path) -> None:
    dataset = open_dataset(name, root, 'train')
    data = pickle.dumps(dataset)
    assert len(data) < 4000
    np.testing.assert_array_equal(pickle.loads(data)[1].instances, dataset[1].instances)


@pytest.mark.parametrize('dataset', DATASETS)
def test_a_root_that_does_not_exist_is_named(dataset: str, tmp_path: Path) -> None:
    with pytest.raises(AdaptisError, match='nowhere'):
        open_dataset(dataset, tmp_path / 'nowhere', 'train')


@pytest.mark.parametrize('dataset', DATASETS)
def test_an_empty_root_is_named(dataset: str, tmp_path: Path) -> None:
    with pytest.raises(AdaptisError, match=str(tmp_path)):
        open_dataset(dataset, tmp_path, 'train')


def test_unknown_names_are_named(tmp_path: Path) -> None:
    with pytest.raises(AdaptisError, match='no data set "kitti": choose from toy, cityscapes'):
        open_dataset('kitti', tmp_path, 'train')
    with pytest.raises(AdaptisError, match='no split "validation": choose from train, val'):
        open_dataset('coco', tmp_path, 'validation')
