"""The comparison of the five systems: what it counts, times, marks and reports."""
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adaptis.config import load_config, write_config
from adaptis.errors import AdaptisError
from adaptis.evaluation.overlap import compute_overlap
from adaptis.registry import find_family
from adaptis.runtime import mx
from adaptis.types import Category, PanopticResult, Sample, Segment, Taxonomy
from experiments.side_by_side import __main__ as command
from experiments.side_by_side import cost, found, pictures, report, run, thresholds

TAXONOMY = Taxonomy([Category(1, 'road', False), Category(2, 'car', True)])


def result(system: str, pq: float, seconds: float) -> dict[str, Any]:
    parts = {'pq': pq, 'sq': 0.8, 'rq': 0.7}
    return {'system': system, 'config': f'{system}.yaml', 'seed': 0, 'commit': 'abc',
            'found': {'miou': 0.5, 'covered': {'0% to 2%': [3, 4], 'over 2%': [1, 3]},
                      'area': {'0 to 64': [0, 0], 'over 64': [4, 7]}},
            'hardware': {'cpu': 'some', 'cores': 2}, 'date': '2026-01-01T00:00:00',
            'quality': {'pq': {'All': parts, 'Things': parts, 'Stuff': parts},
                        'ap': {'ap': 0.25}},
            'training': {'seconds': 600, 'seconds_undisturbed': 540},
            'cost': {'parameters': 2e6, 'multiply_adds': 3e9, 'seconds': seconds, 'peak_mib': 500,
                     'threads': 1,
                     'stages': {'dense': 0.1, 'objects': 0.02, 'rest': 0.01},
                     'by_objects': {'0-6': 0.1, '7-9': seconds}}}


RESULTS = [result('adaptis', 0.61, 0.4), result('condinst', 0.655, 0.2)]


def test_tables() -> None:
    lines = report.markdown(RESULTS).splitlines()
    assert lines[0].startswith('|  | PQ | SQ | RQ ')
    assert lines[2].startswith('| AdaptIS | 61.0 | 80.0 | 70.0 |')
    assert lines[2].endswith('| - | 50.0 |')          # no AP by class was measured
    assert '| CondInst | 2.0 | 3.00 | 200 | 100 | 20 | 10 | 500 | 10 | 9 |' in lines
    assert report.by_objects(RESULTS)[2] == ['CondInst', '100', '200']
    assert report.found_by(RESULTS, 'covered')[:2] == [['', '0% to 2% (4)', 'over 2% (3)'],
                                                       ['AdaptIS', '75.0', '33.3']]
    assert report.found_by(RESULTS, 'area')[1] == ['AdaptIS', '-', '57.1']


def test_ranks_among_those_that_are_known() -> None:
    table = {row[0]: row for row in report.ranks(RESULTS)}
    assert table['CondInst'][3] == '65.5 (1 of 2)' and table['AdaptIS'][3] == '61.0 (2 of 2)'
    assert table['Unified'][3] == '-'
    assert table['Panoptic FPN'][2].startswith('57.7 (')   # table 3a, Cityscapes


def test_the_page_needs_nothing_else(tmp_path: Path) -> None:
    for item in RESULTS:
        (tmp_path / f'{item["system"]}.json').write_text(json.dumps(item))
    (tmp_path / 'findings.txt').write_text('First & last.\n\nAnother one.')
    html, markdown = tmp_path / 'a.html', tmp_path / 'a.md'
    assert report.main(['--results', str(tmp_path), '--html', str(html),
                        '--markdown', str(markdown)]) == 0
    page = html.read_text()
    assert '<p>First &amp; last.</p>' in page and '<p>Another one.</p>' in page
    assert page.count('<circle') == 2 and '$' not in page
    assert 'src="http' not in page and 'href' not in page
    assert markdown.read_text() == report.markdown(RESULTS)


def test_no_results_is_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert report.main(['--results', str(tmp_path)]) == 1
    assert 'contains no results' in capsys.readouterr().err


def test_errors_are_those_that_panoptic_quality_counts() -> None:
    truth = np.zeros((8, 16), np.int32)
    truth[:, :4], truth[:, 4:8], truth[:, 12:] = 1, 2, 3
    sample = Sample(image=np.zeros((8, 16, 3), np.uint8), instances=truth,
                    classes={1: 1, 2: 1, 3: 1}, semantic=(truth > 0).astype(np.int32),
                    ignored=frozenset([3]))
    found = np.zeros((8, 16), np.int32)
    found[:, :4], found[:2, 4:8], found[:, 9:12], found[:, 12:] = 1, 2, 3, 4
    things = PanopticResult(found, [Segment(i, 2, True, 1.0, 1) for i in range(1, 5)])
    picture = pictures.mark(sample, things, TAXONOMY)
    marks = [(picture == color).all(axis=2)[::2, ::2] for color in (pictures.MISSED,
                                                                    pictures.FALSE)]
    assert marks[0][:, 4:8].any() and not marks[0][:, :4].any()     # too little of it was found
    assert not marks[0][:, 12:].any() and not marks[1][:, 13:].any()  # a crowd is no error
    assert marks[1][:, 9:12].any() and not marks[1][3:, :3].any()


