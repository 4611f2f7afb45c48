"""Cityscapes: the label table, and every way in which its files can be wrong."""
from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from adaptis.data.cityscapes import CITYSCAPES_LABELS, CITYSCAPES_TAXONOMY, CityscapesDataset
from adaptis.errors import AdaptisError
from tests.miniatures import save, write_cityscapes

IMAGE = 'leftImg8bit/val/aachen/aachen_000000_000019_leftImg8bit.png'
IDS = 'gtFine/val/aachen/aachen_000000_000019_gtFine_instanceIds.png'


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_cityscapes(tmp_path, splits=['val'])
    return tmp_path


def read(root: Path, ids: np.ndarray) -> object:
    """The first sample, whose annotation now holds these ids in its first pixels."""
    picture = np.zeros((96, 128), np.uint16)
    picture[0, :len(ids)] = ids
    save(root / IDS, picture)
    return CityscapesDataset(root, 'val')[0]


def test_the_19_classes_are_the_train_ids_of_the_data_set() -> None:
    names = ['road', 'sidewalk', 'building', 'wall', 'fence', 'pole', 'traffic light',
             'traffic sign', 'vegetation', 'terrain', 'sky', 'person', 'rider', 'car', 'truck',
             'bus', 'train', 'motorcycle', 'bicycle']
    ids = [7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33]
    assert [c.name for c in CITYSCAPES_TAXONOMY.categories] == names
    assert [c.id for c in CITYSCAPES_TAXONOMY.categories] == ids
    assert CITYSCAPES_TAXONOMY.num_stuff == 11 and CITYSCAPES_TAXONOMY.num_things == 8
    assert CITYSCAPES_LABELS.to_classes(np.arange(34)).tolist() == [
        ids.index(label) if label in ids else -1 for label in range(34)]


def test_ids_name_themselves_and_files_their_image(root: Path) -> None:
    dataset = CityscapesDataset(root, 'val')
    assert dataset.image_id(0) == 'aachen_000000_000019'
    assert dataset.file_name(2) == 'zurich/zurich_000002_000019_leftImg8bit.png'


def test_groups_are_ignored_and_unused_labels_void(root: Path) -> None:
    sample = read(root, np.array([26, 26000, 26001, 29, 29003, 30000, 6, 33, 33999, 23]))
    assert sample.instances[0, :10].tolist() == [26, 26000, 26001, 0, 0, 0, 0, 33, 33999, 0]
    assert sample.semantic[0, :10].tolist() == [13, 13, 13, -1, -1, -1, -1, 18, 18, 10]
    assert sample.classes == {26: 13, 26000: 13, 26001: 13, 33: 18, 33999: 18}
    assert sample.ignored == {26, 33}


@pytest.mark.parametrize('wrong', [34, 255, 999, 1000, 7001, 23999, 34000, 65535])
def test_ids_that_the_data_set_does_not_have_are_named(root: Path, wrong: int) -> None:
    with pytest.raises(AdaptisError, match=f'_instanceIds.png contains the id {wrong}, which is'):
        read(root, np.array([24001, wrong]))


def test_a_label_map_in_place_of_the_instances_has_no_objects(root: Path) -> None:
    save(root / IDS, np.zeros((96, 128, 3), np.uint8))
    with pytest.raises(AdaptisError, match='instanceIds.png has 3 channels, but an id mask has'):
        CityscapesDataset(root, 'val')[0]


def test_sizes_that_differ_are_named(root: Path) -> None:
    save(root / IDS, np.zeros((96, 127), np.uint16))
    with pytest.raises(AdaptisError, match='aachen_000000.*map is 96x127 but the image is 96x128'):
        CityscapesDataset(root, 'val')[0]


@pytest.mark.parametrize('gone, kept', [(IDS, IMAGE), (IMAGE, IDS)])
def test_a_file_without_counterpart_is_named(root: Path, gone: str, kept: str) -> None:
    (root / gone).unlink()
    words = 'has no annotation' if gone == IDS else 'has no image'
    with pytest.raises(AdaptisError, match=f'{root / kept} {words} {root / gone}.$'):
        CityscapesDataset(root, 'val')
    dataset = CityscapesDataset(root, 'val', strict=False)
    assert len(dataset) == 2 and len(dataset.problems) == 1
    assert dataset[0].name.endswith('aachen_000001_000019_leftImg8bit.png')


def test_several_missing_files_are_counted(root: Path) -> None:
    for path in (root / 'gtFine').rglob('*_instanceIds.png'):
        path.unlink()
    with pytest.raises(AdaptisError, match=r'\(1 of 3 problems: "adaptis check-data" lists all\)'):
        CityscapesDataset(root, 'val')


@pytest.mark.parametrize('path', [IMAGE, IDS])
def test_a_cut_file_is_named(root: Path, path: str) -> None:
    (root / path).write_bytes((root / path).read_bytes()[:60])
    with pytest.raises(AdaptisError, match=f'{path} is cut short'):
        CityscapesDataset(root, 'val')[0]


def test_a_split_without_folder_is_named(root: Path) -> None:
    with pytest.raises(AdaptisError, match='leftImg8bit/train does not exist'):
        CityscapesDataset(root, 'train')
    with pytest.raises(AdaptisError, match='no split "train_extra"'):
        CityscapesDataset(root, 'train_extra')


def test_a_split_without_images_is_named(root: Path) -> None:
    for path in (root / 'leftImg8bit').rglob('*.png'):
        path.unlink()
    with pytest.raises(AdaptisError, match='val contains no image named ..._leftImg8bit.png'):
        CityscapesDataset(root, 'val')


def test_a_grey_image_is_read_as_a_picture(root: Path) -> None:
    cv2.imwrite(str(root / IMAGE), np.full((96, 128), 90, np.uint8))
    assert (CityscapesDataset(root, 'val').image(0) == 90).all()
