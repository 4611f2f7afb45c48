"""The comparison of short trainings, without the trainings."""
from __future__ import annotations

import json
from pathlib import Path

import pytest

from adaptis.errors import AdaptisError
from experiments.toy_curves import __main__ as curves
from experiments.toy_curves.history import Point, Run, fit_power_law, read_history
from experiments.toy_curves.plot import plot_history, read_curves, records_table
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
        if function is curves.evaluate:
            assert Path(overrides, 'log.jsonl').exists()    # the folder of the last phase
            return {'ap50': 0.5, 'ap70': 0.25, 'ap80': 0.125, 'ap90': 0.0}
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
    assert record['metrics']['ap']['ap50'] == 0.5
    assert {'seed', 'commit', 'hardware', 'threads', 'seconds'} <= set(record)
    assert curves.main(command) == 0 and len(trained) == 3   # nothing is done twice
    assert curves.main(['--out', str(tmp_path), '--plot', str(tmp_path / 'plot.svg')]) == 0
    text = (tmp_path / 'plot.svg').read_text()
    assert 'clean first: 0.400' in text and 'width 24: 0.400' in text


def test_the_records_become_a_table(trained: list, tmp_path: Path,
                                    capsys: pytest.CaptureFixture) -> None:
    command = ['--out', str(tmp_path)]
    assert curves.main([*command, '--budget', '90', '--only', 'clean_first']) == 0
    assert curves.main([*command, '--table']) == 0
    assert '| `clean_first` | 90 | 5,760 | 40.0 | 50.0 | 25.0 | 12.5 | 0.0 |\n' in (
        capsys.readouterr().out)


def test_the_documentation_shows_the_table_of_the_records() -> None:
    text = (Path(__file__).parents[2] / 'docs' / 'toy_training.md').read_text(encoding='utf-8')
    assert records_table(read_curves(curves.RESULTS)) in text


def test_the_history_adds_up_what_the_runs_have_seen(tmp_path: Path) -> None:
    (tmp_path / 'first.jsonl').write_text('\n'.join(map(json.dumps, [
        {'kind': 'start'}, {'kind': 'validation', 'stage': 'instances', 'step': 10, 'iou': 0.5},
        {'kind': 'train', 'stage': 'instances', 'step': 20},
        {'kind': 'validation', 'stage': 'proposals', 'step': 40, 'iou': 0.6}])))
    (tmp_path / 'second.jsonl').write_text(json.dumps(
        {'kind': 'validation', 'stage': 'instances', 'step': 30, 'iou': 0.75}))
    runs = [Run('first', {0: 4}), Run('second', {0: 4, 20: 8})]
    parts = read_history(runs, tmp_path)
    assert parts == {'first': [(40, 0.5)], 'second': [(80 + 80 + 80, 0.75)]}
    hidden = read_history([runs[0]._replace(counts=False), runs[1]], tmp_path)
    assert hidden == {'second': parts['second']}
    plot_history(tmp_path / 'plot.svg', {**parts, 'wide': [Point(300, 0.9)]}, ['wide'])
    text = (tmp_path / 'plot.svg').read_text()
    assert 'second' in text and 'the paper: 16.8 million' in text
    with pytest.raises(AdaptisError, match='not a log of "adaptis train"'):
        read_history([Run('third', {0: 1})], tmp_path)


def test_a_power_law_is_found_again() -> None:
    law = fit_power_law([Point(masks, 1 - 3 * masks ** -0.2) for masks in (1000, 20000, 300000)])
    assert law(5e6) == pytest.approx(3 * 5e6 ** -0.2)


def test_the_history_of_the_network_that_ships_can_be_plotted(tmp_path: Path) -> None:
    assert curves.main(['--history', str(tmp_path / 'plot.svg')]) == 0
    assert 'toy_v1_long' in (tmp_path / 'plot.svg').read_text()


@pytest.mark.parametrize('more, words', [
    (['--only', 'wider'], 'no variant "wider": choose from base'),
    (['--plot', 'plot.svg'], 'holds no records'),
    (['--table'], 'holds no records'),
])
def test_mistakes_are_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture, more: list,
                                 words: str) -> None:
    assert curves.main(['--out', str(tmp_path / 'none'), *more]) == 1
    assert words in capsys.readouterr().err