def test_found_objects_by_what_covers_them() -> None:
    truth = np.zeros((10, 20), np.int32)
    truth[:, :6], truth[4:, 3:6], truth[:, 10:14], truth[:2, 16:] = 1, 2, 3, 4
    segments = [Segment(i, 2, True, 1.0, 1) for i in range(1, 5)]
    expected, seen = (PanopticResult(ids, segments) for ids in (
        truth, np.where(truth == 2, 0, truth)))
    seen.segments = [segments[i] for i in (0, 2, 3)]
    rows = list(found._objects(expected, compute_overlap(expected, seen, {4})))
    assert rows == [(0.3, 42, True), (0.0, 18, False), (0.0, 40, True)]   # a crowd is left out
    covered, areas, hits = map(np.array, zip(*rows))
    assert found._binned(covered, hits, found.COVERED, '{:.0%}') == {
        '0% to 2%': [1, 2], '2% to 15%': [0, 0], '15% to 35%': [1, 1], 'over 35%': [0, 0]}
    assert found._binned(areas, hits, (0, 18, 40, 50), '{:.0f}') == {
        '0 to 18': [0, 1], '18 to 40': [1, 1], 'over 40': [1, 1]}


def test_time_of_a_run_leaves_pauses_out(tmp_path: Path) -> None:
    write_config(load_config(run.FOLDER / 'condinst.yaml'), tmp_path / 'config.yaml')
    lines = [{'kind': 'start', 'commit': 'a'}, {'kind': 'start', 'commit': 'a'}] + [
        {'kind': 'train', 'stage': 'joint', 'step': step, 'images_per_second': rate,
         'time': 100 * step} for step, rate in ((20, 2.0), (40, 4.0), (40, 8.0))]
    (tmp_path / 'log.jsonl').write_text('\n'.join(map(json.dumps, lines)))
    assert run.training(tmp_path) == {
        'seconds': 25, 'seconds_undisturbed': pytest.approx(80 / 7.4), 'images': 80,
        'commits': ['a'], 'steps': {'joint': 40}}
    with pytest.raises(AdaptisError, match='log.jsonl cannot be read'):
        (tmp_path / 'log.jsonl').unlink()
        run.training(tmp_path)


def test_calls_within_calls_are_timed_once() -> None:
    class Net:
        def forward(self) -> int:
            return 3

        def detect(self) -> int:
            return self.forward() + 1

    net, spent = Net(), {'dense': 0.0, 'objects': 0.0}
    with cost._watch(net, 'forward', 'dense', spent), cost._watch(net, 'detect', 'objects', spent):
        assert net.detect() == 4
    assert spent['dense'] == 0 and spent['objects'] > 0
    assert not vars(net)


@pytest.mark.parametrize('name, options', [
    ('adaptis_toy', {'width': 4}),
    ('condinst_r18', {'fpn_channels': 16, 'branch_channels': 8, 'semantic': True,
                      'norm_layer': 'BatchNorm'}),
    ('panoptic_fpn_r18', {'fpn_channels': 16, 'box_channels': 8, 'mask_channels': 8,
                          'norm_layer': 'BatchNorm'})])
def test_every_kind_of_predictor_is_timed(name: str, options: dict[str, Any]) -> None:
    mx.random.seed(0)
    family = find_family(name)
    net = family.build({'name': name, **family.class_counts(TAXONOMY), **options},
                       [mx.current_context()])
    preset = family.get_settings('coco').replace(short_side=None, max_side=None)
    if name == 'adaptis_toy':   # untrained, it is sure of nothing
        preset = preset.replace(things_threshold=0.0)
    predictor = family.make_predictor(net, preset, TAXONOMY, trained=[])   # of AdaptIS: any points
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    spent = cost._time(predictor, image)
    assert spent['dense'] > 0 and spent['objects'] > 0 and spent['rest'] > 0
    assert spent['whole'] == pytest.approx(spent['dense'] + spent['objects'] + spent['rest'])


def test_a_system_that_is_done_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / 'unified.json').write_text('{}')
    assert run.run('unified', tmp_path / 'runs', tmp_path) == tmp_path / 'unified.json'
    assert not (tmp_path / 'runs').exists()


