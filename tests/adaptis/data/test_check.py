"""Find errors in a data set, from headers or by decoding."""
from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from adaptis.data import check
from adaptis.data.datasets import open_dataset
from adaptis.data.reader import Reader
from adaptis.errors import AdaptisError
from tests.miniatures import (
    COCO_CATEGORIES,
    edit_json,
    save,
    write_cityscapes,
    write_coco,
    write_vistas,
)

PNG = 'annotations/panoptic_train2017/000000000010.png'
IMAGE = 'train2017/000000000010.jpg'
JSON = 'annotations/panoptic_train2017.json'


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_coco(tmp_path, splits=['train'])
    return tmp_path


def opened(root: Path) -> Reader:
    return open_dataset('coco', root, 'train')


@pytest.mark.parametrize('name, write', [('coco', write_coco), ('vistas', write_vistas),
                                         ('cityscapes', write_cityscapes)])
@pytest.mark.parametrize('split', ['val', 'test'])
def test_nothing_is_wrong_with_miniatures(tmp_path: Path, name: str, write: object,
                                          split: str) -> None:
    write(tmp_path)
    dataset = open_dataset(name, tmp_path, split)
    check.quick_check(dataset)
    for headers_only in (False, True):
        assert [check.find_problem(dataset, i, headers_only) for i in range(3)] == [None] * 3
    assert check.count_files(dataset) == (3, 3 if split == 'val' else 0)


@pytest.mark.parametrize('path, picture, words', [
    (IMAGE, np.zeros((96, 127, 3), np.uint8), '10.jpg is 96x127 but .*10.png is 96x128'),
    (PNG, np.zeros((90, 128, 3), np.uint8), '10.jpg is 96x128 but .*10.png is 90x128'),
    (PNG, np.zeros((96, 128), np.uint8), '10.png is not a panoptic PNG.* but it has 1 of 8'),
])
def test_headers_tell_of_sizes_and_channels(root: Path, path: str, picture: np.ndarray,
                                            words: str) -> None:
    save(root / path, picture)
    with pytest.raises(AdaptisError, match=words + '.*check-data" checks all files'):
        check.quick_check(opened(root))
    assert check.find_problem(opened(root), 1) and not check.find_problem(opened(root), 0)


def test_headers_tell_of_a_picture_in_place_of_ids(tmp_path: Path) -> None:
    write_cityscapes(tmp_path, splits=['train'])
    (path, *_) = sorted(tmp_path.rglob('*_instanceIds.png'))
    save(path, np.zeros((96, 128, 3), np.uint8))
    with pytest.raises(AdaptisError, match='instanceIds.png has 3 channels, but an id'):
        check.quick_check(open_dataset('cityscapes', tmp_path, 'train'))


def test_headers_tell_of_another_size_in_the_json(root: Path) -> None:
    edit_json(root / JSON, lambda data: data['images'][1].update(height=97))
    with pytest.raises(AdaptisError, match='is 96x128 but its entry in the JSON is 97x128'):
        check.quick_check(opened(root))


@pytest.mark.parametrize('content', [b'', b'PNG', b'\x89PNG\r\n\x1a\n rest'])
@pytest.mark.parametrize('path', [IMAGE, PNG])
def test_headers_tell_of_files_that_are_no_image(root: Path, path: str, content: bytes) -> None:
    (root / path).write_bytes(content)
    assert f'{path} is not an image' in check.find_problem(opened(root), 1, headers_only=True)


def test_a_file_that_goes_away_is_named(root: Path) -> None:
    dataset = opened(root)
    (root / PNG).unlink()
    assert '10.png cannot be read: No such file' in check.find_header_problem(dataset, 1)


def test_decoding_finds_what_headers_cannot_tell(root: Path) -> None:
    for path in (IMAGE, PNG):
        whole = (root / path).read_bytes()
        (root / path).write_bytes(whole[:len(whole) - 20])
        assert check.find_problem(opened(root), 1, headers_only=True) is None
        assert 'is cut short' in check.find_problem(opened(root), 1)
        (root / path).write_bytes(whole)
    damaged = bytearray((root / PNG).read_bytes())
    damaged[len(damaged) // 2:len(damaged) // 2 + 30] = bytes(30)
    (root / PNG).write_bytes(damaged)
    assert '10.png is not an image that can be read' in check.find_problem(opened(root), 1)


def test_images_without_truth_are_decoded_too(tmp_path: Path) -> None:
    write_coco(tmp_path, splits=['test'])
    path = tmp_path / 'test2017/000000002010.jpg'
    path.write_bytes(path.read_bytes()[:500])
    dataset = open_dataset('coco', tmp_path, 'test')
    assert '2010.jpg is cut short' in check.find_problem(dataset, 1)


def test_missing_counterparts_come_first(root: Path) -> None:
    (root / PNG).unlink()
    dataset = open_dataset('coco', root, 'train', strict=False)
    with pytest.raises(AdaptisError, match='10.png, which .*json lists, does not exist ."adaptis'):
        check.quick_check(dataset)


def test_splits_must_share_their_categories(tmp_path: Path) -> None:
    write_coco(tmp_path, splits=['train', 'val'])
    splits = [open_dataset('coco', tmp_path, split) for split in ('train', 'val')]
    assert check.compare_categories(splits) is None and check.compare_categories([]) is None
    edit_json(tmp_path / JSON,
              lambda data: data.update(categories=COCO_CATEGORIES[1:] + COCO_CATEGORIES[:1]))
    splits[0] = opened(tmp_path)
    assert 'train2017 and' in check.compare_categories(splits)
