from __future__ import annotations

import json

import numpy as np
import pytest
from evaluation_cases import TAXONOMY, result, row

from adaptis.errors import AdaptisError, DataWarning
from adaptis.evaluation.coco import (
    InstanceAnnotationsWriter,
    InstancesWriter,
    PanopticFolder,
    PanopticWriter,
    encode_segments,
    write_panoptic,
)
from adaptis.evaluation.segments import sample_truth
from adaptis.files import write_image
from adaptis.ids import MAX_ID, ids_to_rgb, rgb_to_ids
from adaptis.types import TOY_TAXONOMY, PanopticResult, Sample

PICTURE = [[MAX_ID, MAX_ID, 0, 300],
           [MAX_ID, 65536, 0, 300],
           [65536, 65536, 0, 300]]
CATEGORIES = {MAX_ID: 7, 65536: 22, 300: 21}
SCORES = {65536: 1 / 3, 300: 0.1}


@pytest.fixture
def written(tmp_path):
    found = result(PICTURE, CATEGORIES, SCORES)
    write_panoptic(tmp_path / 'p.json', tmp_path / 'p', [('one', 'a.jpg', found)], TAXONOMY)
    return tmp_path


def edit(folder, change):
    path = folder / 'p.json'
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def test_roundtrip_is_unchanged(written):
    folder = PanopticFolder(written / 'p.json')
    record = folder.read('one')
    expected = result(PICTURE, CATEGORIES, SCORES)
    assert record.file_name == 'a.jpg' and not record.crowd
    assert record.result.segment_map.dtype == np.int32
    assert (record.result.segment_map == expected.segment_map).all()
    assert record.result.segments == expected.segments
    assert folder.taxonomy.categories == TAXONOMY.categories


def test_ids_survive_the_picture():
    ids = np.array([[0, 1, 255, 256, 65535, 65536, 255 ** 3, MAX_ID]])
    assert ids_to_rgb(ids)[0, 3].tolist() == [0, 1, 0]
    assert (rgb_to_ids(ids_to_rgb(ids)) == ids).all()


def test_json_says_what_coco_says(written):
    data = json.loads((written / 'p.json').read_text())
    assert data['images'] == [{'id': 'one', 'file_name': 'a.jpg', 'height': 3, 'width': 4}]
    annotation = data['annotations'][0]
    assert annotation['file_name'] == 'a.png'
    assert annotation['segments_info'][1] == {
        'id': 65536, 'category_id': 22, 'iscrowd': 0, 'area': 3, 'bbox': [0, 1, 2, 2],
        'score': 1 / 3}
    assert {'id': 22, 'name': 'dog', 'isthing': 1, 'color': [7, 8, 9]} in data['categories']


def test_crowd_and_segments_without_pixels(tmp_path):
    truth = result(row((1, 3), (2, 2)), {1: 21, 2: 22, 5: 21})
    with PanopticWriter(tmp_path / 'p.json', tmp_path / 'p', TAXONOMY) as writer:
        writer.add(4, 'x/a.png', truth, 1, 5, crowd=[2])
    record = PanopticFolder(tmp_path / 'p.json').read(4)
    assert record.crowd == {2}
    assert [s.id for s in record.result.segments] == [1, 2]


def test_names_that_differ_in_their_ending_alone(tmp_path):
    picture = result(row((1, 3)), {1: 21})
    with PanopticWriter(tmp_path / 'p.json', tmp_path / 'p', TAXONOMY) as writer:
        writer.add(1, 'a.jpg', picture)
        writer.add(2, 'a.png', picture)
        with pytest.raises(AdaptisError, match='Image 2 .* added twice'):
            writer.add(2, 'b.png', picture)
        writer.add(3, 'other/a.png', picture)
        writer.add(4, '../../A.png', picture)
        with pytest.raises(AdaptisError, match='would collide'):
            writer.add(5, 'e.png', picture, png='a.png')
    assert sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob('*.png')) == [
        'p/A.png-2.png', 'p/a.png', 'p/a.png.png', 'p/other/a.png']
    assert [record.image_id for record in PanopticFolder(tmp_path / 'p.json')] == [1, 2, 3, 4]


