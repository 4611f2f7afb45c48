"""``adaptis import``: labelled images of other tools become data that check-data accepts."""
from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adaptis.cli import main
from adaptis.commands.import_data import draw_segments
from adaptis.data.datasets import open_dataset
from adaptis.data.sources import LabelledImage, LabelledObject, open_sources
from adaptis.errors import AdaptisError
from adaptis.files import write_image
from adaptis.interop import to_labelme
from adaptis.polygons import mask_to_polygons
from adaptis.types import Category, PanopticResult, Segment, Taxonomy
from tests.miniatures import write_coco, write_instances

SIZE = (32, 48)
COUNT = 5


def ids_of(index: int) -> np.ndarray:
    """Two discs apart, of the class "cell", and a bar "wire" that covers neither."""
    rows, cols = np.mgrid[:SIZE[0], :SIZE[1]]
    ids = np.zeros(SIZE, np.int32)
    ids[(rows - 9) ** 2 + (cols - 9 - index) ** 2 < 36] = 1
    ids[(rows - 20) ** 2 + (cols - 30) ** 2 < 49] = 2
    ids[28:31, 4:40] = 3
    return ids


def picture(index: int) -> np.ndarray:
    return np.repeat((ids_of(index) * 60 + 20).astype(np.uint8)[..., None], 3, axis=2)


def write_labelme(root: Path) -> None:
    for index in range(COUNT):
        name = f'{"ab"[index % 2]}/p{index}'
        ids = ids_of(index)
        result = PanopticResult(ids, [Segment(k, 0, True, 1.0, 1, 'wire' if k == 3 else 'cell')
                                      for k in (1, 2, 3)])
        content = to_labelme(result, f'p{index}.png', tolerance=0)
        write_image(root / f'{name}.png', picture(index))
        (root / f'{name}.json').write_text(json.dumps(content))


def write_masks(root: Path) -> None:
    for index in range(COUNT):
        write_image(root / 'images' / f'p{index}.png', picture(index))
        for k, name in ((1, 'cell_1'), (2, 'cell_2'), (3, 'wire/x')):
            write_image(root / 'masks' / f'p{index}' / f'{name}.png',
                        (ids_of(index) == k).astype(np.uint8) * 255)


def write_folders(root: Path) -> None:
    """A folder for each image, with classes in subfolders."""
    for index in range(COUNT):
        folder = root / f'p{index}'
        write_image(folder / 'images' / f'p{index}.png', picture(index))
        for k, name in ((1, 'cell/0a1f'), (2, 'cell/77'), (3, 'wire/1')):
            write_image(folder / 'masks' / f'{name}.png',
                        (ids_of(index) == k).astype(np.uint8) * 255)


def write_xml(root: Path) -> None:
    """LabelMe's XML: discs as polygons, the bar as a mask; a deleted object does not count."""
    for index in range(COUNT):
        ids, entries = ids_of(index), []
        for k in (1, 2):
            outline, = mask_to_polygons(ids == k)
            points = ''.join(f'<pt><x>{x}</x><y>{y}</y></pt>' for x, y in outline)
            entries.append(f'<object><name>cell</name><deleted>0</deleted><polygon>{points}'
                           '</polygon></object>')
        entries.append(f'<object><name>wire</name><segm><mask>p{index}_2.png</mask></segm>'
                       '</object><object><name>gone</name><deleted>1</deleted><polygon/></object>')
        write_image(root / 'Masks' / f'p{index}_2.png', (ids == 3).astype(np.uint8) * 255)
        write_image(root / f'p{index}.png', picture(index))
        (root / f'p{index}.xml').write_text(
            f'<annotation><filename>p{index}.png</filename>{"".join(entries)}</annotation>')


WRITERS = {'xml': write_xml, 'labelme': write_labelme, 'masks': write_masks,
           'folders': write_folders}


@pytest.mark.parametrize('kind', WRITERS)
def test_every_format_becomes_the_same_samples(tmp_path: Path, kind: str, capsys: Any) -> None:
    WRITERS[kind](tmp_path / 'in')
    out = tmp_path / 'out'
    assert main(['import', str(tmp_path / 'in'), '--out', str(out)]) == 0
    printed = capsys.readouterr().out
    assert '4 images, 12 objects.' in printed and '1 image, 3 objects.' in printed
    assert 'background (stuff), cell (things), wire (things)' in printed
    assert main(['check-data', '--dataset', 'coco', '--data', str(out), '--processes', '1']) == 0
    seen = set()
    for split in ('train', 'val'):
        dataset = open_dataset('coco', out, split)
        for index in range(len(dataset)):
            number = int(Path(dataset.file_name(index)).stem[1:])
            sample, ids = dataset[index], ids_of(number)
            seen.add(number)
            np.testing.assert_array_equal(sample.instances > 0, ids > 0)
            np.testing.assert_array_equal(sample.semantic, np.array([0, 1, 1, 2])[ids])
            assert len(np.unique(sample.instances)) == 4
    assert seen == set(range(COUNT))


