"""Mapillary Vistas: two sources of the same ground truth, its config, and broken files."""
from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from adaptis.data.datasets import open_dataset
from adaptis.data.vistas import read_config
from adaptis.errors import AdaptisError
from tests.miniatures import edit_json, save, write_vistas

JSON = 'validation/panoptic/panoptic_2018.json'
INSTANCES = 'validation/instances/val-0000_x.png'


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_vistas(tmp_path, splits=['val'])
    return tmp_path


def without_panoptic(root: Path) -> object:
    shutil.rmtree(root / 'validation/panoptic', ignore_errors=True)
    return open_dataset('vistas', root, 'val')


def test_the_labels_come_from_the_config(root: Path) -> None:
    config = read_config(root)
    assert [c.name for c in config.taxonomy.categories] == ['Road', 'Building', 'Sky', 'Bird',
                                                            'Person', 'Car']
    assert [c.id for c in config.taxonomy.categories] == [2, 3, 5, 1, 4, 6]  # label + 1
    assert config.taxonomy.num_stuff == 3
    assert config.taxonomy.by_id(6).color == (0, 0, 142)
    assert config.labels.to_classes(np.arange(7)).tolist() == [3, 0, 1, 4, 2, 5, -1]
    assert config.labels.to_labels(np.array([-1, 0, 5])).tolist() == [6, 1, 5]


def test_both_sources_say_the_same_but_for_crowds(root: Path) -> None:
    panoptic = open_dataset('vistas', root, 'val')
    samples = [panoptic[i] for i in range(3)]
    instances = without_panoptic(root)
    assert instances.taxonomy.categories == panoptic.taxonomy.categories
    assert type(instances) is not type(panoptic)
    for index, one in enumerate(samples):
        other = instances[index]
        assert panoptic.image_id(index) == instances.image_id(index) == f'val-{index:04d}_x'
        np.testing.assert_array_equal(one.semantic, other.semantic)
        pairs = {*zip(one.instances.ravel().tolist(), other.instances.ravel().tolist())}
        assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})
        assert all(one.classes.get(a) == other.classes.get(b) for a, b in pairs)
    assert samples[0].ignored and not instances[0].ignored


def test_object_0_of_label_0_is_an_object(root: Path) -> None:
    picture = np.full((96, 128), 6 * 256, np.uint16)
    picture[0, :4] = [0, 1, 256, 5 * 256 + 255]
    save(root / INSTANCES, picture)
    sample = without_panoptic(root)[0]
    assert sample.instances[0, :5].tolist() == [1, 2, 0, 5 * 256 + 256, 0]
    assert sample.semantic[0, :5].tolist() == [3, 3, 0, 5, -1]
    assert sample.classes == {1: 3, 2: 3, 5 * 256 + 256: 5}


def test_instances_of_8_bits_are_named(root: Path) -> None:
    save(root / INSTANCES, np.full((96, 128), 6, np.uint8))
    with pytest.raises(AdaptisError, match='val-0000_x.png does not have one channel of 16 bits'):
        without_panoptic(root)[0]


def test_an_image_of_24_megapixels_is_read(root: Path) -> None:
    size = (4000, 6000)
    save(root / 'validation/images/val-0000_x.jpg', np.full(size + (3,), 90, np.uint8))
    save(root / INSTANCES, np.full(size, 5 * 256 + 2, np.uint16))
    sample = without_panoptic(root)[0]
    assert sample.instances.shape == size and (sample.semantic == 5).all()


def test_the_archive_of_version_2_is_understood(root: Path) -> None:
    expected = open_dataset('vistas', root, 'val')[0]
    (root / 'config.json').rename(root / 'config_v1.2.json')
    (root / 'validation/v1.2').mkdir()
    for name in ('panoptic', 'instances', 'labels'):
        (root / 'validation' / name).rename(root / 'validation/v1.2' / name)
    np.testing.assert_array_equal(open_dataset('vistas', root, 'val')[0].instances,
                                  expected.instances)
    shutil.rmtree(root / 'validation/v1.2/panoptic')
    np.testing.assert_array_equal(open_dataset('vistas', root, 'val')[0].semantic,
                                  expected.semantic)


def test_a_label_that_the_config_lacks_is_named(root: Path) -> None:
    save(root / INSTANCES, np.full((96, 128), 7 * 256 + 1, np.uint16))
    with pytest.raises(AdaptisError, match='val-0000_x.png, divided by 256, contains 7, which is '
                                           'not one of the 7 labels'):
        without_panoptic(root)[0]


def test_a_category_that_the_config_calls_otherwise_is_named(root: Path) -> None:
    edit_json(root / JSON, lambda data: data['categories'][2].update(name='Bench'))
    with pytest.raises(AdaptisError, match='category 3 "Bench", but .*config.json has another'):
        open_dataset('vistas', root, 'val')


def test_a_category_that_is_no_class_is_void(root: Path) -> None:
    def forget_sky(config: dict) -> None:
        config['labels'][4]['evaluate'] = False

    edit_json(root / 'config.json', forget_sky)
    dataset = open_dataset('vistas', root, 'val')
    assert len(dataset.taxonomy) == 5 and (dataset[0].semantic[2, 10:100] == -1).all()


@pytest.mark.parametrize('gone, words', [
    ('config.json', 'config.json cannot be read: No such file'),
    ('validation/images/val-0001_x.jpg', 'val-0001_x.jpg, which does not exist'),
    ('validation/panoptic/val-0001_x.png', 'val-0001_x.png, which .*2018.json lists, does not ex'),
])
def test_a_missing_file_is_named(root: Path, gone: str, words: str) -> None:
    (root / gone).unlink()
    with pytest.raises(AdaptisError, match=words):
        open_dataset('vistas', root, 'val')


def test_an_image_that_the_panoptic_json_lacks_is_named(root: Path) -> None:
    save(root / 'validation/images/more.jpg', np.zeros((9, 9, 3), np.uint8))
    with pytest.raises(AdaptisError, match='more.jpg has no annotation in .*panoptic_2018.json'):
        open_dataset('vistas', root, 'val')


def test_an_image_without_its_instances_is_named(root: Path) -> None:
    (root / INSTANCES).unlink()
    with pytest.raises(AdaptisError, match='val-0000_x.jpg has no annotation .*val-0000_x.png'):
        without_panoptic(root)


@pytest.mark.parametrize('content', ['[]', '{"labels": []}', '{"labels": [{"name": "a"}]}'])
def test_another_config_is_named(root: Path, content: str) -> None:
    (root / 'config.json').write_text(content)
    with pytest.raises(AdaptisError, match='config.json does not list labels'):
        open_dataset('vistas', root, 'val')


def test_a_config_with_a_color_that_is_none_or_without_things_is_named(root: Path) -> None:
    def discolor(config: dict) -> None:
        config['labels'][0]['color'] = [1, 'x', 2]

    def forget_things(config: dict) -> None:
        for label in config['labels']:
            label.update(instances=False, color=[1, 2, 3])

    for change, words in ((discolor, 'does not list labels'), (forget_things, 'has instances')):
        edit_json(root / 'config.json', change)
        with pytest.raises(AdaptisError, match=words):
            open_dataset('vistas', root, 'val')
