from __future__ import annotations

import json
from pathlib import Path

import cv2
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
    (['--tile', '0', '5'], 'tile'), (['--ctx', 'abacus'], '"abacus" is not a device')])
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


@pytest.mark.parametrize('shape, kind', [((1, 1, 3), np.uint8), ((9, 12), np.uint8),
                                         ((9, 12, 4), np.uint8), ((9, 12, 3), np.uint16),
                                         ((9, 12), np.uint16), ((2, 90, 3), np.uint8)])
def test_every_kind_of_image_works(checkpoint, tmp_path, shape, kind):
    pixels = np.random.RandomState(0).randint(0, np.iinfo(kind).max, shape).astype(kind)
    (tmp_path / 'a.png').write_bytes(cv2.imencode('.png', pixels)[1].tobytes())
    out = tmp_path / 'out'
    assert main(['predict', str(tmp_path / 'a.png'), '--checkpoint', checkpoint,
                 '--out', str(out)]) == 0
    assert read_image(out / 'panoptic' / 'a.png').shape == (*shape[:2], 3)


@pytest.mark.parametrize('content, message', [
    (lambda data: b'', 'a.png is empty'), (lambda data: data[:-40], 'a.png is cut short'),
    (lambda data: data[:60] + data[-12:], 'a.png is cut short'),
    (lambda data: b'hello', 'a.png is not an image')])
def test_broken_images_are_one_sentence_each(checkpoint, folder, tmp_path, capsys, content,
                                             message):
    (folder / 'a.png').write_bytes(content((folder / 'a.png').read_bytes()))
    assert main(['predict', str(folder / 'a.png'), '--checkpoint', checkpoint,
                 '--out', str(tmp_path / 'out')]) == 1
    said = capsys.readouterr().err.splitlines()
    assert message in said[0] and '1 of 1 images' in said[1] and len(said) == 2


def test_an_image_too_large_for_one_piece(checkpoint, tmp_path, capsys):
    write_image(tmp_path / 'a.png', np.zeros((1025, 4096, 3), np.uint8))
    for more in ([], ['--click', '1', '1'], ['--click', '1', '1', '--tile', '64', '64']):
        assert main(['predict', str(tmp_path / 'a.png'), '--checkpoint', checkpoint,
                     '--out', str(tmp_path / 'out'), *more]) == 1
        assert '1025x4096, too large to process as a whole' in capsys.readouterr().err


@pytest.mark.parametrize('x', ['nan', 'inf', '1e400', '-1', '24'])
def test_clicks_that_are_nowhere(checkpoint, folder, tmp_path, capsys, x):
    assert main(['predict', str(folder / 'a.png'), '--checkpoint', checkpoint,
                 '--out', str(tmp_path / 'out'), '--click', x, '1']) == 1
    assert 'outside the image: x must be from 0 to 23' in capsys.readouterr().err


@pytest.mark.parametrize('click', [[], ['--click', '1', '1']])
def test_an_out_that_is_a_file(checkpoint, folder, tmp_path, capsys, click):
    (tmp_path / 'file').write_text('mine')
    assert main(['predict', str(folder), '--checkpoint', checkpoint, '--out',
                 str(tmp_path / 'file'), *click]) == 1
    said = capsys.readouterr().err
    assert 'there is a file where its folder should be' in said and 'Traceback' not in said
    assert (tmp_path / 'file').read_text() == 'mine'


def damaged(checkpoint, folder, damage):
    """A copy of a checkpoint whose arrays or description are changed."""
    arrays, description = mx.nd.load(checkpoint), json.loads(
        Path(checkpoint).with_suffix('.json').read_text())
    damage(arrays, description['model'])
    mx.nd.save(str(folder / 'bad.params'), arrays)
    (folder / 'bad.json').write_text(json.dumps(description))
    return str(folder / 'bad.params')


def _nan(arrays, model):
    arrays['encoder.semantic.3.bias'][:] = np.nan


def _wider(arrays, model):
    model['width'] = 6


def _another(arrays, model):
    arrays['conv0.weight'] = arrays.pop('encoder.semantic.3.bias')


@pytest.mark.parametrize('damage, message', [
    (_nan, 'not finite, in encoder.semantic.3.bias'), (_wider, 'belongs to another network'),
    (_another, '1 parameters are missing and 1 unknown')])
def test_checkpoints_that_do_not_fit(checkpoint, folder, tmp_path, capsys, damage, message):
    bad = damaged(checkpoint, tmp_path, damage)
    assert main(['predict', str(folder), '--checkpoint', bad,
                 '--out', str(tmp_path / 'out')]) == 1
    said = capsys.readouterr().err
    assert message in said and said.count('\n') == 1
    assert not (tmp_path / 'out').exists()


def test_a_folder_without_images(checkpoint, tmp_path, capsys):
    assert main(['predict', str(tmp_path), '--checkpoint', checkpoint,
                 '--out', str(tmp_path / 'out')]) == 1
    assert 'holds no image' in capsys.readouterr().err
