from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from evaluation_cases import TAXONOMY, result, row

from adaptis import cli
from adaptis.commands import evaluation_task, measure
from adaptis.errors import AdaptisError
from adaptis.evaluation import coco
from adaptis.evaluation.coco import PanopticFolder, write_panoptic
from adaptis.evaluation.record import ROOT, sha256
from adaptis.evaluation.segments import sample_truth
from adaptis.files import write_image
from adaptis.types import TOY_TAXONOMY


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three pictures of 16 x 20 pixels in the layout of the toy data."""
    folder = tmp_path / 'toy'
    rng = np.random.default_rng(0)
    for index in range(3):
        ids = np.kron(rng.integers(0, 4, (4, 5)), np.ones((4, 4))).astype(np.uint16)
        write_image(folder / 'test' / f'{index:05d}_im.png', ids)
        grey = (60 * ids).astype(np.uint8)
        write_image(folder / 'test' / f'{index:05d}_rgb.png', np.stack([grey] * 3, axis=-1))
    return folder


class PerfectPredictor:
    """Reads the objects off the brightness of the picture."""

    def set_image(self, image):
        self.ids = (image[..., 0] // 60).astype(np.int32)
        return self

    def panoptic(self):
        from adaptis.types import Sample
        sample = Sample(np.zeros((*self.ids.shape, 3), np.uint8), self.ids,
                        dict.fromkeys((1, 2, 3), 1), (self.ids > 0).astype(np.int32))
        return sample_truth(sample, TOY_TAXONOMY)[0]


@pytest.fixture
def perfect(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(measure, '_predictor', lambda job: PerfectPredictor())
    monkeypatch.setattr(evaluation_task, 'checkpoint_facts', lambda path: {'file': path.name})
    return ['evaluate', '--checkpoint', 'net.params']


def test_data_set(data, perfect, tmp_path, capsys):
    assert cli.main([*perfect, '--data', str(data), '--save', 'saved', '--flip',
                     '--set', 'max_candidates=9', '--row', '1', 'adaptis', '--reduced']) == 0
    shown = capsys.readouterr().out
    assert 'AP 100.00' in shown and 'Wrote evaluations/net_test.json' in shown
    record = json.loads((tmp_path / 'evaluations' / 'net_test.json').read_text())
    assert record['metrics']['images'] == 3 and record['metrics']['pq']['All']['pq'] == 1
    assert (record['table'], record['row'], record['reduced']) == ('1', 'adaptis', True)
    inference = record['settings']['inference']
    assert (inference['flip'], inference['max_candidates']) == (True, 9)
    assert record['settings']['checkpoint'] == {'file': 'net.params'}
    saved = PanopticFolder(tmp_path / 'saved' / 'panoptic.json')
    assert [r.file_name for r in saved] == [f'0000{k}_rgb.png' for k in range(3)]


def test_limit_and_label(data, perfect, tmp_path):
    assert cli.main([*perfect, '--data', str(data), '--limit', '2', '--label', 'two']) == 0
    record = json.loads((tmp_path / 'evaluations' / 'two.json').read_text())
    assert record['metrics']['images'] == 2 and record['reduced']


def test_one_picture(data, perfect, capsys):
    picture = [str(data / 'test' / f'00001_{kind}.png') for kind in ('rgb', 'im')]
    assert cli.main([*perfect, '--image', picture[0], '--ids', picture[1]]) == 0
    assert ' 0 missed, 0 false, in 1 image\n' in capsys.readouterr().out


@pytest.mark.parametrize('arguments, message', [
    ([], 'Nothing to measure'),
    (['--data', 'toy', '--gt', 'x'], 'Nothing to measure'),
    (['--gt', 'x'], '--gt needs --pred'),
    (['--ids', 'x'], '--image needs --ids'),
    (['--data', 'toy', '--panopticapi'], '--panopticapi reads files'),
    (['--data', 'toy', '--processes', '0'], 'at least 1'),
    (['--data', 'toy', '--limit', '0'], 'at least 1'),
    (['--data', 'toy', '--set', 'flip'], 'write key=value'),
    (['--data', 'toy', '--set', 'flap=1'], "no inference setting 'flap'"),
    (['--data', 'toy', '--set', 'mask_threshold=high'], "mask_threshold is 'high'"),
    (['--data', 'toy', '--set', 'min_area=many'], "min_area is 'many'"),
    (['--data', 'toy', '--set', 'tile=[4'], 'the value is not YAML'),
    (['--data', 'toy', '--split', 'nope'], 'no split "nope": choose from train, val, test'),
    (['--data', 'toy', '--split', 'val'], 'toy/val does not exist'),
    (['--data', 'toy', '--row', '1', 'nobody'], 'no row nobody'),
    (['--gt', 'x.json', '--pred', 'y.json'], 'x.json cannot be read'),
    (['--data', 'toy', '--out', 'toy'], 'toy is a folder'),
    (['--data', 'toy', '--save', 'toy/test/00000_im.png'],
     'there is a file where its folder should be'),
    (['--image', 'toy/test/00000_rgb.png', '--ids', 'toy/test/00000_rgb.png'], '3 channels'),
    (['--image', 'absent.png', '--ids', 'toy/test/00000_im.png'], 'absent.png cannot be read'),
])
def test_mistakes_are_one_sentence(data, perfect, capsys, arguments, message):
    assert cli.main([*perfect, *arguments]) == 1
    error = capsys.readouterr().err
    assert message in error and error.count('\n') == 1


def test_ids_that_do_not_match_their_picture(data, perfect, tmp_path, capsys):
    write_image(tmp_path / 'other.png', np.ones((5, 6), np.uint16))
    assert cli.main([*perfect, '--image', str(data / 'test' / '00000_rgb.png'),
                     '--ids', 'other.png']) == 1
    assert 'the instances map is 5x6 but the image is 16x20' in capsys.readouterr().err


def test_measures_are_shown_even_if_they_cannot_be_written(data, perfect, tmp_path, capsys):
    (tmp_path / 'file').write_text('mine')
    assert cli.main([*perfect, '--data', str(data), '--out', 'file/out.json']) == 1
    shown = capsys.readouterr()
    assert 'AP 100.00' in shown.out and 'file/out.json cannot be written' in shown.err


def test_missing_checkpoint(data, tmp_path, capsys):
    missing = str(tmp_path / 'absent.params')
    assert cli.main(['evaluate', '--checkpoint', missing, '--data', str(data)]) == 1
    assert 'absent.params cannot be read' in capsys.readouterr().err


def write_pair(folder):
    truth = result(row((1, 10), (2, 4), (3, 6)), {1: 21, 2: 22, 3: 7})
    found = result(row((5, 8), (0, 6), (6, 6)), {5: 21, 6: 7})
    for name, picture in (('gt', truth), ('pred', found)):
        write_panoptic(folder / f'{name}.json', folder / name, [(1, 'a.jpg', picture)], TAXONOMY)
    return ['evaluate', '--gt', str(folder / 'gt.json'), '--pred', str(folder / 'pred.json'),
            '--out', str(folder / 'out.json')]


@pytest.mark.parametrize('left_out', [('images', 'categories'), ('images',), ('categories',)])
def test_results_may_list_annotations_alone(tmp_path, left_out, capsys):
    command = write_pair(tmp_path)
    assert cli.main(command) == 0
    expected = json.loads((tmp_path / 'out.json').read_text())['metrics']
    data = json.loads((tmp_path / 'pred.json').read_text())
    (tmp_path / 'pred.json').write_text(json.dumps(
        {key: value for key, value in data.items() if key not in left_out}))
    assert cli.main(command) == 0
    assert json.loads((tmp_path / 'out.json').read_text())['metrics'] == expected
    (tmp_path / 'pred.json').write_text(json.dumps({'annotations': [
        {**data['annotations'][0], 'image_id': 2}]}))
    assert cli.main(command) == 1
    assert 'annotates image 2, which is not among its images' in capsys.readouterr().err


def test_files_need_no_mxnet(tmp_path):
    program = ('import sys\nfrom adaptis import cli\n'
               f'assert cli.main({write_pair(tmp_path)!r}) == 0\n'
               "assert not {'mxnet', 'gluoncv'} & set(sys.modules)")
    subprocess.run([sys.executable, '-c', program], check=True, cwd=ROOT, timeout=250,
                   capture_output=True)
    record = json.loads((tmp_path / 'out.json').read_text())
    assert record['metrics']['pq']['All']['pq'] == pytest.approx((.8 + 0 + 1) / 3)
    assert record['label'] == 'pred'


def test_panopticapi_must_be_installed(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, 'panopticapi', None)
    assert cli.main([*write_pair(tmp_path), '--panopticapi']) == 1
    assert 'panopticapi is not installed' in capsys.readouterr().err
    assert not (tmp_path / 'out.json').exists()


def test_network(data, tmp_path):
    mx = pytest.importorskip('adaptis.runtime').mx
    from adaptis.model import get_model, save_model
    mx.random.seed(0)
    net = get_model('adaptis_toy', width=4)
    net.initialize(mx.init.Xavier(magnitude=9))
    checkpoint = tmp_path / 'net.params'
    save_model(net, checkpoint)
    out = tmp_path / 'out.json'
    assert cli.main(['evaluate', '--checkpoint', str(checkpoint), '--data', str(data), '--out',
                     str(out), '--set', 'mask_threshold=0.1', '--set', 'max_candidates=4']) == 0
    record = json.loads(out.read_text())
    assert sum(record['metrics']['objects'].values()) > 0
    assert record['settings']['checkpoint'] == {'file': 'net.params',
                                                'sha256': sha256(checkpoint)}


def test_what_was_measured_is_kept_if_results_cannot_be_saved(data, perfect, monkeypatch, capsys):
    written = []

    def full_disk(path, image):
        written.append(path)
        if len(written) == 2:
            raise AdaptisError(f'{path} cannot be written: No space left on device.')

    monkeypatch.setattr(coco, 'write_bytes', full_disk)
    assert cli.main([*perfect, '--data', str(data), '--save', 'saved', '--out', 'r.json']) == 1
    shown = capsys.readouterr()
    assert 'AP 100.00' in shown.out and 'Wrote r.json' in shown.out
    assert 'Not all results could be saved: saved/panoptic/00001_rgb.png cannot' in shown.err
    assert json.loads(Path('r.json').read_text())['metrics']['images'] == 3
    assert len(written) == 2 and not Path('saved/panoptic.json').exists()


def test_files_that_number_their_images_in_other_ways(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    pictures = [result(row((1, 3), (2, k)), {1: 21, 2: 22}) for k in (1, 4, 9)]
    names = ['c.jpg', 'a.jpg', 'b.jpg']
    write_panoptic('gt.json', 'gt', zip((1, 2, 3), names, pictures), TAXONOMY)
    by_name = sorted(zip(names, pictures), key=lambda pair: pair[0])
    write_panoptic('pred.json', 'pred', [(k, name, picture) for k, (name, picture) in enumerate(
        by_name, start=1)], TAXONOMY)
    arguments = ['evaluate', '--gt', 'gt.json', '--pred', 'pred.json', '--out', 'r.json']
    assert cli.main(arguments) == 0
    shown = capsys.readouterr()
    assert 'All       100.00' in shown.out and shown.err.count('\n') == 1
    assert 'image 1 is c.jpg in one and a.jpg in the other' in shown.err
    assert cli.main([*arguments, '--match', 'id']) == 1
    assert 'but' in capsys.readouterr().err   # the sizes differ
    assert cli.main([*arguments, '--panopticapi']) == 1
    assert 'panopticapi matches images by id' in capsys.readouterr().err
