"""``adaptis serve`` on the command line."""
from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from adaptis import cli
from adaptis.deploy.export import export
from adaptis.loading import load_predictor
from tests.adaptis.serve.page import SAMPLE, an_object, decode, iou

ROOT = Path(__file__).resolve().parents[3]


def told(capsys, *arguments):
    """What the command says on stderr; it must end with status 1."""
    assert cli.main(['serve', *map(str, arguments)]) == 1
    sentence = capsys.readouterr().err
    assert sentence.count('\n') == 1
    return sentence


def test_the_extra_is_missing(monkeypatch, capsys):
    spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, 'find_spec',
                        lambda name, *rest: None if name == 'uvicorn' else spec(name, *rest))
    assert 'needs uvicorn: run python -m pip install uvicorn, or' in told(capsys)


def test_a_port_that_is_in_use(capsys):
    with socket.socket() as other:
        other.bind(('127.0.0.1', 0))
        other.listen()
        port = other.getsockname()[1]
        assert f'Port {port} is in use: choose another one with --port' in told(
            capsys, '--port', port)


@pytest.mark.parametrize('arguments, sentence', [
    (('--port', 70000), '--port must be from 0 to 65535'),
    (('--host', '192.0.2.1', '--token', 'auto'), '--host 192.0.2.1 --port 8000: '),
    (('--host', '0.0.0.0'), 'lets other machines use this page .* add --token auto'),
    (('--host', '::'), 'lets other machines use this page'),
    (('--host', '0.0.0.0', '--token', 'short'), '--token must have at least 12'),
    (('--sessions', 0), '--sessions must be at least 1'),
    (('--checkpoint', 'none.params', '--port', 0), 'none.params')])
def test_what_cannot_be_served(capsys, arguments, sentence):
    assert re.search(sentence, told(capsys, *arguments))


def test_a_network_that_is_not_adaptis(capsys, tmp_path):
    (tmp_path / 'net.params').touch()
    (tmp_path / 'net.json').write_text('{"model": {"name": "condinst_r50"}}')
    assert 'net.params is not an AdaptIS network' in told(
        capsys, '--checkpoint', tmp_path / 'net.params', '--port', 0)


class Running:
    """The command in a process of its own."""

    def __init__(self, *arguments, program='from adaptis.cli import main; sys.exit(main())'):
        environment = {**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'}
        self.process = subprocess.Popen(
            [sys.executable, '-c', f'import sys; {program}', 'serve', '--port', '0', *arguments],
            env=environment, stdout=subprocess.PIPE, text=True)
        self.said = ''
        for line in self.process.stdout:
            self.said += line
            if line.startswith('Open '):
                self.url = line.split()[1]
                return

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.process.send_signal(signal.SIGINT)
        self.status = self.process.wait(20)

    def post(self, path, data):
        with urllib.request.urlopen(urllib.request.Request(self.url + path, data)) as answer:
            return json.load(answer)

    def get(self, path):
        with urllib.request.urlopen(self.url + path) as answer:
            return json.load(answer)


@pytest.fixture(scope='module')
def exported(tmp_path_factory):
    pytest.importorskip('onnx')
    pytest.importorskip('onnxruntime')
    folder = tmp_path_factory.mktemp('exported') / 'net'
    export(load_predictor(), folder)
    return folder


def test_an_export_is_served_by_onnx_runtime_alone(exported):
    """MXNet is not loaded, and nothing is written; Ctrl+C ends it in order."""
    program = ('import adaptis.cli; sys.modules["mxnet"] = None; '
               'sys.exit(adaptis.cli.main())')
    before = sorted(exported.iterdir())
    with Running('--export', str(exported), '--samples', 'v1', program=program) as server:
        model, = server.get('api/models')
        assert model['name'] == 'net' and len(model['samples']) > 1
        opened = server.post(f"api/images?model={model['name']}", SAMPLE.png(0))
        (x, y), truth = an_object()
        found = server.get(f"api/images/{opened['id']}/mask?x={x}&y={y}")
    assert iou(decode(found['mask']), truth) > 0.8
    assert server.status == 0
    assert sorted(exported.iterdir()) == before