def test_a_map_of_numbers_has_one_class(tmp_path: Path) -> None:
    for index in range(2):
        write_image(tmp_path / 'images' / f'p{index}.png', picture(index))
        write_image(tmp_path / 'masks' / f'p{index}.png', ids_of(index).astype(np.uint8))
    out = tmp_path / 'out'
    assert main(['import', str(tmp_path), '--out', str(out), '--val', '0', '--no-background',
                 '--link']) == 0
    dataset = open_dataset('coco', out, 'train')
    assert [c.name for c in dataset.taxonomy.categories] == ['object']
    assert not (out / 'val').exists() and dataset.images.path(0).is_symlink()
    np.testing.assert_array_equal(dataset[1].semantic, (ids_of(1) > 0).astype(int) - 1)


def test_coco_instances_keep_their_splits_and_crowds(tmp_path: Path) -> None:
    write_coco(tmp_path, splits=['train', 'val'])
    write_instances(tmp_path, splits=['train', 'val'])
    shutil.rmtree(tmp_path / 'annotations' / 'panoptic_train2017')
    for split in ('train', 'val'):
        (tmp_path / 'annotations' / f'panoptic_{split}2017.json').unlink()
    assert main(['import', str(tmp_path), '--out', str(tmp_path / 'out')]) == 0
    for split in ('train', 'val'):
        expected = open_dataset('coco', tmp_path, split, annotation='instances')
        found = open_dataset('coco', tmp_path / 'out', split)
        assert len(found) == len(expected) == 3 and found.taxonomy.num_stuff == 1
        for index in range(3):
            np.testing.assert_array_equal(found[index].instances > 0,
                                          expected[index].objects.layers.max(axis=0) > 0)
    assert sum(len(found[k].ignored) for k in range(3)) > 0


def test_splits_may_be_imported_one_after_the_other(tmp_path: Path, capsys: Any) -> None:
    write_masks(tmp_path / 'in')
    arguments = ['import', str(tmp_path / 'in'), '--out', str(tmp_path / 'out')]
    assert main([*arguments, '--split', 'train', '--stuff', 'wire']) == 0
    assert main([*arguments, '--split', 'train', '--stuff', 'wire']) == 1
    assert 'train already exists' in capsys.readouterr().err
    assert main([*arguments, '--split', 'val']) == 1
    assert 'The label wire has a different type' in capsys.readouterr().err
    assert main([*arguments, '--split', 'val', '--stuff', 'wire']) == 0
    taxonomy = open_dataset('coco', tmp_path / 'out', 'val').taxonomy
    assert [(c.name, c.isthing) for c in taxonomy.categories] == [('wire', False), ('cell', True)]


def test_smaller_things_lie_on_larger_ones_and_those_on_stuff() -> None:
    taxonomy = Taxonomy([Category(1, 'grass', False), Category(2, 'cow', True),
                         Category(3, 'rest', False)])
    masks = {name: np.zeros((8, 8), bool) for name in 'abcd'}
    masks['a'][2:4, 2:4], masks['b'][1:6, 1:6], masks['c'][:7, :7] = True, True, True
    masks['d'][2, 2] = True
    void = np.zeros((8, 8), bool)
    void[7] = True
    objects = [LabelledObject('cow', masks['a']), LabelledObject('cow', masks['b'], crowd=True),
               LabelledObject('grass', masks['c']), LabelledObject('cow', masks['a'] ^ masks['d'])]
    drawn = draw_segments(LabelledImage(Path('x'), 'x', (8, 8), objects, void), taxonomy, 'rest')
    areas = sorted((s.name, s.area) for s in drawn.result.segments)
    assert areas == [('cow', 1), ('cow', 3), ('cow', 21), ('grass', 24), ('rest', 7)]
    assert len(drawn.crowd) == 1 and drawn.hidden == 0
    objects.insert(0, LabelledObject('cow', masks['d']))
    assert draw_segments(LabelledImage(Path('x'), 'x', (8, 8), objects), taxonomy).hidden == 1


def shape(**values: Any) -> dict:
    return {'label': 'a', 'points': [[1, 1], [9, 1], [9, 9]], 'shape_type': 'polygon', **values}


