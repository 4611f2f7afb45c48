"""Street scenes: their content, and that the readers of real data sets read them."""
from __future__ import annotations

import json
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from adaptis.cli import main
from adaptis.data.check import find_problem
from adaptis.data.datasets import open_dataset
from toy_data import ToySettings, generate, render
from toy_data.layer import MIN_VISIBLE
from toy_data.street import BUSH, CATEGORIES, FIRST_OBJECT

SETTINGS = ToySettings.default('street')
STUFF = {c.id for c in CATEGORIES if not c.isthing}
THINGS = {c.id for c in CATEGORIES if c.isthing}
# CRC-32 of image and ids; they change only together with settings.REVISION.
CASES = {
    ('train', 0, ()): (1243055370, 3505983138),
    ('train', 3999, ()): (3673229180, 2099751946),
    ('val', 0, ()): (1127973308, 4126719804),
    ('val', 3, (('seed', 7),)): (1651083497, 3732784672),
    ('test', 1, (('height', 100), ('width', 160), ('min_objects', 30), ('max_objects', 30))):
        (3118989987, 2539034183),
}


@pytest.fixture(scope='module')
def scenes():
    return [render(SETTINGS, 'train', i) for i in range(40)]


@pytest.mark.parametrize('split, index, changes', list(CASES))
def test_pixels_are_those_of_every_other_machine(split, index, changes):
    image, ids = render(ToySettings.default('street', **dict(changes)), split, index)
    assert (zlib.crc32(image.tobytes()), zlib.crc32(ids.astype('<u2').tobytes())) == CASES[
        (split, index, changes)]


