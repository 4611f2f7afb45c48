from __future__ import annotations

import json

import numpy as np
import pytest
from evaluation_cases import TAXONOMY, result, row

from adaptis.errors import AdaptisError
from adaptis.evaluation.coco import PanopticFolder
from adaptis.evaluation.formats import FORMATS, open_writer
from adaptis.files import read_ids
from adaptis.types import Category, PanopticResult, Segment, Taxonomy

CITY = Taxonomy([Category(7, 'road', False), Category(23, 'sky', False),
                 Category(24, 'person', True), Category(26, 'car', True)])
NAME = 'frankfurt_000000_000294'
FILE = f'frankfurt/{NAME}_leftImg8bit.png'


def street():
    """A road, two cars, a person without pixels, and a pixel of nothing."""
    return PanopticResult(np.array([[5, 5, 9, 9], [5, 300, 300, 0]], np.int32), [
        Segment(5, 7, False, 1.0, 3), Segment(300, 26, True, 1 / 3, 2),
        Segment(8, 24, True, .9, 0), Segment(9, 26, True, .75, 2)])


def files(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob('*') if p.is_file())


def same(record, expected):
    assert (record.result.segment_map == expected.segment_map).all()
    assert record.result.segments == [s for s in expected.segments if s.area]


def test_coco(tmp_path):
    picture = result(row((1, 2), (2, 3)), {1: 21, 2: 7}, {1: .25})
    for _ in range(2):  # a second run replaces the first
        with open_writer('coco', tmp_path, TAXONOMY) as writer:
            writer.add(139, '000000000139.jpg', picture)
    assert files(tmp_path) == ['instances.json', 'panoptic.json', 'panoptic/000000000139.png']
    same(PanopticFolder(tmp_path / 'panoptic.json').read(139), picture)
    found, = json.loads((tmp_path / 'instances.json').read_text())
    assert (found['image_id'], found['category_id'], found['score']) == (139, 21, .25)


def test_cityscapes(tmp_path):
    with open_writer('cityscapes', tmp_path, CITY) as writer:
        writer.add(0, FILE, street())
    assert files(tmp_path) == [
        f'instances/{NAME}.txt', f'instances/masks/{NAME}_0.png', f'instances/masks/{NAME}_1.png',
        'panoptic.json', f'panoptic/{NAME}_panoptic.png', f'semantic/{NAME}_labelIds.png']
    same(PanopticFolder(tmp_path / 'panoptic.json').read(NAME), street())
    labels = read_ids(tmp_path / 'semantic' / f'{NAME}_labelIds.png')
    assert labels.tolist() == [[7, 7, 26, 26], [7, 26, 26, 0]]
    lines = (tmp_path / 'instances' / f'{NAME}.txt').read_text().splitlines()
    assert [line.split(' ')[1:] for line in lines] == [['26', repr(1 / 3)], ['26', '0.75']]
    for line, segment in zip(lines, (300, 9)):
        mask = read_ids(tmp_path / 'instances' / line.split(' ')[0])
        assert (mask > 0).tolist() == (street().segment_map == segment).tolist()


def test_cityscapes_takes_the_labels_of_the_semantic_branch(tmp_path):
    picture = street()
    picture.semantic = np.array([[0, 1, 2, 3], [-1, 0, 0, 0]], np.int32)
    with open_writer('cityscapes', tmp_path, CITY) as writer:
        writer.add(0, FILE, picture)
        picture.semantic = picture.semantic[:1]
        with pytest.raises(AdaptisError, match='semantic map and the segments have'):
            writer.add(1, FILE.replace('294', '295'), picture)
    labels = read_ids(tmp_path / 'semantic' / f'{NAME}_labelIds.png')
    assert labels.tolist() == [[7, 23, 24, 26], [0, 7, 7, 7]]


def test_an_image_without_objects_has_an_empty_list(tmp_path):
    nothing = PanopticResult(np.zeros((2, 3), np.int32), [])
    with open_writer('cityscapes', tmp_path, CITY) as writer:
        writer.add(0, FILE, nothing)
    assert (tmp_path / 'instances' / f'{NAME}.txt').read_text() == ''
    assert not (tmp_path / 'instances' / 'masks').exists()