@pytest.mark.parametrize('kind, points, area', [
    ('rectangle', [[9, 9], [1, 1]], 64), ('circle', [[10, 10], [10, 15]], 78),
    ('polygon', [[1, 1], [9, 1], [9, 9], [1, 9]], 64)])
def test_shapes_of_labelme(tmp_path: Path, kind: str, points: list, area: int) -> None:
    write_image(tmp_path / 'x.png', picture(0))
    (tmp_path / 'x.json').write_text(json.dumps({'shapes': [
        shape(shape_type=kind, points=points, group_id=4),
        shape(points=[[20, 20], [30, 20], [30, 30], [20, 30]], group_id=4),
        shape(label='__ignore__'), shape(label='_background_'), shape(shape_type='line')],
        'imagePath': 'C:\\photos\\x.png'}))
    source, = open_sources(tmp_path)
    image = source.read(0)
    item, = image.objects
    assert abs(item.mask[:19].sum() - area) <= 2 and item.mask[20:].sum() == 100
    assert image.void.any() and source.labels == ['a']
    assert '1 points or lines' in source.problems[0]


@pytest.mark.parametrize('change, words', [
    (shape(points=[[1, 1], [2, 2]]), r'shape 1 \(a\) has 2 points, but a polygon has 3 or more'),
    (shape(points='x'), 'points that are not pairs of numbers'),
    (shape(points=[[1, 1], [2, float('nan')], [3, 3]]), 'a point that is not finite'),
    (shape(shape_type='heart'), 'has the unknown shape type heart'),
    (shape(shape_type='mask', points=[[1, 1], [2, 2]], mask='??'), 'no mask that can be decoded'),
    ({'points': []}, 'shape 1 has no label'),
])
def test_what_is_wrong_with_a_shape_is_told(tmp_path: Path, change: dict, words: str) -> None:
    write_image(tmp_path / 'x.png', picture(0))
    (tmp_path / 'x.json').write_text(json.dumps({'shapes': [change]}))
    with pytest.raises(AdaptisError, match=words) as error:
        open_sources(tmp_path)[0].read(0)
    assert 'x.json' in str(error.value)


@pytest.mark.parametrize('arguments, words', [
    (['nowhere'], 'nowhere does not exist'),
    (['.'], 'no labelled images in a supported format'),
    (['panoptic'], 'panoptic already contains panoptic data'),
    (['in', '--val', '1'], '--val must be at least 0'),
    (['in', '--stuff', 'sky'], '--stuff sky: the data have no label of this name'),
    (['in', '--format', 'labelme'], 'contains no JSON file of labelme'),
    (['in', '--images', 'nowhere'], 'The folder nowhere does not exist'),
])
def test_mistakes_are_one_sentence_and_write_nothing(tmp_path: Path, arguments: list, words: str,
                                                     capsys: Any, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    if arguments[0] == 'in':
        write_masks(tmp_path / 'in')
    if arguments[0] == 'panoptic':
        write_coco(tmp_path / 'panoptic', splits=['val'], images=1)
    assert main(['import', *arguments, '--out', 'out']) == 1
    error = capsys.readouterr().err
    assert words in error and error.count('\n') == 1 and not (tmp_path / 'out').exists()


@pytest.mark.parametrize('text, words', [
    ('<annotation><object><name>a</name><polygon><pt><x>1</x><y>b</y></pt></polygon></object>'
     '</annotation>', 'has a point of "a" that is not two numbers'),
    ('<annotation><object><name>a</name><polygon/></object></annotation>', 'with 0 points'),
    ('<annotation><object><name>a</name><segm><mask>no.png</mask></segm></object></annotation>',
     'names the mask no.png, which is not in'),
    ('<annotation><object>', 'is not valid XML'),
    ('<!DOCTYPE a><annotation/>', 'declares a document type'),
    ('<annotation><object><name>a</name><bndbox/></object></annotation>', 'no labelled images'),
])
def test_what_is_wrong_with_xml_is_told(tmp_path: Path, text: str, words: str) -> None:
    write_image(tmp_path / 'x.png', picture(0))
    (tmp_path / 'x.xml').write_text(text)
    with pytest.raises(AdaptisError, match=words):
        open_sources(tmp_path)[0].read(0)


def test_a_broken_image_leaves_no_split_behind(tmp_path: Path, capsys: Any) -> None:
    write_masks(tmp_path / 'in')
    write_image(tmp_path / 'in' / 'masks' / 'p3' / 'cell_1.png', np.zeros((5, 5), np.uint8))
    assert main(['import', str(tmp_path / 'in'), '--out', str(tmp_path / 'out'),
                 '--val', '0']) == 1
    assert 'cell_1.png is 5x5 but' in capsys.readouterr().err
    assert not (tmp_path / 'out' / 'train').exists()
