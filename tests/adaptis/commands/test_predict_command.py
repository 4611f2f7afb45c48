from __future__ import annotations

import json

import numpy as np
import pytest

from adaptis.cli import main
from adaptis.files import read_image, write_image
from adaptis.model import get_model, save_model
from adaptis.runtime import mx


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    mx.random.seed(3)
    net = get_model('adaptis_toy', width=4)
    net.initialize(mx.init.Xavier(magnitude=4))
    path = tmp_path_factory.mktemp('net') / 'net.params'
    net(mx.nd.zeros((1, 3, 16, 16)), mx.nd.zeros((1, 1, 2)))
    save_model(net, path)
    return str(path)


@pytest.fixture
def folder(tmp_path):
    rng = np.random.RandomState(0)
    for name, shape in (('a.png', (20, 24, 3)), ('b.png', (15, 15)), ('b.bmp', (9, 11, 3))):
        write_image(tmp_path / 'in' / name, rng.randint(0, 256, shape).astype(np.uint8))
    return tmp_path / 'in'


def test_a_folder(checkpoint, folder, tmp_path, capsys):
    out = tmp_path / 'out'
    assert main(['predict', str(folder), '--checkpoint', checkpoint, '--out', str(out)]) == 0
    panoptic = json.loads((out / 'panoptic.json').read_text())
    assert [i['file_name'] for i in panoptic['images']] == ['a.png', 'b.bmp', 'b.png']
    assert len(panoptic['annotations']) == 3
    for annotation in panoptic['annotations']:
        assert (out / 'panoptic' / annotation['file_name']).is_file()
    assert isinstance(json.loads((out / 'instances.json').read_text()), list)
    assert sorted(p.name for p in (out / 'overlay').iterdir()) == [
        'a.png', 'b.bmp.png', 'b.png.png']
    assert read_image(out / 'overlay' / 'a.png').shape == (20, 24, 3)
    assert '3 images' in capsys.readouterr().out


def test_one_image_with_options(checkpoint, folder, tmp_path):
    out = tmp_path / 'out'
    assert main(['predict', str(folder / 'a.png'), '--checkpoint', checkpoint, '--out', str(out),
                 '--flip', '--sampling', 'random', '--tile', '16', '16',
                 '--preset', 'toy_v2']) == 0
    assert (out / 'overlay' / 'a.png').is_file()


def test_a_bad_image_is_named_and_the_others_are_done(checkpoint, folder, tmp_path, capsys):
    (folder / 'aa.png').write_bytes(b'no image')
    out = tmp_path / 'out'
    assert main(['predict', str(folder), '--checkpoint', checkpoint, '--out', str(out)]) == 1
    errors = capsys.readouterr().err
    assert 'aa.png is not an image' in errors and '1 of 4 images' in errors
    assert 'Traceback' not in errors
    assert len(json.loads((out / 'panoptic.json').read_text())['annotations']) == 3


def test_clicks(checkpoint, folder, tmp_path, capsys):
    out = tmp_path / 'out'
    assert main(['predict', str(folder / 'a.png'), '--checkpoint', checkpoint, '--out', str(out),
                 '--click', '3', '4', '--click', '23', '19']) == 0
    assert sorted(p.name for p in (out / 'clicks').iterdir()) == [
        'a_1_mask.png', 'a_1_overlay.png', 'a_2_mask.png', 'a_2_overlay.png']
    assert 'confidence' in capsys.readouterr().out


def test_a_click_outside_some_images(checkpoint, folder, tmp_path, capsys):
    assert main(['predict', str(folder), '--checkpoint', checkpoint, '--click', '23', '19',
                 '--out', str(tmp_path / 'out')]) == 1
    errors = capsys.readouterr().err
    assert errors.count('outside the image') == 2 and 'b.bmp: The point' in errors
    assert (tmp_path / 'out' / 'clicks' / 'a_1_mask.png').is_file()


@pytest.mark.parametrize('wrong, message', [
    (['nowhere'], 'nowhere'), (['--checkpoint', 'nowhere.params'], 'nowhere.params'),
    (['--tile', '0', '5'], 'tile')])
def test_wrong_arguments(checkpoint, folder, tmp_path, capsys, wrong, message):
    arguments = [str(folder), '--out', str(tmp_path / 'out'), '--checkpoint', checkpoint, *wrong]
    if not wrong[0].startswith('-'):
        arguments = [*wrong, *arguments[1:5]]
    assert main(['predict', *arguments]) == 1
    assert message in capsys.readouterr().err


def test_a_checkpoint_cut_short(checkpoint, folder, tmp_path, capsys):
    cut = tmp_path / 'cut.params'
    with open(checkpoint, 'rb') as source:
        cut.write_bytes(source.read()[:2000])
    sidecar = checkpoint.replace('.params', '.json')
    with open(sidecar, encoding='utf-8') as source:
        (tmp_path / 'cut.json').write_text(source.read())
    assert main(['predict', str(folder), '--checkpoint', str(cut),
                 '--out', str(tmp_path / 'out')]) == 1
    assert 'cut short' in capsys.readouterr().err
