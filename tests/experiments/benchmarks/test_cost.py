"""The table of costs: that it is made, and the numbers in it that do not depend on time."""
from __future__ import annotations

import json

import pytest

from adaptis.errors import AdaptisError
from adaptis.model import get_model
from experiments.benchmarks import cost
from experiments.benchmarks.__main__ import main

SMALL = 'adaptis_toy', (40, 60)


def test_cost_of_a_network():
    row = cost.measure(*SMALL, True, 1)
    assert row['parameters, M'] == pytest.approx(6.870922)
    # One point of the toy network, width 32: PointConv's 3 coordinates, two 3x3 units, AdaIN's
    # sums for mean and variance and its dense layers, a 3x3 unit to 16 channels, the last layer.
    pixel = 32 * 27 + 2 * 32 * 32 * 9 + 2 * 32 + 32 * 16 * 9 + 16
    assert row['a point, G multiply-adds'] == pytest.approx((2400 * pixel + 2 * 32 ** 2) / 1e9)
    assert row['features, s'] > 0 < row['a point, s']
    assert row['peak, MiB'] >= row['peak of features, MiB'] > 50
    assert 0 < row['a point as foreseen, MiB'] < row['features as foreseen, MiB']


@pytest.mark.parametrize('flip', [False, True])
def test_panoptic_has_just_a_hundred_candidates(flip, monkeypatch):
    monkeypatch.setattr(cost, 'make_network', narrow)
    row = cost.panoptic(*SMALL, flip)
    assert row['candidates'] == row['merged'] == row['objects'] == 100
    assert row['whole, s'] >= row['masks, s'] + row['features, s'] > 0


def narrow(name, hybridized):
    net = get_model(name, width=2)
    net.initialize()
    return net


def test_a_network_and_backbone_by_name():
    net = cost.make_network('adaptis_deeplab/resnet18', hybridized=True)
    assert net.description == {'name': 'adaptis_deeplab', 'backbone': 'resnet18'} and net._active
    with pytest.raises(AdaptisError, match='resnet19'):
        cost.make_network('adaptis_deeplab/resnet19', hybridized=True)


def test_all_rows_of_the_tables():
    names = [task.name for task in cost.tasks()]
    assert len(names) == len(set(names)) == 4 * 2 * 2 + 2
    assert 'adaptis_deeplab/resnet50 1024x2048 panoptic(), flip' in names
    assert [task.name for task in cost.tasks(['adaptis_toy'], [(8, 9)])] == [
        f'adaptis_toy 8x9 {form}' for form in ('hybridized', 'imperative', 'panoptic()',
                                               'panoptic(), flip')]


def test_the_command_writes_a_record(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(cost, 'tasks', lambda *arguments: [
        cost.Task('one', cost.measure, (*SMALL, False, 1))])
    path = tmp_path / 'cost.json'
    assert main(['cost', '--out', str(path)]) == 0
    record = json.loads(path.read_text(encoding='utf-8'))
    row = record['results']['cost']['one']
    assert row['peak, MiB'] > 50 and record['hardware'] and record['conditions']['threads']
    table = capsys.readouterr().out.splitlines()
    assert table[-1].startswith('one ') and len(table[-1].split()) == 1 + len(row)


def test_a_network_that_does_not_exist(same_process, capsys):
    assert main(['cost', '--network', 'nothing', '--quick']) == 1
    assert 'no network "nothing"' in capsys.readouterr().err
