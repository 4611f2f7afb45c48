"""``make demo`` with tiny untrained networks in place of the shipped ones."""
from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from adaptis.errors import AdaptisError
from adaptis.files import read_image
from adaptis.inference.predictor import Predictor
from adaptis.inference.sidecar import taxonomy_to_list
from adaptis.model import get_model, save_model
from adaptis.runtime import mx
from adaptis.types import Category, Taxonomy
from experiments import demo
from toy_data.street import CATEGORIES


@pytest.fixture
def network(monkeypatch):
    mx.random.seed(0)
    net = get_model('adaptis_toy', width=4)
    net.initialize(mx.init.Xavier(magnitude=4))
    monkeypatch.setattr(demo, 'load_predictor', lambda: Predictor(net))
    monkeypatch.setattr(demo, 'STREET', Path('absent'))


def start(monkeypatch, *arguments):
    monkeypatch.setattr(sys, 'argv', ['demo', *map(str, arguments)])
    return demo.main()


def test_it_draws_segments_measures_and_writes(network, monkeypatch, tmp_path, capsys):
    out = tmp_path / 'out'
    for count in (2, 3):  # again, with one more
        assert start(monkeypatch, '--images', count, '--out', out) == 0
    shown = capsys.readouterr().out
    assert 'in 3 images' in shown and 'AdaptIS, Table 1' in shown
    assert read_image(out / 'demo.png').shape[1] > 4 * 2 * 96
    assert re.search(r'A click at x=\d+, y=\d+ .* confidence \d\.\d\d and an IoU of \d\.\d\d .*: '
                     f'{out}/click.png', shown)
    assert read_image(out / 'click.png').shape[1] > 3 * 3 * 96
    assert 'make serve' in shown.splitlines()[-2] and 'adaptis serve' in shown.splitlines()[-1]
    panoptic = json.loads((out / 'panoptic.json').read_text())
    assert [i['file_name'] for i in panoptic['images']] == [f'{k:05d}_rgb.png' for k in range(3)]
    assert isinstance(json.loads((out / 'instances.json').read_text()), list)


def test_a_street_scene(monkeypatch, tmp_path, capsys):
    taxonomy = Taxonomy([Category(c.id, c.name, c.isthing, c.color) for c in CATEGORIES])
    mx.random.seed(0)
    net = get_model('adaptis_toy', width=4, num_classes=len(taxonomy), num_stuff=taxonomy.num_stuff)
    net.initialize(mx.init.Xavier(magnitude=4))
    net(mx.nd.zeros((1, 3, 32, 32)), mx.nd.zeros((1, 1, 2)))
    save_model(net, tmp_path / 'net.params', {'taxonomy': taxonomy_to_list(taxonomy)})
    monkeypatch.setattr(demo, 'STREET', tmp_path / 'net.params')
    demo.street(tmp_path / 'out', seed=1)
    assert 'street.png' in capsys.readouterr().out
    assert read_image(tmp_path / 'out' / 'street.png').shape[1] > 3 * 2 * 256


@pytest.mark.parametrize('arguments, message', [
    (['--images', '0'], 'give at least 1'), (['--out', 'file'], 'file')])
def test_mistakes_are_one_sentence(network, monkeypatch, tmp_path, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'file').write_text('mine')
    assert start(monkeypatch, *arguments) == 1
    error = capsys.readouterr().err
    assert message in error and error.count('\n') == 1
    assert (tmp_path / 'file').read_text() == 'mine'


def test_a_missing_network_is_one_sentence(monkeypatch, tmp_path, capsys):
    def missing():
        raise AdaptisError('toy_v1.params does not exist.')
    monkeypatch.setattr(demo, 'load_predictor', missing)
    assert start(monkeypatch, '--images', 1, '--out', tmp_path) == 1
    assert capsys.readouterr().err == 'demo: toy_v1.params does not exist.\n'
