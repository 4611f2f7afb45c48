"""check-data and training see images as viewers do, and accept all kinds of panoptic PNGs."""
from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from adaptis.data.check import find_problem
from adaptis.data.datasets import open_dataset
from adaptis.errors import AdaptisError
from tests.miniatures import edit_json, write_coco

JSON = 'annotations/panoptic_val2017.json'
PICTURE = 'val2017/000000001009.jpg'
PNG = 'annotations/panoptic_val2017/000000001009.png'


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_coco(tmp_path, ['val'], images=2)
    return tmp_path


def turn(path: Path) -> None:
    """Store a picture on its side, with the tag that tells viewers to turn it back."""
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(path) as image:
        sideways = image.transpose(Image.Transpose.ROTATE_90)
    sideways.save(path, exif=exif, quality=95)


def both_checks(dataset: Any) -> list:
    return [find_problem(dataset, 0, headers_only) for headers_only in (False, True)]


def test_a_turned_photo_fits_an_annotation_of_what_a_viewer_shows(root: Path) -> None:
    before = open_dataset('coco', root, 'val')[0].image
    turn(root / PICTURE)
    dataset = open_dataset('coco', root, 'val')
    assert both_checks(dataset) == [None, None]
    assert dataset.image(0).shape == before.shape == (96, 128, 3)
    assert np.abs(dataset[0].image.astype(int) - before).mean() < 6   # JPEG twice


def test_an_annotation_of_the_stored_bitmap_is_told_apart(root: Path) -> None:
    turn(root / PICTURE)
    edit_json(root / JSON, lambda d: d['images'][0].update(height=128, width=96))
    ids = cv2.imread(str(root / PNG))
    cv2.imwrite(str(root / PNG), np.rot90(ids))
    for problem in both_checks(open_dataset('coco', root, 'val')):
        assert 'is 96x128 but' in problem and 'An Exif tag rotates this image' in problem


@pytest.mark.parametrize('mode', ['RGBA', 'P'])
def test_panoptic_pngs_with_alpha_or_a_palette_are_read_alike(root: Path, mode: str) -> None:
    before = open_dataset('coco', root, 'val')[0]
    with Image.open(root / PNG) as image:
        other = image.convert('RGBA') if mode == 'RGBA' else image.quantize(256)
    other.save(root / PNG)
    dataset = open_dataset('coco', root, 'val')
    assert both_checks(dataset) == [None, None]
    np.testing.assert_array_equal(dataset[0].instances, before.instances)


@pytest.mark.parametrize('mode', ['L', 'LA', '1'])
def test_other_kinds_are_refused_by_both_checks_in_the_same_words(root: Path, mode: str) -> None:
    with Image.open(root / PNG) as image:
        other = image.convert(mode)
    other.save(root / PNG)
    dataset = open_dataset('coco', root, 'val')
    first, second = both_checks(dataset)
    assert first == second and 'is not a panoptic PNG' in first
    with pytest.raises(AdaptisError) as error:
        dataset[0]
    assert str(error.value) == first
