"""How much a mask depends on the click."""
from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from adaptis import cli
from adaptis.errors import AdaptisError
from adaptis.evaluation.clicks import MEASURES, WHERE, ClickQuality, click_image, click_points
from adaptis.evaluation.run import Evaluator
from adaptis.types import TOY_TAXONOMY, Sample
from toy_data import ToySettings, generate


def scene() -> Sample:
    """A square of 9 x 9 at the corner, a bar of 1 x 4, and a crowd beside them."""
    ids = np.zeros((20, 20), np.int32)
    ids[:9, :9], ids[15, 4:8], ids[10:14, 10:14], ids[19] = 1, 2, 7, -1
    return Sample(np.zeros((20, 20, 3), np.uint8), ids, {1: 1, 2: 1, 7: 1},
                  (ids > 0).astype(np.int32), frozenset({7}))


def perfect(sample: Sample):
    def masks_at(points: np.ndarray) -> np.ndarray:
        rows, cols = points.astype(int).T
        return sample.instances == sample.instances[rows, cols][:, None, None]
    return masks_at


def test_clicks_lie_where_they_say() -> None:
    square = scene().instances == 1
    rng = np.random.default_rng(0)
    anywhere, middle, border = click_points(square, 20, rng)
    assert anywhere.shape == (20, 2) and anywhere.dtype == np.float32
    assert len(np.unique(anywhere, axis=0)) == 20        # of 81 pixels
    # 25 pixels are at least 3 from the border, 20 are a quarter; 32 are at the border, which for
    # an object at the image's edge is there, too.
    assert np.abs(middle - 4).max() <= 2
    assert (np.abs(border - 4).max(axis=1) == 4).all()
    more = click_points(scene().instances == 2, 10, rng)[0]
    assert sorted(np.unique(more, axis=0, return_counts=True)[1]) == [2, 2, 3, 3]


def test_a_perfect_network_does_not_depend_on_the_click() -> None:
    rows = click_image(perfect(scene()), scene(), 5, np.random.default_rng(0))
    assert rows.shape == (2, len(WHERE), len(MEASURES)) and (rows == 1).all()


def test_measures_by_hand() -> None:
    """Masks of the square: whole, upper third, empty; those of the bar are whole, with the crowd
    and the unknown row, neither of which counts."""
    sample = scene()
    answers = np.zeros((3, 20, 20), bool)
    answers[0, :9, :9], answers[1, :3, :9] = True, True

    def masks_at(points: np.ndarray) -> np.ndarray:
        if points[0, 0] < 9:
            return answers
        bar = (sample.instances == 2) | (sample.instances == 7) | (sample.instances < 0)
        return np.repeat(bar[None], 3, axis=0)
    square, bar = click_image(masks_at, sample, 3, np.random.default_rng(0))
    for row in square:
        np.testing.assert_allclose(row, [(1 + 1 / 3) / 3, 0, 1 / 3, (1 / 3) / 3])
    assert (bar == 1).all()
    quality = ClickQuality()
    quality.add(3, np.stack([square, bar]))
    result = quality.result()
    assert result['objects'] == 2
    assert result['middle']['worst'] == pytest.approx(0.5)


def test_one_click_has_nothing_to_agree_with_and_no_object_no_mean() -> None:
    rows = click_image(perfect(scene()), scene(), 1, np.random.default_rng(0))
    assert np.isnan(rows[..., MEASURES.index('agreement')]).all()
    assert math.isnan(ClickQuality().result()['uniform']['iou'])


def test_parts_make_the_whole(tmp_path: Path) -> None:
    rng, whole = np.random.default_rng(1), Evaluator(TOY_TAXONOMY, clicks=True)
    parts = [Evaluator(TOY_TAXONOMY, clicks=True) for _ in range(2)]
    for image in range(4):
        rows = rng.random((image, len(WHERE), len(MEASURES)))
        whole.clicks.add(image, rows)
        parts[image % 2].clicks.add(image, rows)
    parts[1].save(tmp_path / 'part.npz')
    parts[0].merge(Evaluator.load(tmp_path / 'part.npz'))
    assert parts[0].clicks.result() == whole.clicks.result()
    with pytest.raises(AdaptisError, match='clicks of image 1 were added twice'):
        whole.clicks.add(1, rows)


@pytest.fixture(scope='module')
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two images, and a network of chance."""
    from adaptis.model import get_model, save_model
    from adaptis.runtime import mx
    folder = tmp_path_factory.mktemp('clicks')
    settings = ToySettings.default('v1', height=32, width=32, min_objects=2, max_objects=3)
    generate(settings, folder / 'data', {'test': 2})
    mx.random.seed(0)
    net = get_model('adaptis_toy', width=4)
    net.initialize(mx.init.Xavier(magnitude=9))
    save_model(net, folder / 'net.params')
    return folder


def evaluate(place: Path, *more: str) -> int:
    return cli.main(['evaluate', '--checkpoint', str(place / 'net.params'), '--data',
                     str(place / 'data'), '--sampling', 'random', '--set', 'num_iterations=2',
                     *more])


def test_the_command_measures_prints_and_records_them(place: Path, capsys) -> None:
    assert evaluate(place, '--clicks', '4', '--out', str(place / 'one.json')) == 0
    shown = capsys.readouterr().out
    assert 'clicks' in shown and 'border' in shown and 'means over' in shown
    record = json.loads((place / 'one.json').read_text())
    assert record['settings']['clicks'] == 4
    clicks = record['metrics']['clicks']
    assert 4 <= clicks['objects'] <= 6
    for where in WHERE:
        assert set(clicks[where]) == set(MEASURES)
        assert 0 <= clicks[where]['worst'] <= clicks[where]['iou'] <= 1
    shards = [str(place / f'{i}.npz') for i in (1, 2)]
    for i, path in enumerate(shards):
        assert evaluate(place, '--clicks', '4', '--shard', f'{i + 1}/2', '--out', path) == 0
    assert cli.main(['evaluate', '--merge', *shards, '--out', str(place / 'both.json')]) == 0
    both = json.loads((place / 'both.json').read_text())
    assert both['metrics']['clicks'] == clicks


@pytest.mark.parametrize('more, words', [
    (['--clicks', '0'], '--clicks must be at least 1'),
    (['--merge', 'a.npz', '--clicks', '3'], 'Nothing to measure'),
])
def test_mistakes(place: Path, capsys, more: list, words: str) -> None:
    assert evaluate(place, *more) == 1
    assert words in capsys.readouterr().err


def test_a_detector_has_no_masks_of_points(place: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / 'other.json').write_text(json.dumps({'model': {'name': 'mask_rcnn_r50'}}))
    (tmp_path / 'other.params').write_bytes(b'')
    assert cli.main(['evaluate', '--checkpoint', str(tmp_path / 'other.params'), '--data',
                     str(place / 'data'), '--clicks', '2']) == 1
    assert '--clicks needs a network that predicts the mask at a point' in capsys.readouterr().err
