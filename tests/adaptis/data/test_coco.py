"""COCO panoptic: real images, other layouts, and every way in which the files can be wrong."""
from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any, Callable

import numpy as np
import pytest

from adaptis.cli import main
from adaptis.data import check
from adaptis.data.coco_categories import COCO_TAXONOMY
from adaptis.data.datasets import open_dataset
from adaptis.data.panoptic import PanopticIndex
from adaptis.errors import AdaptisError, DataWarning
from adaptis.evaluation.coco import PanopticFolder
from adaptis.evaluation.pq import PanopticQuality
from adaptis.evaluation.segments import sample_truth
from adaptis.ids import MAX_ID
from adaptis.types import Taxonomy
from tests.devices import ctx_option
from tests.miniatures import edit_json, save, write_coco

JSON = 'annotations/panoptic_val2017.json'
PNG = 'annotations/panoptic_val2017/000000001009.png'
IMAGE = 'val2017/000000001009.jpg'


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_coco(tmp_path, splits=['val'])
    return tmp_path


@pytest.fixture
def real(shared: Path, tmp_path: Path) -> Path:
    """The two real images, in the layout for data of one's own."""
    sample = shared / 'coco_sample'
    shutil.copytree(sample / 'input_images', tmp_path / 'val' / 'images')
    shutil.copytree(sample / 'panoptic_examples', tmp_path / 'val' / 'panoptic')
    shutil.copy(sample / 'panoptic_examples.json', tmp_path / 'val' / 'panoptic.json')
    return tmp_path


def test_real_images_come_back_as_they_were_annotated(shared: Path, real: Path) -> None:
    truths = PanopticFolder(shared / 'coco_sample' / 'panoptic_examples.json')
    dataset = open_dataset('coco', real, 'val')
    assert [dataset.image_id(i) for i in range(2)] == [142238, 439180]
    quality = PanopticQuality(dataset.taxonomy)
    for index in range(len(dataset)):
        truth = truths.read(dataset.image_id(index))
        again, crowd = sample_truth(dataset[index], dataset.taxonomy)
        assert len(again.segments) == len(truth.result.segments)
        found = {s.id: s for s in again.segments}
        for segment in truth.result.segments:
            where = truth.result.segment_map == segment.id
            (other,) = np.unique(again.segment_map[where])
            np.testing.assert_array_equal(again.segment_map == other, where)
            assert found[other].category_id == segment.category_id
            assert found[other].area == segment.area
            assert (other in crowd) == (segment.id in truth.crowd)
        np.testing.assert_array_equal(again.segment_map == 0, truth.result.segment_map == 0)
        quality.add(truth.result.segment_map, truth.result.segments, again.segment_map,
                    again.segments, truth.crowd)
    scores = quality.result()
    assert scores['All']['pq'] == scores['Things']['pq'] == scores['Stuff']['pq'] == 1


def test_the_built_in_categories_are_those_of_the_real_files(shared: Path) -> None:
    path = shared / 'coco_sample' / 'panoptic_examples.json'
    assert Taxonomy(PanopticIndex(path).categories).categories == COCO_TAXONOMY.categories
    assert len(COCO_TAXONOMY) == 133 and COCO_TAXONOMY.num_things == 80


def test_test_images_alone_have_the_categories_of_coco(tmp_path: Path) -> None:
    write_coco(tmp_path, splits=['test'])
    dataset = open_dataset('coco', tmp_path, 'test')
    assert dataset.taxonomy is COCO_TAXONOMY and dataset.image_id(0) == 2009
    save(tmp_path / 'test2017' / '000000000001.jpg', np.zeros((9, 9, 3), np.uint8))
    assert len(open_dataset('coco', tmp_path, 'test')) == 3  # those of test-dev
    (tmp_path / 'annotations/image_info_test-dev2017.json').unlink()
    dataset = open_dataset('coco', tmp_path, 'test')
    assert len(dataset) == 4 and dataset.image_id(0) == 1


def test_a_listed_test_image_that_is_missing_is_named(tmp_path: Path) -> None:
    write_coco(tmp_path, splits=['test'])
    (tmp_path / 'test2017/000000002010.jpg').unlink()
    with pytest.raises(AdaptisError, match='000000002010.jpg, which is listed as an image of the'):
        open_dataset('coco', tmp_path, 'test')
    (tmp_path / 'annotations/image_info_test-dev2017.json').write_text('{"images": [{}]}')
    with pytest.raises(AdaptisError, match='has no list "images" of entries with file_name and id'):
        open_dataset('coco', tmp_path, 'test')


def test_the_pngs_may_lie_in_the_root(root: Path) -> None:
    (root / 'annotations/panoptic_val2017').rename(root / 'panoptic_val2017')
    assert open_dataset('coco', root, 'val')[0].classes


def test_a_test_split_of_ones_own_may_have_a_truth(real: Path) -> None:
    (real / 'val').rename(real / 'test')
    assert open_dataset('coco', real, 'test')[1].classes


