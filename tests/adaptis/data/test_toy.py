"""Reading toy data: the authors' layout, and every way in which it can be broken."""
from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from adaptis.data.toy import ToyDataset
from adaptis.errors import AdaptisError
from adaptis.types import TOY_TAXONOMY
from toy_data import ToySettings, generate


def write(folder: Path, name: str = '00000', size: tuple = (9, 7), ids: object = None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    image = np.zeros(size + (3,), np.uint8)
    image[..., 2] = 200  # red, in OpenCV's order
    if ids is None:
        ids = np.zeros(size, np.uint16)
        ids[1:4, 2:5] = 7
        ids[5, 5] = 65535
    cv2.imwrite(str(folder / f'{name}_rgb.png'), image)
    cv2.imwrite(str(folder / f'{name}_im.png'), ids)


def test_a_sample_is_read_as_written(tmp_path: Path) -> None:
    write(tmp_path / 'train')
    dataset = ToyDataset(tmp_path, 'train')
    assert len(dataset) == 1 and dataset.taxonomy is TOY_TAXONOMY
    sample = dataset[0]
    assert sample.image.shape == (9, 7, 3) and tuple(sample.image[0, 0]) == (200, 0, 0)
    assert sample.instances.dtype == np.int32 and sample.instances[5, 5] == 65535
    assert sample.classes == {7: 1, 65535: 1}
    np.testing.assert_array_equal(sample.semantic, sample.instances > 0)
    assert sample.name.endswith('00000')


def test_samples_come_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name in ('00010', '00002', '00001'):
        write(tmp_path / 'test', name)
    assert ToyDataset(tmp_path, 'test').names == ['00001', '00002', '00010']


def test_what_the_generator_writes_is_read(tmp_path: Path) -> None:
    generate(ToySettings.default('v1'), tmp_path / 'v1', {'train': 2})
    sample = ToyDataset(tmp_path / 'v1', 'train')[1]
    assert sample.image.shape == (96, 96, 3) and 8 <= len(sample.classes) <= 22


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(AdaptisError, match='train does not exist: generate it'):
        ToyDataset(tmp_path, 'train')


def test_a_folder_without_samples_is_named(tmp_path: Path) -> None:
    (tmp_path / 'train').mkdir()
    (tmp_path / 'train' / 'photo.png').write_bytes(b'')
    with pytest.raises(AdaptisError, match='contains no image named ..._rgb.png'):
        ToyDataset(tmp_path, 'train')


def test_street_scenes_are_called_by_their_format(tmp_path: Path) -> None:
    (tmp_path / 'train').mkdir()
    (tmp_path / 'train' / 'panoptic.json').write_text('{}')
    with pytest.raises(AdaptisError, match='use --dataset coco'):
        ToyDataset(tmp_path, 'train')


def test_an_image_without_its_mask_is_named(tmp_path: Path) -> None:
    write(tmp_path / 'train')
    (tmp_path / 'train' / '00000_im.png').unlink()
    with pytest.raises(AdaptisError, match='00000_rgb.png has no annotation .*00000_im.png'):
        ToyDataset(tmp_path, 'train')


@pytest.mark.parametrize('ids, words', [
    (np.zeros((9, 6), np.uint16), 'instances map is 9x6 but the image is 9x7'),
    (np.zeros((9, 7, 3), np.uint8), 'has 3 channels'),
])
def test_a_mask_that_does_not_fit_is_named(tmp_path: Path, ids: np.ndarray, words: str) -> None:
    write(tmp_path / 'train', ids=ids)
    with pytest.raises(AdaptisError, match=words) as error:
        ToyDataset(tmp_path, 'train')[0]
    assert '00000' in str(error.value)


def test_ids_beyond_16_bits_are_refused(tmp_path: Path) -> None:
    write(tmp_path / 'train')
    wide = tmp_path / 'wide.tif'
    cv2.imwrite(str(wide), np.full((9, 7), 70000, np.int32))
    wide.rename(tmp_path / 'train' / '00000_im.png')
    with pytest.raises(AdaptisError, match='contains the id 70000, outside 0..65535'):
        ToyDataset(tmp_path, 'train')[0]


@pytest.mark.parametrize('which', ['rgb', 'im'])
@pytest.mark.parametrize('keep', [0, 40])
def test_a_cut_file_is_named(tmp_path: Path, which: str, keep: int) -> None:
    write(tmp_path / 'train')
    path = tmp_path / 'train' / f'00000_{which}.png'
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(AdaptisError, match=f'00000_{which}.png is (empty|cut short)'):
        ToyDataset(tmp_path, 'train')[0]