def test_no_image_gives_a_valid_file(tmp_path):
    write_panoptic(tmp_path / 'p.json', tmp_path, [], TAXONOMY)
    assert len(PanopticFolder(tmp_path / 'p.json', tmp_path)) == 0


def test_failure_keeps_the_older_file(written):
    before = (written / 'p.json').read_text()
    wrong = result(row((1, 3)), {1: 21})
    with pytest.raises(AdaptisError, match='1x3 but the image is 2x3'), \
            PanopticWriter(written / 'p.json', written / 'p', TAXONOMY) as writer:
        writer.add(1, 'a.jpg', wrong, 2, 3)
    assert (written / 'p.json').read_text() == before
    assert sorted(p.name for p in written.iterdir()) == ['p', 'p.json']


def test_writer_refuses_what_the_list_does_not_hold(tmp_path):
    with PanopticWriter(tmp_path / 'p.json', tmp_path / 'p', TAXONOMY) as writer:
        with pytest.raises(AdaptisError, match='a.jpg holds segment 2'):
            writer.add(1, 'a.jpg', result(row((1, 2), (2, 2)), {1: 21}))
        with pytest.raises(AdaptisError, match='no category 7'):
            PanopticWriter(tmp_path / 'q.json', tmp_path / 'q', TOY_TAXONOMY).add(
                1, 'a.jpg', result(row((1, 2)), {1: 7}))


@pytest.mark.parametrize('change, message', [
    (lambda d: d['annotations'][0]['segments_info'].pop(), 'holds segment 300 in its map'),
    (lambda d: d['annotations'][0]['segments_info'][0].update(category_id=99), 'category 99'),
    (lambda d: d['images'][0].update(width=40), 'is 3x4, but .* says 3x40'),
    (lambda d: d['annotations'][0].update(file_name='b.png'), 'b.png cannot be read'),
    (lambda d: d['annotations'][0]['segments_info'].append('x'),
     'it must be an object with keys, in x'),
    (lambda d: d['annotations'][0]['segments_info'][0].update(id='x'), 'whole number, not .x.'),
    (lambda d: d['annotations'][0]['segments_info'][0].update(id=10 ** 30),
     '"id" must be a whole number, not 10000'),
    (lambda d: d['annotations'][0]['segments_info'][0].update(category_id=[7]),
     '"category_id" must be a whole number'),
    (lambda d: d['annotations'][0]['segments_info'][0].update(score='high'),
     '"score" must be a number, not .high.'),
])
def test_reading_names_what_disagrees(written, change, message):
    edit(written, change)
    with pytest.raises(AdaptisError, match=message):
        PanopticFolder(written / 'p.json').read('one')


@pytest.mark.parametrize('change, message', [
    (lambda d: d.pop('annotations'), 'no list "annotations"'),
    (lambda d: d['annotations'][0].pop('segments_info'), '"segments_info" is missing, in'),
    (lambda d: d['images'].clear(), "annotates image one, which is not among"),
    (lambda d: d['annotations'].append(d['annotations'][0]), 'image one twice'),
    (lambda d: d['categories'][0].pop('isthing'), r'category 7 \(sky\) has no isthing'),
    (lambda d: d['categories'][0].update(id=[1]), r'\(sky\) has the id \[1\]: it must be'),
    (lambda d: d['categories'][0].update(color='red'), "has the color 'red'"),
    (lambda d: d['categories'][0].update(color=[1, 2]), r'\(sky\) has the color \[1, 2\]:'),
    (lambda d: d['categories'].append(d['categories'][0]), 'lists the id of a category twice'),
    (lambda d: d['images'][0].update(id={}), '"id" must be a whole number'),
    (lambda d: d['images'][0].update(height='tall'), '"height" must be a whole'),
    (lambda d: d['images'].append(3), 'it must be an object with keys, in 3'),
    (lambda d: d['annotations'][0].update(segments_info={}), '"segments_info" must be a list'),
    (lambda d: d['annotations'][0].update(file_name=5), '"file_name" must be a text'),
    (lambda d: d.update(images={}), 'no list "images"'),
])
def test_opening_names_what_is_missing(written, change, message):
    edit(written, change)
    with pytest.raises(AdaptisError, match=message):
        PanopticFolder(written / 'p.json')


