"""``adaptis check-data`` on the command line."""
from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from adaptis import cli
from tests.miniatures import save, write_cityscapes, write_coco


def check(*arguments: object) -> int:
    return cli.main(['check-data', *map(str, arguments)])


def test_a_right_data_set_is_counted(tmp_path: Path, capsys: Any) -> None:
    write_coco(tmp_path)
    assert check('--dataset', 'coco', '--root', tmp_path, '--split', 'train', 'test',
                 '--processes', 1) == 0
    assert capsys.readouterr().out.splitlines() == [
        'train: 3 images and 3 annotations decoded, no mistakes.',
        'test: 3 images and no annotations decoded, no mistakes.']


def test_every_mistake_is_a_sentence_and_the_exit_status_tells(tmp_path: Path,
                                                               capsys: Any) -> None:
    write_cityscapes(tmp_path, splits=['train', 'val'], images=4)
    first, second, third, _ = sorted((tmp_path / 'gtFine/train').rglob('*_instanceIds.png'))
    first.unlink()
    save(second, np.full((96, 128), 999, np.uint16))
    third.write_bytes(b'')
    config = tmp_path / 'config.yaml'
    config.write_text(yaml.safe_dump({
        'data': {'dataset': 'cityscapes', 'root': str(tmp_path), 'augmentation': 'none',
                 'val_split': 'val'},
        'model': {'name': 'adaptis_toy'},
        'instances': {'batch_size': 1, 'points': 1, 'steps': 1, 'optimizer': {'lr': 0.1}}}))
    assert check(config, '--processes', 2) == 1
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert [line.endswith('.') for line in lines] == [True] * 5
    assert 'has no annotation' in lines[0]
    assert f'{second} contains the id 999' in lines[1] and f'{third} is empty' in lines[2]
    assert lines[3] == 'train: 3 images and 3 annotations decoded, 3 mistakes.'
    assert lines[4] == 'val: 4 images and 4 annotations decoded, no mistakes.'
    assert '3 mistakes in the data set cityscapes' in printed.err
    assert 'Traceback' not in printed.err


def test_many_mistakes_are_counted(tmp_path: Path, capsys: Any) -> None:
    write_coco(tmp_path, splits=['train', 'val'], images=5)
    for path in (tmp_path / 'train2017').iterdir():
        path.write_bytes(b'')
    assert check('--dataset', 'coco', '--root', tmp_path, '--fast', '--processes', 1,
                 '--show', 2) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[2:] == [
        '... and 3 more.', 'train: 5 images and 5 annotations by name and header, 5 mistakes.',
        'val: 5 images and 5 annotations by name and header, no mistakes.']


def test_a_split_that_cannot_be_opened_is_one_mistake(tmp_path: Path, capsys: Any) -> None:
    write_coco(tmp_path, splits=['val'])
    assert check('--dataset', 'coco', '--root', tmp_path, '--processes', 1) == 1
    printed = capsys.readouterr()
    assert 'train2017.json do not exist. Create them, or choose a split that exists' in printed.out
    assert 'val: 3 images and 3 annotations decoded, no mistakes.' in printed.out
    assert '1 mistake in the data set coco' in printed.err


def test_data_of_ones_own_need_no_split_val(tmp_path: Path, capsys: Any) -> None:
    write_coco(tmp_path, splits=['train'])
    command = ['--dataset', 'coco', '--data', tmp_path, '--processes', 1]
    assert check(*command) == 0
    assert 'There is no val split. In a config for these data, set' in capsys.readouterr().out
    assert check(*command, '--split', 'val') == 1
    assert 'has the split train but no split val' in capsys.readouterr().out


@pytest.mark.parametrize('arguments, words', [
    ([], 'Give either a config or --dataset with --data DIR'),
    (['a.yaml', '--dataset', 'coco'], 'Give either a config'),
    (['--dataset', 'coco'], '--dataset needs --data'),
    (['--dataset', 'coco', '--root', 'x', '--processes', '0'], '--processes must be at least 1'),
    (['absent.yaml'], 'absent.yaml cannot be read'),
    (['--dataset', 'vistas', '--root', 'nowhere'], 'Mapillary Vistas was not found: nowhere'),
])
def test_wrong_arguments_are_a_sentence(arguments: list, words: str, capsys: Any) -> None:
    assert check(*arguments) == 1
    assert words in capsys.readouterr().err
