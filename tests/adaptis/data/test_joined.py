"""Several splits as one."""
from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adaptis.cli import main
from adaptis.data import check
from adaptis.data.datasets import open_dataset
from adaptis.errors import AdaptisError
from tests.miniatures import write_cityscapes, write_coco, write_vistas

WRITERS = {'cityscapes': write_cityscapes, 'vistas': write_vistas, 'coco': write_coco}


@pytest.mark.parametrize('name', sorted(WRITERS))
def test_both_halves_are_read_as_they_are_alone(tmp_path: Path, name: str) -> None:
    WRITERS[name](tmp_path, images=2)
    parts = [open_dataset(name, tmp_path, split) for split in ('train', 'val')]
    joined = pickle.loads(pickle.dumps(open_dataset(name, tmp_path, 'train+val')))
    check.quick_check(joined)
    assert len(joined) == 4 and check.count_files(joined) == (4, 4)
    for index, (part, place) in enumerate([(parts[0], 0), (parts[0], 1), (parts[1], 0),
                                           (parts[1], 1)]):
        sample, alone = joined[index], part[place]
        np.testing.assert_array_equal(sample.image, alone.image)
        np.testing.assert_array_equal(sample.instances, alone.instances)
        np.testing.assert_array_equal(sample.semantic, alone.semantic)
        assert (sample.classes, sample.ignored) == (alone.classes, alone.ignored)
        assert (joined.image_id(index), joined.file_name(index), joined.expected_size(index)) == (
            part.image_id(place), part.file_name(place), part.expected_size(place))
        assert check.find_problem(joined, index) is None
        assert check.find_header_problem(joined, index) is None
    with pytest.raises(IndexError):
        joined[4]


@pytest.mark.parametrize('name', sorted(WRITERS))
def test_a_missing_half_is_named(tmp_path: Path, name: str) -> None:
    WRITERS[name](tmp_path, images=2, splits=('train',))
    with pytest.raises(AdaptisError, match=r'"train\+val" cannot be opened: .*val'):
        open_dataset(name, tmp_path, 'train+val')


def test_halves_must_fit_each_other(tmp_path: Path) -> None:
    write_cityscapes(tmp_path / 'city', images=2)
    with pytest.raises(AdaptisError, match='test has no ground truth, so it cannot be joined'):
        open_dataset('cityscapes', tmp_path / 'city', 'train+test')
    assert len(open_dataset('cityscapes', tmp_path / 'city', 'val+test', annotations=False)) == 4
    for split in ('train+train', 'train+', 'train+more'):
        with pytest.raises(AdaptisError, match=r'no split .*, or join different ones as in train'):
            open_dataset('cityscapes', tmp_path / 'city', split)
    write_coco(tmp_path / 'coco', images=2)
    path = next((tmp_path / 'coco').rglob('panoptic_val2017.json'))
    path.write_text(path.read_text().replace('"person"', '"people"'))
    with pytest.raises(AdaptisError, match='do not have the same categories'):
        open_dataset('coco', tmp_path / 'coco', 'train+val')


def test_the_split_of_a_config_may_be_joined(tmp_path: Path, capsys: Any) -> None:
    write_cityscapes(tmp_path / 'city', images=2, splits=('train', 'val'))
    config = tmp_path / 'run.yaml'
    config.write_text('data: {root: %s, dataset: cityscapes, augmentation: flip, '
                      'split: train+val, val_split: val}\n'
                      'model: {name: adaptis_fpn}\ninstances: {batch_size: 1, steps: 1, points: 1, '
                      'optimizer: {lr: 1}}\n' % (tmp_path / 'city'))
    assert main(['check-data', str(config), '--processes', '1', '--fast']) == 0
    assert 'train+val: 4 images and 4 annotations' in capsys.readouterr().out
