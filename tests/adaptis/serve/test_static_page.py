"""The folder of the page without a server: what is in it, and what is refused."""
from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tarfile

import pytest

from adaptis.cli import main
from adaptis.deploy.export import export
from adaptis.deploy.folder import read_export
from adaptis.errors import AdaptisError
from adaptis.inference.predictor import Predictor
from adaptis.inference.settings import AdaptISSettings
from adaptis.model import get_model, save_model
from adaptis.runtime import mx
from adaptis.serve import ort_web
from adaptis.serve.networks import ServedNetwork
from adaptis.serve.ort_web import PACKAGE, read_ort_web
from adaptis.serve.samples import Samples
from adaptis.serve.static_page import copy_onnx, write_page

STAND_INS = {name: name.encode() for name in ort_web.FILES}   # of ONNX Runtime, which is large


@pytest.fixture(autouse=True)
def small_ort_web(monkeypatch):
    monkeypatch.setattr(ort_web, 'FILES', {name: hashlib.sha256(content).hexdigest()
                                           for name, content in STAND_INS.items()})


@pytest.fixture
def ort(tmp_path):
    folder = tmp_path / 'node_modules' / 'onnxruntime-web' / 'dist'
    folder.mkdir(parents=True)
    for name, content in STAND_INS.items():
        (folder / name).write_bytes(content)
    return folder.parent


@pytest.fixture(scope='module')
def predictor():
    mx.random.seed(3)
    net = get_model('adaptis_toy', width=4)
    net.initialize(mx.init.Xavier(magnitude=4))
    return Predictor(net, AdaptISSettings())


@pytest.fixture(scope='module')
def checkpoint(predictor, tmp_path_factory):
    path = tmp_path_factory.mktemp('net') / 'net.params'
    predictor.set_image(Samples('v1').ids(0).astype('uint8'))   # its shapes are known only now
    save_model(predictor.net, path, {'dataset': 'toy_v1'})
    return path


@pytest.fixture(scope='module')
def exported(predictor, tmp_path_factory):
    pytest.importorskip('onnx')
    return export(predictor, tmp_path_factory.mktemp('export') / 'net', 'both')


def write(folder, exported, ort, samples=None):
    network = ServedNetwork('net', 'A net', 'sticks', lambda: None, samples)
    return write_page(folder, network, lambda new: copy_onnx(read_export(exported), new), ort)


def test_all_that_the_page_needs_is_in_the_folder_and_nothing_else_is_asked_for(
        exported, ort, tmp_path):
    page = write(tmp_path / 'page', exported, ort, Samples('v1'))
    told = json.loads((page / 'web.json').read_text())
    model, = told['models']
    assert (model['name'], model['title'], model['trainedOn']) == ('net', 'A net', 'sticks')
    wanted = [page / sample['url'] for sample in model['samples']]
    for path in [page / 'index.html', *page.glob('*.js')]:
        text = path.read_text(encoding='utf-8')
        assert not re.search(r'(https?:)?//[a-z0-9-]+\.[a-z]', text), path.name
        wanted += [page / name for name in re.findall(r"(?:from|URL\() ?'(\./[^']+)'", text)]
    assert len(wanted) > 12
    assert [path for path in wanted if not path.exists()] == []
    assert 'api/' not in (page / 'engine.js').read_text()
    model = read_export(page / model['folder'])
    assert model.supports('onnxruntime') and not model.supports('mxnet')
    assert sorted(told['files']) == sorted(
        path.relative_to(page).as_posix() for path in page.rglob('*') if path.is_file())


def test_an_older_page_is_replaced_but_no_other_files(exported, ort, tmp_path):
    page = write(tmp_path / 'page', exported, ort, Samples('v1'))
    write(page, exported, ort)
    assert not (page / 'samples').exists()
    (page / 'CNAME').write_text('mine')
    with pytest.raises(AdaptisError, match='would be overwritten'):
        write(page, exported, ort)
    assert (page / 'CNAME').exists() and (page / 'web.json').exists()


def test_models_for_gpus_are_refused(exported, tmp_path):
    half = shutil.copytree(exported, tmp_path / 'half')
    manifest = json.loads((half / 'export.json').read_text())
    (half / 'export.json').write_text(json.dumps({**manifest, 'onnx_precision': 'float16'}))
    with pytest.raises(AdaptisError, match='for GPUs'):
        copy_onnx(read_export(half), tmp_path / 'model')


