"""``adaptis toy``."""
import json
from argparse import ArgumentParser

import numpy as np
import pytest

from adaptis.commands import toy
from adaptis.data.toy import ToyDataset
from adaptis.errors import AdaptisError
from adaptis.evaluation.coco import PanopticFolder

SMALL = '--size 40 36 --objects 2 4 --workers 1'


def run(text, *paths):
    parser = ArgumentParser()
    toy.add_arguments(parser)
    return toy.run(parser.parse_args(text.split() + [str(p) for p in paths]))


def test_generates_what_the_loader_reads(tmp_path):
    assert run(f'{SMALL} --split train test --count 3 2 --out', tmp_path / 'toy') == 0
    train, test = (ToyDataset(tmp_path / 'toy', split) for split in ('train', 'test'))
    assert (len(train), len(test)) == (3, 2)
    assert train[0].image.shape == (40, 36, 3)
    assert 2 <= len(train[0].classes) <= 4


def test_v2_and_one_count_for_all_splits(tmp_path):
    run(f'{SMALL} --version v2 --count 1 --out', tmp_path)
    assert [len(ToyDataset(tmp_path, split)) for split in ('train', 'val', 'test')] == [1, 1, 1]


def test_coco_files_agree_with_the_masks(tmp_path):
    mask_api = pytest.importorskip('pycocotools.mask')
    run(f'{SMALL} --split val --count 3 --coco --out', tmp_path)
    dataset = ToyDataset(tmp_path, 'val')
    records = list(PanopticFolder(tmp_path / 'panoptic_val.json'))
    assert [r.image_id for r in records] == [0, 1, 2]
    for record, index in zip(records, range(3)):
        ids = dataset[index].instances
        things = [s.id for s in record.result.things]
        assert sorted(things) == sorted(dataset[index].classes)
        assert (np.where(np.isin(record.result.segment_map, things), record.result.segment_map, 0)
                == ids).all()
    instances = json.loads((tmp_path / 'instances_val.json').read_text())
    first = [a for a in instances['annotations'] if a['image_id'] == 0]
    union = sum(mask_api.decode(a['segmentation']) for a in first)
    assert (union == (dataset[0].instances > 0)).all()


def test_generating_again_keeps_and_other_settings_are_refused(tmp_path, capsys):
    run(f'{SMALL} --split train --count 2 --out', tmp_path)
    run(f'{SMALL} --split train --count 2 --out', tmp_path)
    with pytest.raises(AdaptisError, match='was generated with seed = 0, not 7'):
        run(f'{SMALL} --seed 7 --split train --count 2 --out', tmp_path)


@pytest.mark.parametrize('text, words', [
    ('--size 0 --out', 'size 0x0'),
    ('--size 1 2 3 --out', '--size takes'),
    ('--objects 5 2 --out', '5 to 2'),
    ('--objects 1 9999 --out', 'do not fit'),
    ('--count 0 --out', 'at least 1'),
    ('--split train --count 1 2 --out', '2 numbers for 1 splits'),
    ('--workers 0 --out', '--workers must be'),
    ('--seed -3 --out', 'seed'),
    ('--contact-sheet', 'needs --beside'),
])
def test_bad_input_is_one_sentence(tmp_path, text, words):
    with pytest.raises(AdaptisError, match=words) as error:
        run(text, tmp_path / 'new')
    assert '\n' not in str(error.value)
    assert not (tmp_path / 'new').exists()


def test_needs_a_destination():
    with pytest.raises(AdaptisError, match='--out'):
        run('--version v1')


def test_contact_sheet(shared, tmp_path):
    assert run('--contact-sheet', tmp_path / 'sheet.png', '--beside', shared / 'toy_samples') == 0
    assert (tmp_path / 'sheet.png').exists()
