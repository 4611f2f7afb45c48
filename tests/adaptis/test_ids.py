"""Segment ids in panoptic PNGs."""
from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from adaptis.errors import AdaptisError
from adaptis.files import write_image
from adaptis.ids import MAX_ID, ids_to_rgb, present_ids, read_panoptic_png, rgb_to_ids

IDS = np.array([[0, 1, 255, 256], [65535, 65536, 255 ** 3, MAX_ID]], np.int32)


def test_ids_go_through_a_picture_and_a_file(tmp_path: Path) -> None:
    np.testing.assert_array_equal(rgb_to_ids(ids_to_rgb(IDS)), IDS)
    assert rgb_to_ids(ids_to_rgb(IDS)).dtype == np.int32
    write_image(tmp_path / 'p.png', ids_to_rgb(IDS))
    np.testing.assert_array_equal(read_panoptic_png(tmp_path / 'p.png'), IDS)


def test_the_transparency_of_a_panoptic_png_means_nothing(tmp_path: Path) -> None:
    alpha = np.full(IDS.shape + (1,), 7, np.uint8)
    cv2.imwrite(str(tmp_path / 'p.png'), np.concatenate([ids_to_rgb(IDS)[..., ::-1], alpha], 2))
    np.testing.assert_array_equal(read_panoptic_png(tmp_path / 'p.png'), IDS)


@pytest.mark.parametrize('pixels, words', [
    (np.zeros((3, 4), np.uint8), 'but it has 1 of 8 bits'),
    (np.zeros((3, 4), np.uint16), 'but it has 1 of 16 bits'),
    (np.zeros((3, 4, 3), np.uint16), 'but it has 3 of 16 bits'),
])
def test_another_png_is_refused(tmp_path: Path, pixels: np.ndarray, words: str) -> None:
    cv2.imwrite(str(tmp_path / 'p.png'), pixels)
    with pytest.raises(AdaptisError, match='p.png is not a panoptic PNG: .*' + words):
        read_panoptic_png(tmp_path / 'p.png')


def test_ids_that_occur() -> None:
    assert present_ids(IDS, 'map').tolist() == sorted(IDS[IDS > 0].tolist())
    for nothing in (np.zeros((2, 3), np.int32), np.zeros((0, 3), np.int32)):
        assert present_ids(nothing, 'map').tolist() == []
    for wrong in (-1, MAX_ID + 1):
        with pytest.raises(AdaptisError, match=f'map has a segment with id {wrong}:'):
            present_ids(np.array([[1, wrong]]), 'map')
