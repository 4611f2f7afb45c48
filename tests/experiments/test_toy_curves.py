"""The comparison of short trainings, without the trainings."""
from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from experiments.toy_curves import __main__ as curves
from experiments.toy_curves.plot import draw
from experiments.toy_curves.variants import VARIANTS, as_overrides, config_of


@pytest.mark.parametrize('name', VARIANTS)
def test_variants_are_configs_and_share_out_the_budget(name: str) -> None:
    phases = VARIANTS[name]
    assert sum(share for share, _ in phases) == pytest.approx(1)
    configs = [config_of(as_overrides(keys)) for _, keys in phases]
    assert (name == 'base') == (configs == [config_of(())])
    assert all(config.proposals is None and config.seed == 0 for config in configs)


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list:
    """What would have been trained; a step of another size costs twice as much."""
    asked = []

    def alone(function, overrides, *output):
        if not output:
            return 2.0
        config = config_of(overrides)
        asked.append(config)
        folder = Path(*output)
        folder.mkdir(parents=True)
        steps = config.instances.steps
        lines = [{'kind': 'train', 'step': steps}, {'kind': 'validation', 'step': steps // 2,
                                                    'iou': 0.2},
                 {'kind': 'validation', 'step': steps, 'iou': 0.4}]
        (folder / 'log.jsonl').write_text('\n'.join(map(json.dumps, lines)))
        return None
    monkeypatch.setattr(curves, 'alone', alone)
    return asked


def test_variants_cost_the_same_and_their_records_say_what_they_are(trained: list,
                                                                    tmp_path: Path) -> None:
    command = ['--budget', '90', '--out', str(tmp_path), '--only', 'width_24', 'clean_first']
    assert curves.main(command) == 0
    wide, clean, noisy = trained
    assert (wide.model['width'], wide.instances.steps) == (24, 45)
    assert (clean.instances.steps, noisy.instances.steps) == (30, 60)
    assert clean.data.augmentation == 'toy_v2' and clean.initial_weights is None
    assert noisy.initial_weights.endswith('final.params')
    assert (clean.instances.optimizer.cooldown_steps,
            noisy.instances.optimizer.cooldown_steps) == (0, 24)
    record = json.loads((tmp_path / 'clean_first.json').read_text())
    assert [point['cost'] for point in record['curve']] == [15, 30, 60, 90]
    assert [point['points'] for point in record['curve']] == [960, 1920, 3840, 5760]
    assert record['curve'][-1]['iou'] == 0.4 and len(record['configs']) == 2
    assert {'seed', 'commit', 'hardware', 'threads', 'seconds'} <= set(record)
    assert curves.main(command) == 0 and len(trained) == 3   # nothing is done twice
    assert curves.main(['--out', str(tmp_path), '--plot', str(tmp_path / 'plot.svg')]) == 0
    text = (tmp_path / 'plot.svg').read_text()
    assert 'clean first: 0.400' in text and 'width 24: 0.400' in text


def test_a_plot_has_a_line_for_each_record_and_stays_inside() -> None:
    records = [{'name': str(i), 'curve': [{'cost': 10.0, 'iou': 0.1 * i},
                                          {'cost': 100.0, 'iou': 0.3 * i}]} for i in (1, 2, 3)]
    root = ElementTree.fromstring(draw(records))
    lines = [e for e in root if e.tag.endswith('polyline')]
    assert len(lines) == 3
    for line in lines:
        for point in line.get('points').split():
            x, y = map(float, point.split(','))
            assert 0 < x < 640 and 0 < y < 420


@pytest.mark.parametrize('more, words', [
    (['--only', 'wider'], 'no variant "wider": choose from base'),
    (['--plot', 'plot.svg'], 'holds no records'),
])
def test_mistakes_are_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture, more: list,
                                 words: str) -> None:
    assert curves.main(['--out', str(tmp_path / 'none'), *more]) == 1
    assert words in capsys.readouterr().err
