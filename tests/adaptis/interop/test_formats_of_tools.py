"""Results in the forms of other tools and back, without these tools."""
from __future__ import annotations

import json
import xml.etree.ElementTree
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from results import SIZE, TAXONOMY, assert_same, make_result

import adaptis.interop as interop
from adaptis.errors import AdaptisError
from adaptis.interop.label_studio_rle import decode_brush, encode_brush
from adaptis.types import PanopticResult

EMPTY = PanopticResult(np.zeros(SIZE, np.int32), [])


class Detections(SimpleNamespace):
    """As much of ``supervision.Detections`` as is read."""

    def __len__(self) -> int:
        return 2


def through_json(content: Any) -> Any:
    return json.loads(json.dumps(content))


def test_transformers() -> None:
    output = interop.to_transformers(make_result(), TAXONOMY)
    assert output['segmentation'].dtype == np.int32
    info, = [i for i in output['segments_info'] if i['id'] == 12]
    names = interop.id2label(TAXONOMY)
    assert names[info['label_id']] == 'person' and not info['was_fused']
    assert_same(interop.from_transformers(output, TAXONOMY))
    labels = {40: 7, 41: 3, 42: 11, 43: 2}
    output = interop.to_transformers(make_result(), TAXONOMY, labels)
    assert {i['label_id'] for i in output['segments_info']} == {40, 41, 42, 43}
    assert_same(interop.from_transformers(output, TAXONOMY, labels))


def test_transformers_that_count_segments_from_0() -> None:
    output = interop.to_transformers(make_result(), TAXONOMY)
    ids = sorted(i['id'] for i in output['segments_info'])
    found = np.full(SIZE, -1, np.int64)
    for number, old in enumerate(ids):
        found[output['segmentation'] == old] = number
    infos = [{**i, 'id': ids.index(i['id'])} for i in output['segments_info']]
    assert_same(interop.from_transformers({'segmentation': found, 'segments_info': infos},
                                          TAXONOMY))


def test_torchmetrics() -> None:
    pairs = interop.to_torchmetrics(make_result(), TAXONOMY)
    assert pairs.shape == (*SIZE, 2) and pairs[0, 0].tolist() == [3, 0]
    assert pairs[29, 37].tolist() == [2, 12] and pairs[12, 0].tolist() == [12, 0]
    assert_same(interop.from_torchmetrics(pairs, TAXONOMY), scores=False)
    assert interop.torchmetrics_categories(TAXONOMY) == {'things': {7, 2}, 'stuffs': {3, 11}}
    assert interop.from_torchmetrics(interop.to_torchmetrics(EMPTY, TAXONOMY),
                                     TAXONOMY).segments == []


@pytest.mark.parametrize('options', [{'shape': 'mask'}, {'tolerance': 0}])
def test_labelme(options: dict) -> None:
    content = through_json(interop.to_labelme(make_result(), 'a.jpg', **options))
    assert {s['label'] for s in content['shapes']} == {'car', 'sky', 'road & path', 'person'}
    assert (content['imageHeight'], content['imageWidth']) == SIZE
    assert_same(interop.from_labelme(content, TAXONOMY))
    things = interop.to_labelme(make_result(), 'a.jpg', things_only=True)
    assert {s['label'] for s in things['shapes']} == {'car', 'person'}


@pytest.mark.parametrize('options', [{'kind': 'brush'}, {'kind': 'polygon', 'tolerance': 0}])
def test_label_studio(options: dict) -> None:
    task = through_json(interop.to_label_studio(make_result(), 'http://x/a.jpg', **options))
    assert task['data'] == {'image': 'http://x/a.jpg'}
    assert_same(interop.from_label_studio(task, TAXONOMY))
    corrected = {'annotations': [{'result': task['predictions'][0]['result'][:1]}], **task}
    assert len(interop.from_label_studio(corrected, TAXONOMY).segments) == 1


def test_a_rectangle_of_label_studio() -> None:
    region = {'original_width': 56, 'original_height': 40, 'value': {
        'x': 25, 'y': 50, 'width': 50, 'height': 25, 'rectanglelabels': ['car']}}
    found = interop.from_label_studio({'annotations': [{'result': [region]}]}, TAXONOMY)
    rows, cols = np.nonzero(found.segment_map)
    assert (rows.min(), rows.max(), cols.min(), cols.max()) == (20, 29, 14, 41)


def test_the_labelling_interface_is_xml_with_every_class() -> None:
    for kind in ('brush', 'polygon'):
        view = xml.etree.ElementTree.fromstring(interop.label_config(TAXONOMY, kind=kind))
        assert {label.get('value') for label in view.iter('Label')} == {
            c.name for c in TAXONOMY.categories}


def test_the_code_of_brushes_holds_any_mask() -> None:
    rng = np.random.default_rng(0)
    for mask in (np.zeros(SIZE, bool), np.ones((900, 700), bool), rng.random(SIZE) > 0.5):
        np.testing.assert_array_equal(decode_brush(encode_brush(mask), mask.shape), mask)
    code = encode_brush(np.ones(SIZE, bool))
    for wrong, words in ((code[:-1], 'cut short'), ([300], 'not a list of bytes'),
                         (encode_brush(np.ones((3, 3), bool)), 'has 36 values')):
        with pytest.raises(AdaptisError, match=words):
            decode_brush(wrong, SIZE)


