"""Layouts of COCO data that other tools write, and messages about a missing split."""
from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, Callable

import numpy as np
import pytest

from adaptis.cli import main
from adaptis.data.datasets import open_dataset
from adaptis.data.layouts import PATTERNS, try_layout
from adaptis.errors import AdaptisError
from tests.miniatures import edit_json, write_cityscapes, write_coco, write_instances

SPLITS = ('train', 'val')


def move(root: Path, source: str, target: str) -> None:
    (root / target).parent.mkdir(parents=True, exist_ok=True)
    (root / source).rename(root / target)


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    """COCO's own folders, with both annotations."""
    write_coco(tmp_path, splits=SPLITS)
    write_instances(tmp_path, splits=SPLITS)
    return tmp_path


def lay_out(root: Path, images: str, panoptic: str, pngs: str, instances: str) -> None:
    for split in SPLITS:
        for source, target in ((f'{split}2017', images),
                               (f'annotations/panoptic_{split}2017.json', panoptic),
                               (f'annotations/panoptic_{split}2017', pngs),
                               (f'annotations/instances_{split}2017.json', instances)):
            move(root, source, target.format(split=split))


@pytest.mark.parametrize('pattern', PATTERNS, ids=[p.title for p in PATTERNS])
def test_every_layout_shows_the_same_samples(coco: Path, pattern: Any, tmp_path_factory: Any
                                             ) -> None:
    other = tmp_path_factory.mktemp('other') / 'data'
    shutil.copytree(coco, other)
    images = 'moved/{split}' if pattern.images == '{split}' else pattern.images
    lay_out(other, images, pattern.panoptic, pattern.pngs[-1], pattern.instances)
    if pattern.images == '{split}':   # Roboflow: the images lie beside the JSON
        for split in SPLITS:
            for path in list((other / 'moved' / split).iterdir()):
                path.rename(other / split / path.name)
    for annotation in ('panoptic', 'instances', 'both'):
        for split in SPLITS:
            expected = open_dataset('coco', coco, split, annotation=annotation)
            found = open_dataset('coco', other, split, annotation=annotation)
            assert len(found) == len(expected) == 3
            np.testing.assert_array_equal(found[1].semantic, expected[1].semantic)
            np.testing.assert_array_equal(found[1].instances, expected[1].instances)


def test_other_names_of_a_split_are_understood(coco: Path) -> None:
    lay_out(coco, '{split}/images', '{split}/panoptic.json', '{split}/panoptic',
            '{split}/instances.json')
    move(coco, 'val', 'valid')
    assert open_dataset('coco', coco, 'val').images.folder == coco / 'valid' / 'images'


def test_a_missing_split_is_told_of_in_the_layout_of_the_others(coco: Path) -> None:
    lay_out(coco, 'images/{split}', 'annotations/panoptic_{split}.json',
            'annotations/panoptic_{split}', 'gone/{split}.json')
    shutil.rmtree(coco / 'images' / 'val')
    (coco / 'annotations' / 'panoptic_val.json').unlink()
    with pytest.raises(AdaptisError) as error:
        open_dataset('coco', coco, 'val')
    for words in ('has the split train but no split val', f'{coco}/images/val and '
                  f'{coco}/annotations/panoptic_val.json do not exist', 'val_split: train'):
        assert words in str(error.value)


def test_a_folder_of_something_else_gets_the_list_of_layouts(tmp_path: Path) -> None:
    (tmp_path / 'train').mkdir()
    (tmp_path / 'train' / 'a.jpg').write_bytes(b'')
    assert try_layout(tmp_path, 'train') is None
    with pytest.raises(AdaptisError) as error:
        open_dataset('coco', tmp_path, 'train')
    for words in ('Datumaro', 'Roboflow', 'train/panoptic.json', 'adaptis import'):
        assert words in str(error.value)


def test_the_other_annotation_is_named_where_only_that_exists(coco: Path) -> None:
    (coco / 'annotations' / 'panoptic_val2017.json').unlink()
    with pytest.raises(AdaptisError, match='choose the annotation instances .* "adaptis import '):
        open_dataset('coco', coco, 'val')
    (coco / 'annotations' / 'instances_train2017.json').unlink()
    with pytest.raises(AdaptisError, match='choose the annotation panoptic'):
        open_dataset('coco', coco, 'train', annotation='instances')


def drop(key: str) -> Callable[[dict], None]:
    return lambda data: [c.pop(key) for c in data['categories']]


def test_splits_may_differ_in_colours_alone(coco: Path) -> None:
    edit_json(coco / 'annotations' / 'panoptic_val2017.json', drop('color'))
    taxonomy = open_dataset('coco', coco, 'val').taxonomy
    assert len({c.color for c in taxonomy.categories}) == len(taxonomy)
    assert main(['check-data', '--dataset', 'coco', '--data', str(coco), '--processes', '1']) == 0


def test_jpegs_in_the_folders_of_cityscapes(tmp_path: Path) -> None:
    write_cityscapes(tmp_path, splits=['val'])
    expected = open_dataset('cityscapes', tmp_path, 'val')
    pngs = sorted(tmp_path.glob('leftImg8bit/*/*/*.png'))
    pngs[0].rename(pngs[0].with_suffix('.jpg'))   # what a file is, its first bytes say
    pngs[1].rename(pngs[1].with_suffix('.jpeg'))
    found = open_dataset('cityscapes', tmp_path, 'val')
    assert [found.image_id(k) for k in range(3)] == [expected.image_id(k) for k in range(3)]
    assert found[0].classes
    shutil.copy(pngs[2], pngs[2].with_suffix('.jpg'))
    with pytest.raises(AdaptisError, match=r'\.jpg is ignored, because .*\.png has the same'):
        open_dataset('cityscapes', tmp_path, 'val')


def test_every_misfit_of_an_instances_file_is_listed_with_its_id(coco: Path, capsys: Any) -> None:
    def spoil(data: dict) -> None:
        data['annotations'][0].update(bbox=None)
        data['annotations'][3].update(segmentation={'size': [96, 128], 'counts': [5]})
        data['annotations'][4].pop('area')

    edit_json(coco / 'annotations' / 'instances_val2017.json', spoil)
    assert main(['check-data', '--dataset', 'coco', '--data', str(coco), '--split', 'val',
                 '--annotation', 'instances', '--processes', '1']) == 1
    printed = capsys.readouterr()
    for number, reason in ((1, 'its bbox is None'), (4, 'the runs of its RLE do not cover'),
                           (5, 'its area is None')):
        assert f'object {number} of image 1009 does not match' in printed.out
        assert reason in printed.out
    assert '3 mistakes in the data set' in printed.err