def test_category_0_of_ones_own_data_is_not_void(root: Path) -> None:
    def renumber(data: dict) -> None:
        data['categories'][0]['id'] = 0
        for entry in data['annotations']:
            for one in entry['segments_info']:
                one['category_id'] *= one['category_id'] != 1

    expected = open_dataset('coco', root, 'val')[0].semantic
    edit_json(root / JSON, renumber)
    dataset = open_dataset('coco', root, 'val')
    np.testing.assert_array_equal(dataset[0].semantic, expected)
    labels = dataset.labels.to_labels(expected)
    assert (labels == 0).any() and labels.max() == 198  # void
    np.testing.assert_array_equal(dataset.labels.to_classes(labels), expected)


def test_further_files_do_no_harm(root: Path) -> None:
    for name in (IMAGE, PNG):
        shutil.copy(root / name, (root / name).with_name('other' + Path(name).suffix))
    assert len(open_dataset('coco', root, 'val')) == 3


def test_a_crowd_of_stuff_is_void(root: Path) -> None:
    def crowd(data: dict) -> None:
        data['annotations'][0]['segments_info'][0]['iscrowd'] = 1

    expected = open_dataset('coco', root, 'val')[0]
    edit_json(root / JSON, crowd)
    dataset = open_dataset('coco', root, 'val')
    sample, sky = dataset[0], dataset.taxonomy.index(187)
    np.testing.assert_array_equal(sample.semantic == -1,
                                  (expected.semantic == -1) | (expected.semantic == sky))
    assert sample.ignored == expected.ignored


def annotation(key: str, value: Any) -> Callable[[dict], None]:
    return lambda data: data['annotations'][0].update({key: value})


def segment(key: str, value: Any) -> Callable[[dict], None]:
    return lambda data: data['annotations'][0]['segments_info'][1].update({key: value})


@pytest.mark.parametrize('change, words', [
    (annotation('image_id', 77), 'annotates image 77 .000000001009.png., which is not among'),
    (annotation('image_id', 1010), 'annotates image 1010 twice'),
    (annotation('image_id', None), 'has an entry that does not match the COCO'),
    (annotation('segments_info', {}), 'has an entry that does not match the COCO'),
    (annotation('segments_info', [{'id': 5}]), 'has an entry that does not match the COCO'),
    (annotation('file_name', 'a.png'), 'a.png, which .*json lists, does not exist'),
    (lambda data: data['annotations'].pop(), 'has no annotation for image 1011'),
    (segment('category_id', 12), 'the category 12, which it does not list, in 000000001009.png'),
    (segment('category_id', 'car'), 'has an entry that does not match the COCO'),
    (segment('id', 0), 'lists the segment id 0, which is not one of 1 to 16777215'),
    (segment('id', MAX_ID + 1), 'lists the segment id 16777216'),
    (segment('id', 2 ** 70), 'has an entry that does not match the COCO'),
    (segment('id', 2 ** 32 + 65536 + 256 + 3), 'has an entry that does not match the COCO'),
    (lambda data: data['images'][0].update(file_name='a' * 5000 + '/b.jpg'), 'does not exist'),
    (lambda data: data.update(images=[], annotations=[]), 'val2017.json lists no image'),
    (lambda data: data['categories'][0].update(color=[0, 0, 256]), r'has the color \[0, 0, 256\]'),
    (segment('id', 65536 + 256 + 3), 'lists a segment id twice in 000000001009.png'),
    (lambda data: data['images'][0].update(file_name='gone.jpg'), 'gone.jpg, which does not exi'),
    (lambda data: data['images'][0].update(id=[]), 'has an entry that does not match the COCO'),
    (lambda data: data['images'].append(data['images'][0]), 'lists an image id twice'),
    (lambda data: data['categories'][0].update(isthing='yes'), r'\(person\) has the isthing .yes.'),
    (lambda data: data['categories'][0].update(color=[1, 2]), r'has the color \[1, 2\]: it must'),
    (lambda data: data['categories'].append(data['categories'][0]), '2017.json lists the id of a '),
    (lambda data: data.pop('images'), 'has no list "images"'),
    (lambda data: data.update(annotations=[{'id': 1}]), 'has an entry in "annotations" that does'),
    (lambda data: data.update(annotations={}), 'has no list "annotations", so it is not'),
    (segment('iscrowd', 2), '"iscrowd" must be 0 or 1, not 2'),
    (segment('id', 1.5), '"id" must be a whole number, not 1.5'),
    (lambda data: data['images'][0].update(height=2 ** 70), '"height" must be a whole number'),
    (lambda data: data['images'][0].pop('file_name'), 'has an entry in "images" that does not'),
    (annotation('file_name', None), '"file_name" is missing, in'),
])
def test_what_is_wrong_with_the_json_is_told_when_it_is_opened(root: Path, change: Callable,
                                                               words: str) -> None:
    edit_json(root / JSON, change)
    with pytest.raises(AdaptisError, match=words):
        open_dataset('coco', root, 'val')