def test_only_what_is_trained_is_timed_again(tmp_path: Path, capsys: pytest.CaptureFixture,
                                             monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, 'draw', lambda *_: None)
    (tmp_path / 'unified.json').write_text('{}')
    assert command.main(['unified', '--time-again', '--results', str(tmp_path),
                         '--out', str(tmp_path / 'runs')]) == 1
    assert 'train unified first' in capsys.readouterr().err


def test_one_device_trains_and_is_timed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}
    record = {'metrics': {}, 'settings': {'checkpoint': {}, 'inference': {}}, 'commit': '',
              'versions': {}, 'hardware': {}, 'date': ''}

    def start(function: Any, *arguments: Any) -> Any:
        seen[function.__name__] = arguments[-1]   # of the two called measure, cost is the later
        return {} if function is cost.measure else None

    def remember(name: str, *arguments: Any) -> None:
        seen[name] = arguments[arguments.index('--ctx') + 1]

    config = load_config(run.FOLDER / 'unified.yaml')
    write_config(config, tmp_path / 'runs' / 'unified' / 'config.yaml')
    (tmp_path / 'runs' / 'unified' / 'final.params').touch()
    for name, value in (('alone', start), ('_command', remember), ('training', lambda _: {}),
                        ('_record', lambda _: record)):
        monkeypatch.setattr(run, name, value)
    monkeypatch.setattr(command, 'draw', lambda *_: None)
    where = ['--ctx', 'cpu:1', '--results', str(tmp_path / 'a'), '--out', str(tmp_path / 'runs')]
    assert command.main(['unified', *where]) == 0
    assert seen == dict.fromkeys(('train', 'evaluate', 'draw', 'measure'), 'cpu:1')
    seen.clear()
    assert command.main(['unified', '--time-again', *where]) == 0
    assert seen == {'measure': 'cpu:1'}


def test_two_devices_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert command.main(['unified', '--ctx', 'cpu:0,1', '--results', str(tmp_path)]) == 1
    assert 'names several devices' in capsys.readouterr().err


def test_unknown_systems() -> None:
    with pytest.raises(SystemExit):
        command.main(['maskformer'])


def test_configs_share_what_makes_them_comparable() -> None:
    configs = [load_config(run.FOLDER / f'{system}.yaml') for system in run.SYSTEMS]
    assert len({(c.data.root, c.data.split, c.data.val_split, c.seed) for c in configs}) == 1
    assert {stage.short_side for c in configs for _, stage in c.stages()} == {192}
    assert {c.inference['short_side'] for c in configs} == {192}


def test_every_part_starts_in_the_current_folder(tmp_path: Path,
                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    """So that one relative path is one place for all of them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run.subprocess, 'Popen', Here)
    run._command('train', 'a.yaml')
    assert Here.folder in (None, str(tmp_path))


class Here:
    """Stands in for a process; remembers the folder in which it would run."""

    folder: Any = 'none'

    def __init__(self, command: list[str], cwd: Any = None):
        Here.folder = cwd

    def wait(self) -> int:
        return 0


@pytest.mark.slow
def test_the_whole_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(run.COUNTS, 'street', {'train': 4, 'val': 2})
    config = load_config(run.FOLDER / 'panoptic_fpn.yaml', [f'data.root={tmp_path / "data"}'])
    run.draw(config, 1)
    path = run.run('panoptic_fpn', tmp_path / 'runs', tmp_path / 'results', [
        f'data.root={tmp_path / "data"}', 'joint.steps=4', 'joint.optimizer.warmup_steps=1',
        'joint.optimizer.cooldown_steps=1', 'log_every=2', 'validation.every=0'], 'cpu:1')
    result = json.loads(path.read_text())
    assert result['training']['steps'] == {'joint': 4}
    assert 0 <= result['quality']['pq']['All']['pq'] <= 1
    stages = result['cost']['stages']
    assert stages['whole'] > stages['dense'] > 0
    assert set(result['found']) == {'miou', 'covered', 'area'}
    qualities = thresholds.sweep(tmp_path / 'runs' / 'panoptic_fpn', images=1)
    assert next(iter(qualities)) == 'instance_score=0.1' and len(qualities) == 12
    assert all(0 <= things <= 100 for _, things in qualities.values())
    again = json.loads(run.time_again('panoptic_fpn', tmp_path / 'runs',
                                      tmp_path / 'results').read_text())
    assert {k: v for k, v in again.items() if k != 'cost'} == {
        k: v for k, v in result.items() if k != 'cost'}
    assert path.with_suffix('.jpg').is_file()