def test_vistas(tmp_path):
    picture = result(row((1, 2), (2, 3)), {1: 21, 2: 7})
    with open_writer('vistas', tmp_path, TAXONOMY) as writer:
        writer.add(17, 'images/_1Gn_xkw7sa_i9GU4mkxxQ.jpg', picture)
    assert files(tmp_path) == ['panoptic.json', 'panoptic/_1Gn_xkw7sa_i9GU4mkxxQ.png']
    same(PanopticFolder(tmp_path / 'panoptic.json').read('_1Gn_xkw7sa_i9GU4mkxxQ'), picture)


@pytest.mark.parametrize('first', FORMATS)
@pytest.mark.parametrize('second', FORMATS)
def test_results_are_not_mixed(tmp_path, first, second):
    with open_writer(first, tmp_path, CITY) as writer:
        writer.add(1, FILE, street())
    before = {name: (tmp_path / name).read_bytes() for name in files(tmp_path)}
    if (first, second) == ('coco', 'coco'):
        open_writer(second, tmp_path, CITY).__exit__(None, None, None)
        return
    with pytest.raises(AdaptisError, match='contains results'):
        open_writer(second, tmp_path, CITY)
    assert {name: (tmp_path / name).read_bytes() for name in files(tmp_path)} == before


def test_nothing_incomplete_has_a_name(tmp_path):
    with pytest.raises(KeyboardInterrupt), open_writer('cityscapes', tmp_path, CITY) as writer:
        writer.add(0, FILE, street())
        raise KeyboardInterrupt
    assert 'panoptic.json' not in files(tmp_path) and len(files(tmp_path)) == 5


@pytest.mark.parametrize('name, message', [
    ('dog.jpg', 'dog.jpg is not named like an image'),
    ('frankfurt_1_2_leftImg8bit.png', 'six digits'),
    (FILE, f'Image {NAME} .* was added twice'),
])
def test_images_that_cityscapes_cannot_know(tmp_path, name, message):
    with open_writer('cityscapes', tmp_path, CITY) as writer:
        writer.add(0, FILE, street())
        with pytest.raises(AdaptisError, match=message):
            writer.add(1, name, street())


@pytest.mark.parametrize('format, taxonomy, message', [
    ('kitti', CITY, 'no format "kitti": choose from coco, cityscapes, vistas'),
    ('cityscapes', TAXONOMY, r'Category 9 \(grass, stuff\) is not a label'),
    ('cityscapes', Taxonomy([Category(26, 'car', False)]), r'\(car, stuff\) is not a label'),
])
def test_what_a_format_cannot_hold(tmp_path, format, taxonomy, message):
    with pytest.raises(AdaptisError, match=message):
        open_writer(format, tmp_path, taxonomy)
    assert not files(tmp_path)


@pytest.mark.parametrize('format, images, message', [
    ('coco', [(1, 'a.png'), ('1', 'b.png')], 'a.png and b.png would have the same id "1"'),
    ('vistas', [(1, 'x/a.png'), (2, 'y/a.png')], 'x/a.png and y/a.png would have the same id "a"'),
    ('cityscapes', [(1, 'a_000000_000001.png'), (2, 'b.png')], 'b.png is not named like an image'),
    ('cityscapes', [(1, 'a_000000_000001_x.png'), (2, 'a_000000_000001_y.png')], 'the same id')])
def test_images_that_a_format_cannot_tell_apart_are_refused_in_advance(tmp_path, format, images,
                                                                       message):
    taxonomy = CITY if format == 'cityscapes' else TAXONOMY
    with open_writer(format, tmp_path, taxonomy) as writer, \
            pytest.raises(AdaptisError, match=message):
        writer.plan(images)


def test_pngs_have_names_that_do_not_depend_on_the_order(tmp_path):
    picture = result(row((1, 2), (2, 3)), {1: 21, 2: 7}, {1: .25})
    images = [(1, 'cam0/frame.png'), (2, 'cam1/frame.png'), (3, 'a.jpg'), (4, 'a.png')]
    with open_writer('coco', tmp_path, TAXONOMY) as writer:
        writer.plan(images)
        for image_id, name in reversed(images):
            writer.add(image_id, name, picture)
    assert files(tmp_path / 'panoptic') == ['a.jpg.png', 'a.png.png', 'cam0/frame.png',
                                            'cam1/frame.png']