@pytest.mark.parametrize('change, words', [
    (segment('id', 5), '1009.png holds segment 131334 in its map, but not in its list'),
    (lambda data: data['images'][0].update(width=127), 'is 96x128 but .*json says 96x127'),
    (lambda data: data['images'][0].update(width=2 ** 32 + 128), 'json says 96x4294967424'),
])
def test_where_json_and_picture_disagree_is_told_when_it_is_read(root: Path, change: Callable,
                                                                 words: str) -> None:
    edit_json(root / JSON, change)
    with pytest.raises(AdaptisError, match=words):
        open_dataset('coco', root, 'val')[0]


def list_lost_segments(data: dict) -> None:
    """Two segments without a pixel: a person that is no crowd, and one that is."""
    data['annotations'][0]['segments_info'] += [
        {'id': 5, 'category_id': 1, 'iscrowd': 0}, {'id': 9, 'category_id': 1, 'iscrowd': 1}]


def test_a_segment_without_a_pixel_is_told_of_and_left_out(root: Path) -> None:
    before = open_dataset('coco', root, 'val')[0]
    edit_json(root / JSON, list_lost_segments)
    dataset = open_dataset('coco', root, 'val')
    with pytest.warns(DataWarning, match='1009.png has no pixel of segment 5, 9, which .*json '
                      'lists; the segment is ignored'):
        sample = dataset[0]
    assert (sample.classes, sample.ignored) == (before.classes, before.ignored)
    np.testing.assert_array_equal(sample.instances, before.instances)
    np.testing.assert_array_equal(sample.semantic, before.semantic)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert 'has no pixel of segment 5, 9' in check.find_problem(dataset, 0)
        assert check.find_problem(dataset, 1) is None


def test_training_goes_on_without_lost_segments_and_tells_of_the_first(
        root: Path, capfd: pytest.CaptureFixture) -> None:
    edit_json(root / JSON, list_lost_segments)
    edit_json(root / JSON, lambda data: data['annotations'][1]['segments_info'].append(
        {'id': 5, 'category_id': 1}))
    config = root / 'run.yaml'
    config.write_text(f"""
data: {{root: {root}, dataset: coco, augmentation: flip, split: val, val_split: val}}
model: {{name: adaptis_toy, width: 4}}
instances: {{steps: 3, batch_size: 1, points: 2, crop: 32, optimizer: {{lr: 1e-3}}}}
workers: 1
pictures_every: 0
evaluation_images: 0
validation: {{every: 0}}
""")
    assert main(['train', str(config), '--output', str(root / 'run'), *ctx_option()]) == 0
    told = [line for line in capfd.readouterr().err.splitlines() if 'no pixel' in line]
    assert len(told) == 1 and told[0].endswith('"adaptis check-data" lists every case.)')
    assert main(['check-data', str(config), '--processes', '1', '--split', 'val']) == 1
    assert capfd.readouterr().out.count('has no pixel of segment 5') == 2


@pytest.mark.parametrize('picture, words', [
    (np.zeros((96, 128), np.uint8), '1009.png is not a panoptic PNG: .* has 1 of 8 bits'),
    (np.zeros((96, 128, 3), np.uint16), '1009.png is not a panoptic PNG: .* has 3 of 16 bits'),
    (np.zeros((95, 128, 3), np.uint8), '1009.jpg is 96x128 but .*1009.png is 95x128'),
])
def test_another_picture_in_place_of_the_annotation_is_named(root: Path, picture: np.ndarray,
                                                             words: str) -> None:
    save(root / PNG, picture)
    with pytest.raises(AdaptisError, match=words):
        open_dataset('coco', root, 'val')[0]


@pytest.mark.parametrize('gone, words', [
    (PNG, '1009.png, which .*panoptic_val2017.json lists, does not exist'),
    (IMAGE, 'panoptic_val2017.json annotates .*1009.jpg, which does not exist'),
    (JSON, 'panoptic_val2017.json cannot be read: No such file'),
])
def test_a_missing_file_is_named(root: Path, gone: str, words: str) -> None:
    (root / gone).unlink()
    with pytest.raises(AdaptisError, match=words):
        open_dataset('coco', root, 'val')


@pytest.mark.parametrize('folder', ['val2017', 'annotations/panoptic_val2017'])
def test_a_missing_folder_is_named(root: Path, folder: str) -> None:
    shutil.rmtree(root / folder)
    with pytest.raises(AdaptisError, match=f'{folder}.* does not exist'):
        open_dataset('coco', root, 'val')


def test_a_cut_json_is_named(root: Path) -> None:
    text = (root / JSON).read_text()
    (root / JSON).write_text(text[:len(text) // 2])
    with pytest.raises(AdaptisError, match='json is not valid JSON .* perhaps it is cut short'):
        open_dataset('coco', root, 'val')


def test_a_json_of_detections_is_named(root: Path) -> None:
    (root / JSON).write_text(json.dumps({
        'images': [], 'categories': [{'id': 1, 'name': 'a', 'isthing': 1}],
        'annotations': [{'id': 1, 'image_id': 2, 'category_id': 1, 'segmentation': []}]}))
    with pytest.raises(AdaptisError, match='"segments_info" is missing, in .*segmentation'):
        open_dataset('coco', root, 'val')
