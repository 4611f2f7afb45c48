"""Bugs that the fuzzer has found, each as a small test."""
from __future__ import annotations

import json
from pathlib import Path

import pytest

from adaptis.errors import AdaptisError
from adaptis.loading import load_predictor
from adaptis.model import get_model, load_model, save_model
from adaptis.model.zoo import read_arrays
from adaptis.types import Taxonomy


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    net = get_model('adaptis_toy', width=2)
    net.initialize()
    return save_model(net, tmp_path / 'a.params') or tmp_path / 'a.params'


@pytest.mark.parametrize('width', [2 ** 33, 10 ** 30])
def test_a_network_of_impossible_size(checkpoint: Path, width: int) -> None:
    sidecar = checkpoint.with_suffix('.json')
    info = json.loads(sidecar.read_text())
    info['model']['width'] = width
    sidecar.write_text(json.dumps(info))
    with pytest.raises(AdaptisError, match=r'a\.json'):
        load_model(checkpoint)


def test_arrays_of_a_kind_that_mxnet_does_not_know(tmp_path: Path) -> None:
    """It raises a plain ``Exception`` for them."""
    from adaptis.runtime import mx
    mx.nd.save(str(tmp_path / 'a.params'), {'x': mx.nd.ones((2, 3))})
    content = bytearray((tmp_path / 'a.params').read_bytes())
    at = content.index(b'\xc9\xfa\x93\xf9')     # the mark of an array; its kind follows
    content[at + 4:at + 8] = b'\xff' * 4
    (tmp_path / 'a.params').write_bytes(content)
    with pytest.raises(AdaptisError, match='not a parameter file'):
        read_arrays(tmp_path / 'a.params')


@pytest.mark.parametrize('number', [float('inf'), float('nan'), None, '', []])
def test_categories_whose_ids_are_no_numbers(number: object) -> None:
    entry = {'id': number, 'name': 'a', 'isthing': True, 'color': [1, 2, 3]}
    with pytest.raises(AdaptisError, match='is not a list of categories'):
        Taxonomy.from_list([entry], 'a.json')


@pytest.mark.parametrize('name', ['\ud800', 'x' * 5000, 'a\nb'])
def test_names_that_cannot_be_printed_as_they_are(checkpoint: Path, name: str) -> None:
    sidecar = checkpoint.with_suffix('.json')
    info = json.loads(sidecar.read_text())
    info['model']['name'] = name
    sidecar.write_text(json.dumps(info))
    with pytest.raises(AdaptisError) as caught:
        load_predictor(checkpoint)
    message = str(caught.value)
    assert '\n' not in message and len(message) <= AdaptisError.LONGEST
    message.encode('utf-8')
