"""The paper's algorithm against a plain one, pixel by pixel, on masks that overlap at random."""
from __future__ import annotations

import random
from pathlib import Path
from typing import Any, Optional

import cv2
import numpy as np
import pytest

from adaptis.deploy.export import export
from adaptis.inference.encoded_image import EncodedImage
from adaptis.inference.greedy_paper import select_masks
from adaptis.inference.panoptic import segment, segment_tiles
from adaptis.inference.predictor import Predictor
from adaptis.inference.settings import AdaptISSettings
from adaptis.loading import load_predictor
from adaptis.model import load_model
from tests.adaptis.inference.scene_network import DrawnImage
from toy_data import ToySettings, render

SIZE = (16, 22)
SETTINGS = AdaptISSettings(algorithm='paper', proposal_blur=0, proposal_threshold=0.1,
                           proposal_climb=1e-6, proposal_step=1e-5, min_area=99)


class Scene(EncodedImage):
    """Blurred random blobs: every pixel asks for one of a few masks; some pixels are stuff."""

    def __init__(self, seed: int):
        rng = np.random.default_rng(seed)
        self.masks = np.stack([self._blob(rng) for _ in range(9)])
        self.owner = rng.integers(0, 9, SIZE)
        stuff = cv2.blur(rng.random(SIZE), (5, 5)).astype(np.float32)
        stuff = (stuff > np.quantile(stuff, 0.8)) * 0.6 + 0.1
        share = cv2.blur(rng.random(SIZE), (7, 7)).astype(np.float32)
        self.stuff_prob = np.stack([stuff * share, stuff * (1 - share)]).astype(np.float32)
        self.things_prob = np.stack([(1 - stuff) * (1 - share), (1 - stuff) * share]).astype(
            np.float32)
        self.peaks = [(int(row), int(col)) for row in range(1, 15, 3) for col in range(1, 21, 3)]
        self.proposals_prob = np.full(SIZE, 0.2, np.float32)
        for row, col in self.peaks:
            self.proposals_prob[row, col] = rng.uniform(0.3, 0.98)

    @staticmethod
    def _blob(rng: np.random.Generator) -> np.ndarray:
        mask = np.zeros(SIZE, np.float32)
        row, col = rng.integers(0, SIZE[0] - 4), rng.integers(0, SIZE[1] - 4)
        mask[row:row + rng.integers(4, 9), col:col + rng.integers(4, 9)] = rng.uniform(0.7, 1)
        return cv2.blur(mask, (3, 3))

    def masks_at(self, points: np.ndarray) -> np.ndarray:
        rows, cols = points.astype(int).T
        return self.masks[self.owner[rows, cols]].copy()


class Plain:
    """Sections 4 and 5 by loops over pixels: the accepted masks in order, and who owns a pixel."""

    def __init__(self, scene: Scene, ignore: Optional[np.ndarray] = None):
        self.scene, self.accepted = scene, []
        self.pixels = [(r, c) for r in range(SIZE[0]) for c in range(SIZE[1])]
        self.state = dict.fromkeys(self.pixels, 'unknown')
        for p in self.pixels:
            stuff, things = (max(maps[:, p[0], p[1]]) for maps in (scene.stuff_prob,
                                                                   scene.things_prob))
            if stuff >= things or (ignore is not None and ignore[p]):
                self.state[p] = 'segmented'

    def mask_at(self, point: tuple[int, int]) -> np.ndarray:
        return self.scene.masks[self.scene.owner[point]]

    def by_proposals(self) -> Plain:
        for peak in sorted(self.scene.peaks, key=lambda p: -self.scene.proposals_prob[p]):
            if self.state[peak] == 'unknown':
                self.take(self.mask_at(peak))
        return self

    def by_chance(self, draw: Any) -> Plain:
        while True:
            unknown = [p for p in self.pixels if self.state[p] == 'unknown']
            if not unknown:
                return self
            points = [unknown[i] for i in draw(len(unknown), min(7, len(unknown)))]
            best = max(points, key=lambda p: self.confidence(self.mask_at(p)))   # the first of them
            if not self.take(self.mask_at(best)):
                self.state.update(dict.fromkeys(points, 'given up'))

    def confidence(self, mask: np.ndarray) -> float:
        values = [mask[p] for p in self.pixels if mask[p] > 0.4]
        return sum(values) / len(values) if values else 0.0

    def take(self, mask: np.ndarray) -> bool:
        inside = [p for p in self.pixels if mask[p] > 0.4]
        covered = sum(self.state[p] == 'segmented' for p in inside)
        if not inside or covered / len(inside) >= 0.5:
            return False
        self.accepted.append(mask)
        self.state.update(dict.fromkeys(inside, 'segmented'))
        return True

    def owner(self) -> np.ndarray:
        owner = np.zeros(SIZE, int)
        for p in self.pixels:
            values = [mask[p] for mask in self.accepted]
            if values and max(values) > 0.4:
                owner[p] = 1 + values.index(max(values))
        return owner


def drawing(seed: int) -> Any:
    generator = random.Random(seed)
    return lambda left, count: generator.sample(range(left), count)


