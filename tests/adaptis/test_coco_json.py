"""The values of COCO's JSON files as tools write them: every reader takes the same ones."""
from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adaptis import coco_json
from adaptis.coco_json import ValueProblem
from adaptis.data.instances import InstanceIndex
from adaptis.data.panoptic import PanopticIndex
from adaptis.evaluation.coco import PanopticFolder
from adaptis.files import write_image


@pytest.mark.parametrize('value, expected', [
    (3, 3), (3.0, 3), ('3', 3), (0, 0), (-2.0, -2), (None, 'is missing'), (3.5, 'whole number'),
    (True, 'whole number'), (math.nan, 'whole number'), (math.inf, 'whole number'),
    ('3.0', 'whole number'), ('', 'whole number'), ('٣', 'whole number'), ([3], 'whole number'),
    (2 ** 63, 'whole number'), ('9' * 5000, 'whole number')])
def test_whole_numbers(value, expected):
    if isinstance(expected, int):
        found = coco_json.whole_number({'id': value}, 'id')
        assert found == expected and type(found) is int
    else:
        with pytest.raises(ValueProblem, match=f'"id" .*{expected}'):
            coco_json.whole_number({'id': value}, 'id')


@pytest.mark.parametrize('value, expected', [
    (0, False), (1, True), (False, False), (True, True), (None, False), (1.0, True)])
def test_flags(value, expected):
    assert coco_json.flag({'iscrowd': value}, 'iscrowd') is expected
    for wrong in (2, 'no', [0], math.nan):
        with pytest.raises(ValueProblem, match='"iscrowd" must be 0 or 1'):
            coco_json.flag({'iscrowd': wrong}, 'iscrowd')


def as_float(value: Any) -> Any:
    """All numbers as pandas writes a column that lacks a value."""
    if isinstance(value, dict):
        return {key: as_float(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [as_float(entry) for entry in value]
    return float(value) if isinstance(value, int) else value


def with_nulls(content: dict) -> dict:
    for image in content['images']:
        image.update(height=None, width=None)
    for annotation in content['annotations']:
        for segment in annotation['segments_info']:
            segment.update(iscrowd=None, score=None)
    return content


def without_optional(content: dict) -> dict:
    for image in content['images']:
        del image['height'], image['width']
    for annotation in content['annotations']:
        for segment in annotation['segments_info']:
            del segment['iscrowd'], segment['bbox'], segment['area']
    for category in content['categories']:
        del category['color']
    return content


def ids_as_text(content: dict) -> dict:
    for image in content['images']:
        image['id'] = str(image['id'])
    for annotation in content['annotations']:
        for segment in annotation['segments_info']:
            segment.update(id=str(segment['id']), category_id=str(segment['category_id']))
    return content


@pytest.fixture
def content(tmp_path: Path) -> dict:
    ids = np.array([[1, 1, 2], [0, 300, 300]])
    write_image(tmp_path / 'p' / 'a.png', np.stack([ids & 255, ids >> 8, 0 * ids],
                                                   axis=-1).astype(np.uint8))
    return {
        'images': [{'id': 7, 'file_name': 'a.jpg', 'height': 2, 'width': 3}],
        'annotations': [{'image_id': 7, 'file_name': 'a.png', 'segments_info': [
            {'id': 1, 'category_id': 3, 'iscrowd': 0, 'area': 2, 'bbox': [0, 0, 2, 1]},
            {'id': 2, 'category_id': 4, 'iscrowd': 0, 'area': 1, 'bbox': [2, 0, 1, 1]},
            {'id': 300, 'category_id': 4, 'iscrowd': 0, 'area': 2, 'bbox': [1, 1, 2, 1]}]}],
        'categories': [{'id': 3, 'name': 'sky', 'isthing': 0, 'color': [1, 2, 3]},
                       {'id': 4, 'name': 'car', 'isthing': 1, 'color': [4, 5, 6]}]}


@pytest.mark.parametrize('change', [as_float, with_nulls, without_optional, ids_as_text])
@pytest.mark.parametrize('encoding', ['utf-8-sig', 'utf-16'])
def test_both_readers_of_panoptic_files_take_what_tools_write(tmp_path, content, change, encoding):
    path = tmp_path / 'p.json'
    path.write_text(json.dumps(change(content)), encoding=encoding)
    index = PanopticIndex(path)
    assert not index.problems and index.file_names == ['a.jpg']
    np.testing.assert_array_equal(index.segments(0), [[1, 3, 0], [2, 4, 0], [300, 4, 0]])
    folder = PanopticFolder(path)
    record, = folder
    assert folder.taxonomy.categories == tuple(index.categories)
    assert [(s.id, s.category_id, s.score, s.area) for s in record.result.segments] == [
        (1, 3, 1.0, 2), (2, 4, 1.0, 1), (300, 4, 1.0, 2)]
    assert record.image_id == index.image_ids[0] and record.crowd == frozenset()


def test_one_id_as_text_and_as_a_number_is_one_id(tmp_path, content):
    content['images'].append({**content['images'][0], 'id': '7'})
    (tmp_path / 'p.json').write_text(json.dumps(content), encoding='utf-8')
    with pytest.raises(Exception, match='lists an image id twice'):
        PanopticIndex(tmp_path / 'p.json')


def test_the_reader_of_instances_takes_them_too(tmp_path):
    objects = {'images': [{'id': 7, 'file_name': 'a.jpg', 'height': 20, 'width': 30}],
               'categories': [{'id': 4, 'name': 'car'}],
               'annotations': [{'id': 1, 'image_id': 7, 'category_id': 4, 'iscrowd': None,
                                'area': 50, 'bbox': [0, 0, 10, 10],
                                'segmentation': [[0, 0, 10, 0, 0, 10]]}]}
    for number, form in enumerate((objects, as_float(objects))):
        path = tmp_path / f'{number}.json'
        path.write_text(json.dumps(form), encoding='utf-8-sig')
        index = InstanceIndex(path)
        assert not index.problems and list(index.images) == [7]
        assert index.images[7].size == (20, 30)
    objects['annotations'][0]['image_id'] = '7'
    path.write_text(json.dumps(objects), encoding='utf-8')
    index = InstanceIndex(path)
    assert not index.problems and index.find_id('7') == 7