def test_every_object_is_counted_and_visible(scenes):
    counts = []
    for image, ids in scenes:
        assert image.shape == (128, 256, 3) and image.dtype == np.uint8 and ids.dtype == np.uint16
        numbers, areas = np.unique(ids, return_counts=True)
        assert areas[numbers >= FIRST_OBJECT].min() >= MIN_VISIBLE
        assert set(numbers[numbers >= FIRST_OBJECT] // FIRST_OBJECT) <= THINGS
        counts.append((numbers >= FIRST_OBJECT).sum())
    assert max(counts) <= SETTINGS.max_objects and np.mean(counts) > SETTINGS.min_objects


def test_classes_crowds_and_void_all_occur(scenes):
    seen = np.unique(np.concatenate([np.unique(ids) for _, ids in scenes]))
    assert set(seen) >= STUFF and set(seen[seen >= FIRST_OBJECT] // FIRST_OBJECT) == THINGS
    assert 24 in seen          # a group of persons
    assert {1, 4} <= set(seen)   # the observer's car and litter, which are void
    for _, ids in scenes:
        assert np.isin(ids[ids < FIRST_OBJECT], [*STUFF, 24, 1, 4]).all()


def test_objects_are_larger_where_they_are_nearer(scenes):
    places = [(np.flatnonzero((ids == i).any(1))[-1], (ids == i).sum())
              for _, ids in scenes for i in np.unique(ids[ids >= FIRST_OBJECT])]
    foot, area = np.array(places).T
    assert np.corrcoef(foot, area)[0, 1] > 0.4


def test_objects_cover_each_other(scenes):
    """Boxes of one class often overlap, which is what makes instances hard to tell apart."""
    shares = [_best_overlap(ids) for _, ids in scenes]
    assert np.mean(np.concatenate(shares) > 0.3) > 0.15


def _best_overlap(ids):
    boxes = []
    for i in np.unique(ids[ids >= FIRST_OBJECT]):
        rows, cols = (np.flatnonzero((ids == i).any(axis)) for axis in (1, 0))
        boxes.append((i // FIRST_OBJECT, cols[0], rows[0], cols[-1] + 1, rows[-1] + 1))
    best = np.zeros(len(boxes))
    for a, (kind, *box) in enumerate(boxes):
        for other, *rest in boxes[:a] + boxes[a + 1:]:
            wide = min(box[2], rest[2]) - max(box[0], rest[0])
            tall = min(box[3], rest[3]) - max(box[1], rest[1])
            if kind == other and wide > 0 and tall > 0:
                areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in (box, rest)]
                best[a] = max(best[a], wide * tall / (sum(areas) - wide * tall))
    return best


@pytest.mark.parametrize('height, width', [(48, 96), (96, 64), (256, 512), (9, 9)])
def test_any_size(height, width):
    settings = ToySettings.default('street', height=height, width=width, min_objects=1,
                                   max_objects=2)
    image, ids = render(settings, 'val', 0)
    assert image.shape == (height, width, 3) and ids.shape == (height, width)


def test_what_surrounds_few_objects():
    settings = ToySettings.default('street', min_objects=1, max_objects=1)
    for index in range(150):   # one of them has a crowd, a bush, litter and the observer's car
        assert (np.unique(render(settings, 'train', index)[1]) >= FIRST_OBJECT).sum() <= 1


def test_too_many_objects_to_be_counted():
    with pytest.raises(ValueError, match='ask for at most 996'):
        ToySettings.default('street', height=512, width=512, max_objects=997)


@pytest.mark.parametrize('layout', ['coco', 'cityscapes'])
def test_the_readers_of_real_data_read_it(tmp_path: Path, layout: str) -> None:
    generate(SETTINGS, tmp_path, {'train': 3, 'val': 2}, layout=layout)
    assert len(open_dataset(layout, tmp_path, 'val')) == 2
    dataset = open_dataset(layout, tmp_path, 'train')
    taxonomy = dataset.taxonomy
    if layout == 'coco':
        assert [c.id for c in taxonomy.categories] == [c.id for c in CATEGORIES]
    for index in range(3):
        image, ids = render(SETTINGS, 'train', index)
        sample = dataset[index]
        np.testing.assert_array_equal(sample.image, image)
        labels = np.where(ids < FIRST_OBJECT, ids, ids // FIRST_OBJECT)
        classes = {c.id: taxonomy.index(c.id) for c in CATEGORIES}
        table = np.full(256, -1)
        table[list(classes)] = list(classes.values())
        np.testing.assert_array_equal(sample.semantic, table[labels])
        objects = [int(i) for i in np.unique(ids) if i >= FIRST_OBJECT or i in THINGS]
        assert len(sample.classes) == len(objects)
        for i in objects:
            found = np.unique(sample.instances[ids == i])
            assert len(found) == 1 and (sample.instances == found[0]).sum() == (ids == i).sum()
            assert sample.classes[int(found[0])] == classes[i if i in THINGS else i // FIRST_OBJECT]
            assert (int(found[0]) in sample.ignored) == (i in THINGS)


def test_the_panoptic_json_is_complete(tmp_path: Path) -> None:
    generate(SETTINGS, tmp_path, {'val': 2})
    content = json.loads((tmp_path / 'val' / 'panoptic.json').read_text())
    assert [image['width'] for image in content['images']] == [256, 256]
    for entry in content['annotations']:
        colors = cv2.imread(str(tmp_path / 'val' / 'panoptic' / entry['file_name']))
        ids = colors[:, :, 2].astype(int) + 256 * colors[:, :, 1].astype(int)
        for segment in entry['segments_info']:
            left, top, wide, tall = segment['bbox']
            inside = ids[top:top + tall, left:left + wide] == segment['id']
            assert inside.sum() == segment['area'] == (ids == segment['id']).sum()
        assert {s['id'] for s in entry['segments_info']} == set(np.unique(ids)) - {0}
    assert BUSH in STUFF   # what stands in front is no class of its own


def test_more_images_later_and_another_layout(tmp_path: Path) -> None:
    generate(SETTINGS, tmp_path, {'val': 1})
    assert generate(SETTINGS, tmp_path, {'val': 3}) == 2
    assert len(open_dataset('coco', tmp_path, 'val')) == 3
    listing = tmp_path / 'val' / 'panoptic.json'
    whole, written = listing.read_bytes(), listing.stat().st_mtime_ns
    assert generate(SETTINGS, tmp_path, {'val': 3}) == 0 and listing.stat().st_mtime_ns == written
    listing.write_bytes(whole[:100])   # as a crash may leave it
    assert generate(SETTINGS, tmp_path, {'val': 3}) == 0 and listing.read_bytes() == whole
    with pytest.raises(ValueError, match='layout = coco, not cityscapes'):
        generate(SETTINGS, tmp_path, {'val': 3}, layout='cityscapes')
    with pytest.raises(ValueError, match="cannot be written in the layout 'toy'"):
        generate(SETTINGS, tmp_path / 'b', {'val': 3}, layout='toy')


def test_by_command(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = str(tmp_path / 'city')
    assert main(['toy', '--version', 'street', '--out', out, '--layout', 'cityscapes', '--split',
                 'val', '--count', '2', '--size', '48', '96', '--objects', '1', '4']) == 0
    dataset = open_dataset('cityscapes', out, 'val')
    assert [find_problem(dataset, i) for i in range(2)] == [None, None]
    assert main(['toy', '--version', 'street', '--contact-sheet', str(tmp_path / 'a.png')]) == 0
    assert cv2.imread(str(tmp_path / 'a.png')).shape[1] > 1000
    capsys.readouterr()
    for options, words in ((['--version', 'street', '--out', out, '--coco'], 'leave out --coco'),
                           (['--out', out, '--layout', 'coco'], '--layout is only for street')):
        assert main(['toy', *options]) != 0
        assert words in capsys.readouterr().err