def test_the_command(checkpoint, exported, ort, tmp_path, capsys):
    pytest.importorskip('onnx')
    page, graphs = tmp_path / 'page', tmp_path / 'graphs'
    ask = ['export', '--checkpoint', str(checkpoint), '--ort-web', str(ort), '--web', str(page)]
    assert main([*ask, '--out', str(graphs), '--format', 'onnx', '--set', 'min_area=7']) == 0
    told = capsys.readouterr().out
    assert f'--export {graphs}' in told and f'--directory {page}' in told
    assert read_export(page / 'model').inference['min_area'] == 7
    assert json.loads((page / 'web.json').read_text())['models'][0]['samples']
    ask[2] = str(exported)
    assert main(ask) == 0
    assert read_export(page / 'model').inference['min_area'] == 10


@pytest.mark.parametrize('arguments, message', [
    (['export'], '--out DIR'),
    (['export', '--web', '{page}', '--set', 'tile=[64,64]'], '--set tile=null'),
    (['export', '--web', '{page}', '--set', 'algorithm=paper'], '--set tile=null'),
    (['export', '--web', '{page}', '--checkpoint', '{exported}', '--set', 'min_area=7'],
     'an export, whose settings are fixed'),
    (['export', '--web', '{page}', '--precision', 'float16'], 'leave out --precision'),
    (['export', '--web', '{page}', '--checkpoint', '{port}'], 'which only AdaptIS networks can do'),
    (['export', '--web', '{page}', '--checkpoint', '{exported}', '--ort-web', '{page}'],
     'cannot be read'),
])
def test_what_cannot_be_a_page_is_refused_in_a_sentence(
        checkpoint, exported, tmp_path, capsys, arguments, message):
    port = tmp_path / 'port.params'
    port.write_bytes(b'')
    port.with_suffix('.json').write_text('{"model": {"name": "condinst_r50"}}')
    names = {'page': tmp_path / 'page', 'exported': exported, 'port': port}
    arguments = [argument.format(**names) for argument in arguments]
    if '--web' in arguments and '--checkpoint' not in arguments:
        arguments += ['--checkpoint', str(checkpoint)]
    assert main(arguments) == 1
    told = capsys.readouterr().err
    assert message in told and len(told.strip().splitlines()) == 1
    assert not (tmp_path / 'page').exists()


def npm(folder, monkeypatch, script):
    """Put a program called npm before all others."""
    path = folder / 'bin' / 'npm'
    path.parent.mkdir()
    path.write_text(f'#!/bin/sh\n{script}\n')
    path.chmod(0o755)
    monkeypatch.setenv('PATH', f'{path.parent}{os.pathsep}{os.environ["PATH"]}')


@pytest.mark.skipif(os.name != 'posix', reason='the stand-in for npm is a shell script')
def test_npm_fetches_the_pinned_version(ort, tmp_path, monkeypatch):
    archive = tmp_path / 'packed.tgz'
    with tarfile.open(archive, 'w:gz') as file:
        file.add(ort, 'package')
    npm(tmp_path, monkeypatch, f'test "$*" = "pack {PACKAGE} --silent" && cp {archive} ort.tgz')
    assert read_ort_web() == STAND_INS == read_ort_web(archive)
    assert read_ort_web(ort.parents[1]) == STAND_INS == read_ort_web(ort / 'dist')


def test_without_npm_a_sentence_says_what_to_do(ort, tmp_path, monkeypatch):
    monkeypatch.setattr(ort_web.shutil, 'which', lambda name: None)
    with pytest.raises(AdaptisError, match=f'install Node.js, or run "npm pack {PACKAGE}" on an'):
        read_ort_web()
    monkeypatch.undo()
    npm(tmp_path, monkeypatch, 'echo "npm error network" >&2; exit 1')
    with pytest.raises(AdaptisError, match=r'npm could not download .* \(npm error network\)'):
        read_ort_web()


def test_other_files_than_those_of_the_version_are_refused(ort, tmp_path):
    (ort / 'dist' / 'ort.wasm.bundle.min.mjs').write_text('newer')
    with pytest.raises(AdaptisError, match=f'a different ort.wasm.bundle.min.mjs than {PACKAGE}'):
        read_ort_web(ort)
    (ort / 'dist' / 'ort.wasm.bundle.min.mjs').unlink()
    with pytest.raises(AdaptisError, match=r'has no ort.wasm.bundle.min.mjs'):
        read_ort_web(ort)
    (tmp_path / 'text.tgz').write_text('no archive')
    with pytest.raises(AdaptisError, match='not an archive'):
        read_ort_web(tmp_path / 'text.tgz')