def test_a_segment_without_a_pixel_is_told_and_left_out(written):
    whole = PanopticFolder(written / 'p.json').read('one')
    edit(written, lambda d: d['annotations'][0]['segments_info'].append(
        {'id': 8, 'category_id': 7}))
    with pytest.warns(DataWarning, match='a.png has no pixel of segment 8, which .*p.json lists'):
        read = PanopticFolder(written / 'p.json').read('one')
    assert read.result.segments == whole.result.segments


def test_files_that_are_not_there_or_broken(written):
    with pytest.raises(AdaptisError, match='absent.json cannot be read'):
        PanopticFolder(written / 'absent.json')
    with pytest.raises(AdaptisError, match='nowhere, the folder of the PNGs'):
        PanopticFolder(written / 'p.json', written / 'nowhere')
    (written / 'cut.json').write_text((written / 'p.json').read_text()[:-30])
    with pytest.raises(AdaptisError, match='not valid JSON .* cut short'):
        PanopticFolder(written / 'cut.json')
    (written / 'list.json').write_text('[]')
    with pytest.raises(AdaptisError, match='is it a COCO panoptic file'):
        PanopticFolder(written / 'list.json')
    with pytest.raises(AdaptisError, match='not a JSON file'):
        PanopticFolder(written / 'p' / 'a.png')
    with pytest.raises(AdaptisError, match='no annotation for image two'):
        PanopticFolder(written / 'p.json', written / 'p').read('two')


def test_a_photograph_is_no_panoptic_png(written):
    write_image(written / 'p' / 'a.png', np.full((3, 4, 3), 90, np.uint8))
    with pytest.raises(AdaptisError, match='a.png holds segment 5921370'):
        PanopticFolder(written / 'p.json').read('one')


def test_real_coco_annotations_are_read(shared):
    folder = PanopticFolder(shared / 'coco_sample' / 'panoptic_examples.json')
    records = list(folder)
    assert [r.image_id for r in records] == [142238, 439180]
    stated = json.loads(folder.json_path.read_text())['annotations']
    for record, annotation in zip(records, stated):
        areas = {s.id: s.area for s in record.result.segments}
        assert areas == {i['id']: i['area'] for i in annotation['segments_info']}


def test_instances_are_read_by_pycocotools(tmp_path, capsys):
    coco = pytest.importorskip('pycocotools.coco')
    truth = result(PICTURE, CATEGORIES, SCORES)
    with InstanceAnnotationsWriter(tmp_path / 'gt.json', TAXONOMY) as writer:
        writer.add(1, 'a.jpg', truth, crowd=[300])
        writer.add(2, 'b.jpg', truth)
    with InstancesWriter(tmp_path / 'dt.json') as writer:
        writer.add(1, truth)
    data = coco.COCO(str(tmp_path / 'gt.json'))
    annotations = data.loadAnns(data.getAnnIds(imgIds=[1]))
    assert [(a['id'], a['category_id'], a['iscrowd'], a['area'], a['bbox'])
            for a in annotations] == [(1, 22, 0, 3, [0, 1, 2, 2]), (2, 21, 1, 3, [3, 0, 1, 3])]
    assert (data.annToMask(annotations[0]) == (truth.segment_map == 65536)).all()
    found = data.loadRes(str(tmp_path / 'dt.json'))
    assert [a['score'] for a in found.loadAnns(found.getAnnIds())] == [1 / 3, 0.1]
    assert {c['id'] for c in data.loadCats(data.getCatIds())} == {21, 22}


