"""From a checkpoint to what ships."""
from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from adaptis.model import get_model, load_model, save_model
from adaptis.runtime import mx
from experiments import ship


def write_run(folder: Path, initial: str = 'other.params') -> list:
    mx.random.seed(0)
    net = get_model('adaptis_toy', width=4)
    net.initialize(mx.init.Xavier())
    save_model(net, folder / 'final.params', {'config': {'seed': 3, 'initial_weights': initial}})
    start = {'kind': 'start', 'hardware': {'cores': 2}, 'versions': {'numpy': '1'}}
    lines = [{**start, 'commit': 'a' * 40}, {'kind': 'train'}, {**start, 'commit': 'b' * 40 + '+'}]
    (folder / 'log.jsonl').write_text('\n'.join(map(json.dumps, lines)))
    return [str(folder / 'final.params'), '--log', str(folder / 'log.jsonl'), '--command',
            'adaptis train x', '--to', str(folder / 'toy_v1.params'),
            '--logs', str(folder / 'logs')]


def test_what_ships_is_the_network_in_half_precision_and_its_origin(tmp_path: Path) -> None:
    assert ship.main(write_run(tmp_path)) == 0
    info = json.loads((tmp_path / 'toy_v1.json').read_text())
    assert info['model'] == {'name': 'adaptis_toy', 'width': 4} and info['config']['seed'] == 3
    assert info['trained']['commits'] == ['a' * 40, 'b' * 40 + '+']
    assert info['trained']['stored_as'] == 'float16' and info['trained']['hardware']['cores'] == 2
    assert (tmp_path / 'logs/toy_v1_long.jsonl').read_bytes() == (
        tmp_path / 'log.jsonl').read_bytes()
    assert 'from' not in info['trained']
    before, after = (load_model(tmp_path / name)._collect_params_with_prefix()
                     for name in ('final.params', 'toy_v1.params'))
    for name, parameter in before.items():
        np.testing.assert_allclose(after[name].data().asnumpy(), parameter.data().asnumpy(),
                                   rtol=2 ** -11, atol=2 ** -25)


def test_a_network_that_was_trained_on_says_from_what(tmp_path: Path,
                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ship, 'weights_file', lambda name: tmp_path / f'{name}.params')
    command = write_run(tmp_path)
    assert ship.main(command) == 0
    for again in ([*command, '--continued', 'toy_v1'], write_run(tmp_path, initial='toy_v1')):
        assert ship.main(again) == 0
        trained = json.loads((tmp_path / 'toy_v1.json').read_text())['trained']
        assert trained['from']['command'] == trained['command']
    assert ship.main([*command, '--continued', 'toy_v1_wide']) == 1   # it is not there


def test_what_cannot_ship_is_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture,
                                        monkeypatch: pytest.MonkeyPatch) -> None:
    command = write_run(tmp_path)
    monkeypatch.setattr(ship, 'MOST_BYTES', 1000)
    monkeypatch.setattr(ship, 'PACKAGE', tmp_path)
    assert ship.main(command) == 1
    assert 'must stay below 1,000' in capsys.readouterr().err
    (tmp_path / 'log.jsonl').write_text('{"kind": "train"}')
    assert ship.main(command) == 1
    assert 'has no record of a start' in capsys.readouterr().err
    assert not (tmp_path / 'toy_v1.params').exists()
