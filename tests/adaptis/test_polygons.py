"""Masks as polygons and back: exact without a tolerance, holes and thin parts included."""
from __future__ import annotations

import cv2
import numpy as np
import pytest

from adaptis.polygons import mask_to_polygons, polygons_to_mask


def blobs(seed: int, size: tuple[int, int] = (40, 56), smooth: int = 7) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=size).astype(np.float32)
    return cv2.blur(noise, (smooth, smooth)) > 0


@pytest.mark.parametrize('seed, smooth', [(0, 7), (1, 7), (2, 3), (3, 1), (4, 1)])
def test_a_mask_comes_back_from_its_polygons(seed: int, smooth: int) -> None:
    mask = blobs(seed, smooth=smooth)
    np.testing.assert_array_equal(polygons_to_mask(mask_to_polygons(mask), mask.shape), mask)


def test_a_hole_is_joined_to_the_outline() -> None:
    mask = np.zeros((12, 12), bool)
    mask[1:11, 2:11] = True
    mask[3:6, 4:6] = mask[7:9, 7:9] = False
    polygon, = mask_to_polygons(mask)
    np.testing.assert_array_equal(polygons_to_mask([polygon], mask.shape), mask)


def test_a_square_has_four_corners_on_the_borders_of_pixels() -> None:
    mask = np.zeros((6, 8), np.uint8)
    mask[2:5, 1:4] = 1
    polygon, = mask_to_polygons(mask)
    assert sorted(map(tuple, polygon.tolist())) == [(1, 2), (1, 5), (4, 2), (4, 5)]


def test_a_tolerance_saves_points() -> None:
    mask = cv2.circle(np.zeros((80, 80), np.uint8), (40, 40), 30, 1, -1)
    exact, = mask_to_polygons(mask)
    rough, = mask_to_polygons(mask, tolerance=1.0)
    found = polygons_to_mask([rough], mask.shape)
    assert len(rough) < len(exact) / 3
    assert (found & (mask > 0)).sum() / (found | (mask > 0)).sum() > 0.95


def test_nothing_has_no_polygons() -> None:
    assert mask_to_polygons(np.zeros((4, 4), bool)) == []
    assert not polygons_to_mask([], (4, 4)).any()
    assert not polygons_to_mask([np.array([[0, 0], [3, 3]])], (4, 4)).any()