def test_runs_of_segments_are_those_of_pycocotools():
    mask_api = pytest.importorskip('pycocotools.mask')
    rng = np.random.default_rng(0)
    maps = [rng.integers(0, 4, shape) for shape in ((1, 1), (1, 9), (7, 1), (9, 13))]
    stripes = np.zeros((1500, 1100), int)   # runs of one pixel and of many thousands
    stripes[700:, 3] = stripes[::2, 900] = 3
    stripes[-1, -1] = 1
    for segment_map in (*maps, stripes, stripes.T):
        segment_map = segment_map.astype(np.int32)
        wanted = [mask_api.encode(np.asfortranarray((segment_map == i).astype(np.uint8)))
                  for i in (3, 1, 2, 9)]
        assert encode_segments(segment_map, [3, 1, 2, 9]) == wanted
    assert encode_segments(segment_map, []) == []
    assert encode_segments(np.zeros((0, 4), np.int32), []) == []


def sample(**changes):
    fields = dict(image=np.zeros((2, 4, 3), np.uint8),
                  instances=np.array([[0, 0, 5, 5], [0, 0, 0, 9]], np.int32),
                  semantic=np.array([[0, 1, 2, 2], [0, -1, 3, 3]], np.int32),
                  classes={5: 2, 9: 3}, ignored=frozenset([9]), name='s')
    return Sample(**{**fields, **changes})


def test_ground_truth_of_a_sample():
    truth, crowd = sample_truth(sample(), TAXONOMY)
    # Sky and grass get the first free ids; the thing class without an object is void.
    assert truth.segment_map.tolist() == [[10, 11, 5, 5], [10, 0, 0, 9]]
    assert [(s.id, s.category_id, s.isthing, s.area) for s in truth.segments] == [
        (5, 21, True, 2), (9, 22, True, 1), (10, 7, False, 2), (11, 9, False, 1)]
    assert crowd == {9}


def test_ground_truth_needs_known_classes():
    with pytest.raises(AdaptisError, match='s: object 9 has no class'):
        sample_truth(sample(classes={5: 2}), TAXONOMY)
    with pytest.raises(AdaptisError, match='object 9 has the unknown class 4'):
        sample_truth(sample(classes={5: 2, 9: 4}), TAXONOMY)


@pytest.mark.parametrize('wrong', [-3, MAX_ID + 1, 2 ** 31 - 1])
def test_ground_truth_needs_ids_that_coco_can_hold(wrong):
    instances = np.array([[0, 0, 5, 5], [0, 0, 0, wrong]], np.int32)
    with pytest.raises(AdaptisError, match=f's has a segment with id {wrong}'):
        sample_truth(sample(instances=instances, classes={5: 2, wrong: 3}), TAXONOMY)


def test_empty_result(tmp_path):
    nothing = PanopticResult(np.zeros((1, 1), np.int32), [])
    write_panoptic(tmp_path / 'p.json', tmp_path / 'p', [(1, 'a.png', nothing)], TAXONOMY)
    record = PanopticFolder(tmp_path / 'p.json').read(1)
    assert record.result.segment_map.tolist() == [[0]] and not record.result.segments


@pytest.mark.parametrize('limit', [700, 5000])
def test_full_disk_is_one_sentence(written, limit):
    """A limit on the size of files stands in for the disk: hit at the end, and on the way."""
    resource = pytest.importorskip('resource')
    before = (written / 'p.json').read_text()
    picture = result(PICTURE, CATEGORIES)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises(AdaptisError, match='p.json cannot be written'), \
                PanopticWriter(written / 'p.json', written / 'p', TAXONOMY) as writer:
            for index in range(200):
                writer.add(index, f'{index}.jpg', picture)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (written / 'p.json').read_text() == before
    assert sorted(p.name for p in written.iterdir()) == ['p', 'p.json']