@pytest.mark.parametrize('sampling', ['proposals', 'random'])
@pytest.mark.parametrize('with_ignore', [False, True])
def test_equals_a_plain_implementation(sampling: str, with_ignore: bool) -> None:
    ignore = np.zeros(SIZE, int)
    ignore[4:9, 5:12] = 1
    ignore = ignore if with_ignore else None
    counts = []
    for seed in range(4):
        scene = Scene(seed)
        right = Plain(scene, ignore)
        right = right.by_proposals() if sampling == 'proposals' else right.by_chance(drawing(seed))
        accepted = right.accepted
        for batch_size in (1, 5):
            settings = SETTINGS.replace(sampling=sampling, batch_size=batch_size)
            found = segment(scene, settings, ignore, drawing(seed))
            assert len(found.merged.masks) == len(accepted)
            np.testing.assert_array_equal(found.merged.masks, accepted)
            np.testing.assert_array_equal(found.merged.instances, right.owner())
        for mask, class_id in zip(accepted, found.merged.class_ids):
            sums = (scene.things_prob * (mask > 0.4)).sum(axis=(1, 2))
            assert class_id == 2 + sums.argmax()
        counts.append(len(accepted))
    assert min(counts) >= 1 and sum(counts) >= 8


def test_the_two_algorithms_differ_where_the_paper_and_the_code_do() -> None:
    """A mask that is mostly stuff is refused by the paper alone; low masks win by the paper alone.
    """
    owner = np.ones((8, 12), int)
    image = DrawnImage(owner, [owner * 0.5], np.full((8, 12), 0.2, np.float32))
    image.proposals_prob[4, 6] = 0.9
    image.things_prob[:] = 0.8
    image.stuff_prob = 1 - image.things_prob
    easy = SETTINGS.replace(min_area=0)
    paper, official = (segment(image, easy.replace(algorithm=name)).merged
                       for name in ('paper', 'official'))
    assert (paper.instances == 1).all() and (official.instances == 1).all()
    image.things_prob[..., :7] = 0.45                # still above things_threshold, but stuff
    image.stuff_prob = 1 - image.things_prob
    image.proposals_prob[4, 9] = 0.95
    paper, official = (segment(image, easy.replace(algorithm=name)).merged
                       for name in ('paper', 'official'))
    assert not paper.masks and len(official.masks) == 1


def test_points_on_stuff_are_not_asked_and_the_search_ends_without_a_limit() -> None:
    owner = np.ones((10, 10), int)
    image = DrawnImage(owner, [np.zeros((10, 10))])    # every mask is empty
    image.things_prob[..., :4] = 0.1
    image.stuff_prob = 1 - image.things_prob
    selection = select_masks(image, SETTINGS.replace(sampling='random'))
    assert not selection.masks and selection.queried == 60
    assert (np.concatenate(image.batches)[:, 1] >= 4).all()
    limited = select_masks(image, SETTINGS.replace(sampling='random', num_iterations=3))
    assert limited.queried == 21


def test_proposals_on_stuff_do_not_count_and_those_of_things_are_all_tried() -> None:
    scene = Scene(3)
    asked = [select_masks(scene, SETTINGS.replace(max_candidates=n)).queried for n in (None, 2, 1)]
    unknown = sum(scene.stuff_prob[:, r, c].max() < scene.things_prob[:, r, c].max()
                  for r, c in scene.peaks)
    assert asked[0] > 2 >= asked[1] > asked[2] == 1 and asked[0] <= unknown < len(scene.peaks)


def test_tiles_find_what_the_whole_finds() -> None:
    owner = np.repeat(np.repeat(np.arange(1, 10).reshape(3, 3), 8, axis=0), 8, axis=1)

    def encode(image: np.ndarray) -> DrawnImage:
        rows, cols = image[..., 0], image[..., 1]
        part = owner[rows[0, 0]:rows[-1, 0] + 1, cols[0, 0]:cols[0, -1] + 1]
        masks = [part == k for k in range(1, 10)]
        return DrawnImage(part, masks)
    image = np.stack([*np.mgrid[:24, :24], np.zeros((24, 24), int)], -1).astype(np.uint8)
    settings = SETTINGS.replace(sampling='random')
    whole = segment_tiles(encode, image, settings).merged.instances
    tiled = segment_tiles(encode, image, settings.replace(tile=(16, 16))).merged.instances
    for instances in (whole, tiled):
        assert len(np.unique(instances * 100 + owner)) == 9 == instances.max()


@pytest.mark.parametrize('sampling', ['proposals', 'random'])
def test_networks_are_used_imperative_hybridized_and_exported(tmp_path: Path,
                                                              sampling: str) -> None:
    image, _ = render(ToySettings.default('v1', seed=1), 'test', 0)
    settings = AdaptISSettings(algorithm='paper', sampling=sampling, proposal_threshold=0.01,
                               num_iterations=3)
    results = []
    for hybridize in (False, True):
        net = load_model('toy_v1')
        net.hybridize(hybridize)
        predictor = Predictor(net, settings)
        results.append(predictor.set_image(image).panoptic())
    export(predictor, tmp_path / 'exported', 'mxnet')
    exported = load_predictor(tmp_path / 'exported')
    assert exported.settings == settings
    results.append(exported.set_image(image).panoptic())
    assert len(results[0].segments) > 2
    for result in results[1:]:
        np.testing.assert_array_equal(result.segment_map, results[0].segment_map)
