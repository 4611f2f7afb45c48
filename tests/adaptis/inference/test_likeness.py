"""Images that are unlike all training images are distinguished from similar ones."""
from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from adaptis.errors import AdaptisError
from adaptis.inference.likeness import (
    KEY,
    ImageStatistics,
    color_histogram,
    dataset_statistics,
    describe_training,
    training_facts,
)
from adaptis.inference.sidecar import read_training
from adaptis.types import TOY_TAXONOMY, Category, Taxonomy
from toy_data import ToySettings, render

ROOT = Path(__file__).resolve().parents[3]


def drawn(version: str, split: str, count: int = 6, **options) -> list[np.ndarray]:
    settings = ToySettings.default(version, **options)
    return [render(settings, split, index)[0] for index in range(count)]


def bands(*colors: int) -> np.ndarray:
    """A picture of horizontal bands of grey, each as high as wide."""
    return np.repeat(np.array(colors, np.uint8), 10)[:, None, None] * np.ones((1, 40, 3), np.uint8)


def test_the_distance_is_the_share_of_pixels_that_need_another_colour():
    statistics = ImageStatistics.of([bands(0, 0, 255, 255)])
    assert statistics.distance(bands(0, 255, 255, 0)) == pytest.approx(0)
    assert statistics.distance(bands(0, 0, 255, 128)) == pytest.approx(0.25)
    assert statistics.distance(bands(100, 150)) == pytest.approx(1)
    assert statistics.farthest == 0
    assert statistics.find_difference(bands(0, 0, 100, 100), True) is None
    assert 'match 25 % of their mean' in statistics.find_difference(bands(0, 100, 100, 100), True)


def test_the_most_unusual_training_image_moves_the_limit():
    statistics = ImageStatistics.of([bands(0, 0, 0, 0), bands(255, 255, 255, 255)] * 5)
    assert statistics.farthest == pytest.approx(0.5)
    assert statistics.find_difference(bands(0, 0, 100, 0), True) is None         # 0.5
    assert statistics.find_difference(bands(0, 100, 100, 100), True) is not None   # 0.75
    varied = ImageStatistics.of([bands(k, k) for k in (0, 100, 150, 255)])
    assert varied.find_difference(bands(255, 100), True) is None   # nothing is unusual there


@pytest.mark.parametrize('side, at_own_size, told', [
    (384, True, False), (385, True, True), (24, True, False), (23, True, True),
    (4000, False, False), (4, False, False)])
def test_sizes_count_if_the_network_sees_them(side, at_own_size, told):
    statistics = ImageStatistics.of([np.zeros((60, 96, 3), np.uint8)])
    difference = statistics.find_difference(np.zeros((side // 2, side, 3), np.uint8), at_own_size)
    assert (difference is not None) == told
    if told:
        assert f'it is {side}x{side // 2} pixels, but their longer sides have 96' in difference


def test_a_histogram_does_not_depend_on_the_size():
    image = np.random.default_rng(0).integers(0, 2, (8, 12, 3)).astype(np.uint8) * 255
    large = np.kron(image, np.ones((64, 64, 1))).astype(np.uint8)
    np.testing.assert_allclose(color_histogram(large), color_histogram(image), atol=0.02)


@pytest.mark.parametrize('sidecar, own, others', [
    ('adaptis/pretrained/toy_v1.json', ['v1'], ['v2', 'street']),
    ('experiments/side_by_side/pretrained/adaptis.json', ['street'], ['v1', 'v2'])])
def test_the_shipped_networks_know_their_own_pictures(sidecar, own, others):
    statistics = ImageStatistics.from_sidecar(json.loads((ROOT / sidecar).read_text()))
    for version in own:
        assert not any(statistics.find_difference(i, True) for i in drawn(version, 'val'))
    for version in others:
        assert all(statistics.find_difference(i, False) for i in drawn(version, 'val'))


def test_250_objects_on_a_larger_canvas_are_still_of_the_kind():
    info = read_training(None)
    image, = drawn('v1', 'val', 1, height=250, width=250, min_objects=200, max_objects=250)
    assert ImageStatistics.from_sidecar(info).find_difference(image, True) is None


class Unreadable:
    """Images of which only some can be read."""

    def __init__(self, images):
        self.images = images

    def __len__(self):
        return len(self.images)

    def image(self, index):
        if self.images[index] is None:
            raise AdaptisError('cut short')
        return self.images[index]


def test_statistics_of_a_data_set_survive_a_sidecar():
    entry = dataset_statistics(Unreadable([bands(0, 255), None, bands(0, 100, 200)]))
    kept = json.loads(json.dumps(entry))
    statistics = ImageStatistics.from_sidecar(kept)
    assert statistics.count == 2 and statistics.sizes == (40, 40)
    np.testing.assert_array_equal(statistics.colors, entry[KEY]['colors'])
    assert dataset_statistics(Unreadable([None])) == {} and dataset_statistics(Unreadable([])) == {}


@pytest.mark.parametrize('broken', [
    {}, {KEY: None}, {KEY: {}}, {KEY: {'count': 1, 'sizes': [1, 2], 'colors': [1, 2],
                                      'farthest': 0}},
    {KEY: {'count': 1, 'sizes': [1], 'colors': [0] * 64, 'farthest': 0}},
    {KEY: {'count': 1, 'sizes': [1, 2], 'colors': [float('nan')] * 64, 'farthest': 0}}])
def test_broken_statistics_are_none(broken):
    assert ImageStatistics.from_sidecar(broken) is None


def test_what_a_network_was_trained_on():
    assert describe_training(read_training(None), TOY_TAXONOMY) == (
        'The network adaptis_toy was trained on drawn toy images (data/toy_v1) with images of 96 '
        'pixels for 2 classes: background, object.')
    many = Taxonomy([Category(i, f'c{i}', i > 3) for i in range(12)])
    assert describe_training({}, many) == (
        'The network was trained for 12 classes: c0, c1, c2, c3, c4, c5, c6, c7 and '
        'others.')
    info = {'model': {'name': 'x'}, 'converted_from': 'a.pth', 'other': 3}
    assert 'x was trained by others (a.pth) for the class c0.' in describe_training(
        info, Taxonomy([Category(0, 'c0', True)]))
    assert training_facts(info) == {'converted_from': 'a.pth'}
