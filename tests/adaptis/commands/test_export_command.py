"""``adaptis export``, and the commands that take what it wrote."""
from __future__ import annotations

import json

import numpy as np
import pytest

from adaptis.cli import main
from adaptis.files import read_json, write_image
from adaptis.inference.sidecar import read_training
from adaptis.loading import load_predictor
from tests.devices import ctx_option


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """The network that ships, exported with settings of its own."""
    pytest.importorskip('onnx')
    out = tmp_path_factory.mktemp('export') / 'net'
    assert main(['export', '--out', str(out), '--preset', 'toy_v2', '--flip',
                 '--set', 'max_candidates=7']) == 0
    return out


@pytest.fixture
def data(tmp_path):
    """Two pictures in the layout of the toy data."""
    rng = np.random.default_rng(0)
    for index in range(2):
        ids = np.kron(rng.integers(0, 4, (4, 5)), np.ones((8, 8))).astype(np.uint16)
        write_image(tmp_path / 'toy' / 'test' / f'{index:05d}_im.png', ids)
        grey = (60 * ids).astype(np.uint8)
        write_image(tmp_path / 'toy' / 'test' / f'{index:05d}_rgb.png', np.stack([grey] * 3, -1))
    return tmp_path / 'toy'


def test_what_is_written(folder, capsys):
    manifest = read_json(folder / 'export.json')
    assert manifest['inference']['mask_threshold'] == 0.5   # of the preset
    assert manifest['inference']['flip'] and manifest['inference']['max_candidates'] == 7
    assert manifest['source']['file'] == 'toy_v1.params' and len(manifest['source']['sha256']) == 64
    known = read_training(folder)   # what "adaptis predict" says of it
    assert known['config']['data']['root'] == 'data/toy_v1' and known['images']['sizes'] == [96, 96]
    assert {tuple(stage['files']) for stage in manifest['stages'].values()} == {
        ('symbol', 'parameters', 'onnx')}
    assert main(['export', '--checkpoint', str(folder), '--out', str(folder)]) == 1
    assert 'already exported' in capsys.readouterr().err


def test_one_format_and_a_folder_that_is_in_the_way(tmp_path, capsys):
    out = tmp_path / 'net'
    assert main(['export', '--out', str(out), '--format', 'mxnet', '--set', 'official=true']) == 0
    manifest = read_json(out / 'export.json')
    assert manifest['model']['official'] and manifest['inference']['official']
    assert load_predictor(out).settings.official
    said = capsys.readouterr().out
    assert 'Wrote 10 files' in said and f'--export {out}' in said
    assert not list(out.glob('*.onnx'))
    (out / 'export.json').unlink()
    assert main(['export', '--out', str(out), '--format', 'mxnet']) == 1
    assert 'would be overwritten: choose another folder' in capsys.readouterr().err


@pytest.mark.parametrize('backend', ['mxnet', 'onnxruntime'])
def test_prediction(folder, data, tmp_path, backend):
    pytest.importorskip('onnxruntime')
    out = tmp_path / 'out'
    assert main(['predict', str(data / 'test' / '00000_rgb.png'), '--out', str(out), *ctx_option(),
                 '--export', str(folder), '--backend', backend, '--click', '3', '4']) == 0
    assert (out / 'clicks' / '00000_rgb_1_mask.png').is_file()


def test_evaluation_by_both_backends_and_by_the_network_itself(folder, data, tmp_path):
    pytest.importorskip('onnxruntime')
    network = ['--preset', 'toy_v2', '--flip', '--set', 'max_candidates=7']
    found = {}
    for name, options in {'mxnet': ['--export', str(folder), '--backend', 'mxnet'],
                          'network': network,
                          'onnxruntime': ['--export', str(folder), '--backend', 'onnxruntime',
                                          '--processes', '2']}.items():
        out = tmp_path / f'{name}.json'
        assert main(['evaluate', '--data', str(data), '--out', str(out), *options]) == 0
        found[name] = json.loads(out.read_text())
    assert found['mxnet']['metrics'] == found['network']['metrics']
    assert found['onnxruntime']['metrics']['pq']['All']['pq'] == pytest.approx(
        found['network']['metrics']['pq']['All']['pq'], abs=1e-3)
    settings = found['onnxruntime']['settings']
    assert settings['backend'] == 'onnxruntime' and settings['preset'] == 'of the export'
    assert settings['checkpoint']['file'] == 'net'
    assert settings['inference'] == found['network']['settings']['inference']
    assert found['mxnet']['settings']['backend'] == 'mxnet'
    assert 'backend' not in found['network']['settings']


def test_the_folder_in_which_one_is(folder, data, tmp_path, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setattr('adaptis.commands.evaluate.EVALUATIONS', tmp_path)
    assert main(['evaluate', '--data', str(data), '--export', '.', '--limit', '1']) == 0
    record = read_json(tmp_path / 'net_test.json')
    assert record['settings']['checkpoint']['file'] == 'net'


@pytest.mark.parametrize('options, sentence', [
    (['--backend', 'mxnet'], '--backend needs an exported network'),
    (['--export', 'nowhere'], 'nowhere is not an exported network')])
def test_wrong_options(data, tmp_path, options, sentence, capsys):
    picture = str(data / 'test' / '00000_rgb.png')
    assert main(['predict', picture, '--out', str(tmp_path), *options]) == 1
    assert main(['evaluate', '--data', str(data), *options]) == 1
    assert capsys.readouterr().err.count(sentence) == 2


def test_a_network_is_one_or_the_other(folder, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(['predict', 'a.png', '--out', str(tmp_path), '--checkpoint', 'a.params',
              '--export', str(folder)])
    assert 'not allowed with' in capsys.readouterr().err