def test_different_values_in_the_code_of_brushes() -> None:
    """Label Studio itself writes chunks of different values, too."""
    bits = f'{16:032b}' + f'{7:05b}' + '0010' * 4 + '0' + '00' + '111' + '00000000' * 4 \
        + '11111111' * 4 + '1' + '00' + '111' + '11111111'
    code = [int(bits[k:k + 8].ljust(8, '0'), 2) for k in range(0, len(bits), 8)]
    np.testing.assert_array_equal(decode_brush(code, (2, 2)), [[False, True], [True, True]])


def test_coco_panoptic() -> None:
    annotation, pixels = interop.to_coco_panoptic(make_result(), 5, 'a.png')
    annotation = through_json(annotation)
    assert annotation['image_id'] == 5 and pixels.dtype == np.uint8
    assert_same(interop.from_coco_panoptic(annotation, pixels, TAXONOMY))


def test_coco_instances_have_the_things() -> None:
    result = make_result()
    entries = through_json(interop.to_coco_instances(result, 5, first_id=8))
    assert [e['id'] for e in entries] == [8, 9, 10]
    assert {e['category_id'] for e in entries} == {7, 2}
    found = interop.from_coco_instances(entries, TAXONOMY, SIZE)
    expected = PanopticResult(np.where(np.isin(result.segment_map, [4, 9, 12]),
                                       result.segment_map, 0), result.things)
    assert_same(found, expected=expected)
    assert len(interop.to_coco_instances(found, 5)) == 3   # its objects this time


def test_objects_that_overlap_keep_their_masks() -> None:
    wide, high = np.zeros(SIZE, bool), np.zeros(SIZE, bool)
    wide[10:20], high[:, 10:20] = True, True
    detections = Detections(mask=np.stack([wide, high]), confidence=np.array([0.5, 0.25]),
                            class_id=np.array([2, 3]), data={})
    found = interop.from_supervision(detections, TAXONOMY)
    assert [s.name for s in found.segments] == ['person', 'car']
    assert found.segments[1].area == wide.sum() and found.objects.masks.sum() == 400 + 560
    detections.class_id = np.array([2, 4])
    with pytest.raises(AdaptisError, match='There is no class 4: the taxonomy has 4'):
        interop.from_supervision(detections, TAXONOMY)
    detections.mask = None
    with pytest.raises(AdaptisError, match='have only boxes'):
        interop.from_supervision(detections, TAXONOMY)


@pytest.mark.parametrize('convert, words', [
    (lambda: interop.from_transformers({}, TAXONOMY), 'not what post_process_panoptic'),
    (lambda: interop.from_torchmetrics(np.zeros((3, 3)), TAXONOMY), 'for one image'),
    (lambda: interop.from_labelme({'shapes': []}, TAXONOMY), 'not the content of a labelme file'),
    (lambda: interop.from_label_studio({}, TAXONOMY), 'neither annotations nor predictions'),
    (lambda: interop.from_label_studio({'annotations': [{'result': [
        {'value': {'brushlabels': ['car']}}]}]}, TAXONOMY), 'lacks original_height'),
    (lambda: interop.from_coco_instances([{'id': 3, 'category_id': 7, 'segmentation': 5}],
                                         TAXONOMY, SIZE), 'The object 3 has a mask that is neith'),
    (lambda: interop.to_labelme(make_result(), 'a.jpg', shape='dots'), 'no shape "dots"'),
    (lambda: interop.to_label_studio(make_result(), 'a', kind='dots'), 'kind "dots" is unknown'),
])
def test_other_things_are_refused_in_a_sentence(convert: Any, words: str) -> None:
    with pytest.raises(AdaptisError, match=words):
        convert()


@pytest.mark.parametrize('format', interop.FILE_FORMATS)
def test_files_for_tools(tmp_path: Path, format: str) -> None:
    image = tmp_path / 'pictures' / 'a b.png'
    image.parent.mkdir()
    cv2.imwrite(str(image), np.zeros((*SIZE, 3), np.uint8))
    with interop.ResultFiles(tmp_path / 'out', TAXONOMY, format) as files:
        files.add(image, 'a', make_result())
    if format == 'labelme':
        path = tmp_path / 'out' / 'labelme' / 'a.json'
        content = json.loads(path.read_text())
        assert (path.parent / content['imagePath']).resolve() == image
    else:
        task, = json.loads((tmp_path / 'out' / 'label_studio.json').read_text())
        assert task['data']['image'].endswith('/pictures/a b.png')
        assert (tmp_path / 'out' / 'label_config.xml').is_file()
    with pytest.raises(AdaptisError, match='no format "csv"'):
        interop.ResultFiles(tmp_path, TAXONOMY, 'csv')
