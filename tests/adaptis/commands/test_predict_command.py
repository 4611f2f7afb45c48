from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as rle

from adaptis import progress
from adaptis.cli import main
from adaptis.commands import prediction, workers
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


@pytest.mark.parametrize('format, name', [('labelme', 'labelme/a.json'),
                                          ('label-studio', 'label_studio.json')])
def test_files_for_other_tools(checkpoint, folder, tmp_path, capsys, format, name):
    command = ['predict', str(folder), '--checkpoint', checkpoint, '--out', str(tmp_path / 'out'),
               '--format', format]
    assert main(command) == 0
    content = json.loads((tmp_path / 'out' / name).read_text())
    assert len(content) == 3 or content['imagePath'] == '../../in/a.png'
    assert main([*command, '--click', '2', '2', '--overwrite']) == 1
    assert '--format writes whole panoptic results' in capsys.readouterr().err


@pytest.mark.parametrize('more', [[], ['--format', 'labelme'], ['--format', 'label-studio']])
def test_results_that_come_from_other_processes(checkpoint, folder, tmp_path, monkeypatch, more):
    """What other processes get and return is pickled; the files stay the same."""
    (folder / 'aa.png').write_bytes(b'no image')
    command = ['predict', str(folder), '--checkpoint', checkpoint, *more, '--out']
    assert main([*command, str(tmp_path / 'one')]) == 1
    monkeypatch.setattr(workers, 'parallel_map', lambda function, items, count: (
        pickle.loads(pickle.dumps(function(item))) for item in pickle.loads(pickle.dumps(items))))
    assert main([*command, str(tmp_path / 'two'), '--processes', '2']) == 1
    one, two = ({path.relative_to(out): path.read_bytes() for path in out.rglob('*.*')}
                for out in (tmp_path / 'one', tmp_path / 'two'))
    assert one == two and len(one) >= 8


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
                 '--click', '3', '4', '--click', '23', '19', '--mask-threshold', '0.05']) == 0
    assert sorted(p.name for p in (out / 'clicks').iterdir()) == [
        'a_1_mask.png', 'a_1_overlay.png', 'a_2_mask.png', 'a_2_overlay.png']
    assert 'confidence' in capsys.readouterr().out
    clicks = json.loads((out / 'clicks.json').read_text())
    assert clicks['images'] == [{'id': 1, 'file_name': 'a.png', 'height': 20, 'width': 24}]
    assert [a['point_coords'] for a in clicks['annotations']] == [[[3, 4]], [[23, 19]]]
    for number, entry in enumerate(clicks['annotations'], start=1):
        mask = cv2.imread(str(out / 'clicks' / f'a_{number}_mask.png'), cv2.IMREAD_UNCHANGED)
        assert mask.shape == (20, 24) and set(np.unique(mask)) <= {0, 255}
        np.testing.assert_array_equal(rle.decode(entry['segmentation']), mask // 255)
        assert entry['area'] == np.count_nonzero(mask) and 0 <= entry['score'] <= 1
        assert entry['bbox'] == list(cv2.boundingRect(mask))
    assert any(entry['area'] for entry in clicks['annotations'])


def test_probabilities_of_clicks(checkpoint, folder, tmp_path, capsys):
    arguments = ['predict', str(folder / 'a.png'), '--checkpoint', checkpoint, '--out',
                 str(tmp_path / 'out'), '--probabilities']
    assert main([*arguments, '--click', '3', '4', '--mask-threshold', '0.35']) == 0
    mask, probability = (cv2.imread(str(tmp_path / 'out' / 'clicks' / f'a_1_{name}.png'),
                                    cv2.IMREAD_UNCHANGED) for name in ('mask', 'probability'))
    assert probability.dtype == np.uint16
    np.testing.assert_array_equal(mask > 0, probability > 0.35 * 65535)
    assert main(arguments) == 1
    assert '--probabilities needs --click' in capsys.readouterr().err


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
    write_image(tmp_path / 'a.png', np.zeros((40, 60, 3), np.uint8))
    arguments = ['predict', str(tmp_path / 'a.png'), '--checkpoint', checkpoint,
                 '--out', str(tmp_path / 'out'), '--set', 'max_pixels=1000']
    assert main(arguments) == 1
    assert '40x60, too large to process as a whole' in capsys.readouterr().err
    for more in ([], ['--tile', '20', '20', '--overwrite']):
        assert main([*arguments, '--click', '59', '39', *more]) == 0
        said = capsys.readouterr()
        assert 'too large to process at its full size (60x40)' in said.err
        assert 'a copy of 38x25' in said.err
    assert read_image(tmp_path / 'out' / 'clicks' / 'a_1_mask.png').shape == (40, 60, 3)


@pytest.mark.parametrize('x', ['nan', 'inf', '1e400', '-1', '24'])
def test_clicks_that_are_nowhere(checkpoint, folder, tmp_path, capsys, x):
    assert main(['predict', str(folder / 'a.png'), '--checkpoint', checkpoint,
                 '--out', str(tmp_path / 'out'), '--click', x, '1']) == 1
    assert 'outside the image: x must be between 0 and 23' in capsys.readouterr().err


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
    assert 'contains no image' in capsys.readouterr().err


def test_several_files_patterns_and_subfolders(checkpoint, folder, tmp_path, capsys):
    (folder / 'notes.txt').write_text('no picture')
    for camera in ('cam0', 'cam1'):
        write_image(folder / camera / 'frame.png', np.zeros((16, 16, 3), np.uint8))
    out = folder / 'out'   # inside, but not searched
    for more in ([], ['--overwrite']):
        assert main(['predict', str(folder / '?.png'), str(folder), str(folder / 'a.png'),
                     '--checkpoint', checkpoint, '--out', str(out), *more]) == 0
    said = capsys.readouterr()
    assert said.err.count('Skipped 1 file:') == 2 and 'notes.txt (not an image)' in said.err
    panoptic = json.loads((out / 'panoptic.json').read_text())
    names = ['a.png', 'b.png', 'b.bmp', 'cam0/frame.png', 'cam1/frame.png']
    assert [i['file_name'] for i in panoptic['images']] == names
    for file in [a['file_name'] for a in panoptic['annotations']]:
        assert (out / 'panoptic' / file).is_file() and (out / 'overlay' / file).is_file()
    assert [a['file_name'] for a in panoptic['annotations']][3:] == names[3:]


def test_a_second_run_does_not_replace_the_first_without_a_word(checkpoint, folder, tmp_path,
                                                                capsys):
    arguments = ['predict', '--checkpoint', checkpoint, '--out', str(tmp_path / 'out')]
    assert main([*arguments, str(folder / 'a.png')]) == 0
    before = (tmp_path / 'out' / 'panoptic.json').read_text()
    assert main([*arguments, str(folder / 'b.png')]) == 1
    assert 'contains the results of an earlier run' in capsys.readouterr().err
    assert (tmp_path / 'out' / 'panoptic.json').read_text() == before
    assert main([*arguments, str(folder / 'b.png'), '--click', '3', '3']) == 0   # other files
    assert main([*arguments, str(folder / 'b.png'), '--overwrite']) == 0
    assert '"b.png"' in (tmp_path / 'out' / 'panoptic.json').read_text()
    (tmp_path / 'out' / 'panoptic.json').unlink()   # as if it was killed before its last file
    assert main([*arguments, str(folder / 'b.png')]) == 0
    (tmp_path / 'out' / 'panoptic.json').unlink()
    shutil.rmtree(tmp_path / 'out' / 'overlay')     # then the other file may be of somebody else
    assert main([*arguments, str(folder / 'b.png')]) == 1


def test_ids_and_names_of_an_annotation_file(checkpoint, folder, tmp_path, capsys):
    truth = tmp_path / 'truth.json'
    truth.write_text(json.dumps({'images': [{'id': 40, 'file_name': 'b.bmp'},
                                            {'id': 7.0, 'file_name': 'deep/a.jpg'}]}))
    arguments = ['predict', str(folder), '--checkpoint', checkpoint, '--images-from', str(truth)]
    assert main([*arguments, '--out', str(tmp_path / 'out')]) == 0
    assert 'b.png (not in ' in capsys.readouterr().err
    panoptic = json.loads((tmp_path / 'out' / 'panoptic.json').read_text())
    assert [(i['id'], i['file_name'], i['width']) for i in panoptic['images']] == [
        (40, 'b.bmp', 11), (7, 'deep/a.jpg', 24)]
    truth.write_text(json.dumps({'images': [{'id': 1, 'file_name': 'c.png'}]}))
    assert main([*arguments, '--out', str(tmp_path / 'other')]) == 1
    assert 'truth.json lists 1 images, but 1 of them cannot' in capsys.readouterr().err


def test_settings_from_options(checkpoint, folder, tmp_path, capsys):
    arguments = ['predict', str(folder / 'a.png'), '--checkpoint', checkpoint, '--out',
                 str(tmp_path / 'out')]
    assert main([*arguments, '--mask-threshold', '0.6', '--set', 'mask_threshold=2']) == 1
    assert 'mask_threshold is 2 but must be between 0 and 1' in capsys.readouterr().err
    assert main([*arguments, '--set', 'sharpness=2']) == 1
    assert "no inference setting 'sharpness'" in capsys.readouterr().err
    assert main([*arguments, '--instance-score', '0.5']) == 1
    assert "no inference setting 'instance_score'" in capsys.readouterr().err
    assert main([*arguments, '--max-candidates', '3', '--max-side', '20']) == 0


def test_a_photo_is_turned_as_a_viewer_turns_it(checkpoint, tmp_path, capsys):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new('RGB', (20, 30)).save(tmp_path / 'a.jpg', exif=exif)
    arguments = ['predict', str(tmp_path / 'a.jpg'), '--checkpoint', checkpoint, '--out',
                 str(tmp_path / 'out')]
    assert main(arguments) == 0
    assert read_image(tmp_path / 'out' / 'panoptic' / 'a.png').shape == (20, 30, 3)
    image, = json.loads((tmp_path / 'out' / 'panoptic.json').read_text())['images']
    assert (image['height'], image['width']) == (20, 30)
    assert main([*arguments, '--click', '29', '10']) == 0
    assert main([*arguments, '--click', '10', '29', '--overwrite']) == 1
    assert 'outside the image: x must be between 0 and 29' in capsys.readouterr().err


def test_it_says_what_the_network_knows_and_warns_once(tmp_path, folder, capsys):
    for name in ('c', 'd'):
        write_image(folder / f'{name}.png', np.full((40, 40, 3), 20, np.uint8))
    assert main(['predict', str(folder / 'c.png'), str(folder / 'd.png'),
                 '--out', str(tmp_path / 'out')]) == 0
    said = capsys.readouterr()
    assert ('adaptis_toy was trained on drawn toy images (data/toy_v1) with images of 96 pixels '
            'for 2 classes: background, object.') in said.out
    assert said.err.count('c.png is unlike all images') == 1
    assert 'd.png' not in said.err and 'also applies to 1 of the other' in said.err


def test_nothing_is_written_if_no_picture_can_be_read(checkpoint, tmp_path, capsys):
    for name in ('a.png', 'b.png'):
        (tmp_path / name).write_bytes(b'no image')
    for click in ([], ['--click', '1', '1']):
        assert main(['predict', str(tmp_path / '*.png'), '--checkpoint', checkpoint,
                     '--out', str(tmp_path / 'out'), *click]) == 1
        assert '2 of 2 images could not be segmented' in capsys.readouterr().err
    assert not list(tmp_path.rglob('*.json'))


def test_the_search_in_one_picture_shows_its_progress(checkpoint, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(prediction, 'PHOTOGRAPH', 100)
    monkeypatch.setattr(progress, 'CANDIDATES_EVERY', 0)
    write_image(tmp_path / 'a.png', np.random.RandomState(0).randint(0, 256, (40, 40, 3)).astype(
        np.uint8))
    assert main(['predict', str(tmp_path / 'a.png'), '--checkpoint', checkpoint,
                 '--out', str(tmp_path / 'out'), '--set', 'proposal_threshold=0',
                 '--things-threshold', '0']) == 0
    said = capsys.readouterr().err
    assert 'computing features' in said and 'object' in said and 'candidate' in said
