from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest

from adaptis import cli
from adaptis.commands.rows import PUBLISHED, experiments
from adaptis.errors import AdaptisError
from adaptis.evaluation.record import make_record, write_record
from adaptis.evaluation.table_formats import (
    format_csv,
    format_json,
    format_markdown,
    format_row,
    format_table,
)
from adaptis.evaluation.tables import (
    find_runs,
    find_table,
    load_tables,
    metric_value,
    rows_without_run,
    run_value,
)

SMALL = """
system: AdaptIS
title: A paper
tables:
  1:
    title: toys
    source: paper
    facts: [backbone]
    columns:
      - {name: AP, metric: ap.ap}
      - {name: found, metric: objects.found, unit: count}
      - {name: time (ms), metric: seconds, unit: ms}
      - {name: exact, unit: mark}
    rows:
      - {id: x, name: Other*, backbone: R-50, published: ['-', null, '> 260', false],
         uncertain: {found: the page is torn}}
      - {id: a, name: System A, backbone: R-50, published: [12.5, 7, 90, true], ours: true,
         config: a.yaml, note: large images}
      - {id: b, name: B, published: [3.0, 8, '-', true], ours: true, config: b.yaml}
      - {id: d, name: change, published: [0.4, '-', '-', '-'], change: true}
      - {id: c, name: C, source: own, config: c.yaml}
    notes: [one note]
  2:
    title: classes
    source: paper
    columns: [{name: PQ, metric: 'pq.per_class.{category}.pq'}]
    rows:
      - {id: car, name: car, published: [1.0], ours: true, category: 7, same: ['1', a]}
"""


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / PUBLISHED / 'adaptis.yaml'
    path.parent.mkdir()
    path.write_text(SMALL)
    return path


def load(path, table='1'):
    return load_tables(path)['adaptis'][table]


def record(row, label='run', **metrics):
    return make_record({'images': 3, **metrics}, {}, label=label, table='1', row=row)


@pytest.mark.parametrize('commit, shown', [('a' * 40, ', commit aaaaaaaa'),
                                           ('a' * 40 + '+', ', commit aaaaaaaa+'), (None, '')])
def test_commit_of_a_run_says_whether_files_differed(small, commit, shown):
    run = {**record('a', ap={'ap': .1}), 'date': '2026-01-02', 'commit': commit}
    [line] = [line for line in format_table(load(small), [run]).splitlines() if 'run,' in line]
    assert line.endswith(f'run, 3 images, 2026-01-02{shown}')


def test_published_beside_measured(small):
    runs = [record('a', 'first', ap={'ap': .1234}, objects={'found': 0}, seconds=.25),
            record('a', 'second', ap={'ap': None}), record('other')]
    lines = [line.split() for line in format_table(load(small), runs).splitlines()]
    assert lines[0] == ['AdaptIS,', 'Table', '1:', 'toys']
    assert lines[2] == ['backbone', 'AP', 'found', 'time', '(ms)', 'exact']
    assert lines[3] == ['Other*', 'R-50', 'published', '-', '?', '>', '260', 'no']
    assert lines[4] == ['System', 'A', 'R-50', 'published', '12.5', '7', '90', 'yes', 'large',
                        'images']
    assert lines[5][:6] == ['measured', '12.3', '0', '250', 'first,', '3']
    assert lines[6][:5] == ['measured', '?', '?', '?', 'second,']
    assert lines[7][:3] == ['B', 'published', '3.0']
    assert lines[8] == ['measured', '-', '-', '-', '-', 'no', 'run', 'yet']
    assert lines[9] == ['change', 'published', '+0.4', '-', '-', '-']
    assert lines[10] == ['C', 'measured', '-', '-', '-', '-', 'no', 'run', 'yet']
    assert [' '.join(line) for line in lines[12:]] == [
        '- one note', '- (?) found of Other*: the page is torn.']


def test_one_row_and_how_to_measure_it(small):
    table = load(small)
    runs = [record('a', ap={'ap': .5})]
    lines = format_row(table, 'a', runs).splitlines()
    assert lines[3].split()[3:5] == ['published', '12.5'] and lines[4].split()[1] == '50.0'
    assert len(lines) == 5
    assert 'no run yet: do this' in format_row(table, 'b', runs, 'do this')
    assert 'no run yet: do this' in format_table(table, runs, {'b': 'do this'})
    assert idle(table, runs) == ['b', 'c']
    other = {**runs[0], 'paper': 'another'}
    assert idle(table, [other]) == ['a', 'b', 'c']
    assert idle(table, [{**other, 'paper': None}]) == ['b', 'c']


def idle(table, runs):
    return [row.id for row in rows_without_run(table, runs)]


def test_results_of_the_same_network_count_in_another_table(small):
    table = load(small, '2')
    runs = [record('a', pq={'per_class': {'7': {'pq': .25}}}), record('b')]
    assert find_runs(table, table.rows[0], runs) == runs[:1]
    assert '25.0' in format_table(table, runs)
    assert idle(table, []) == []


def test_markdown(small):
    runs = [record('a', 'first', ap={'ap': .5}), record('c', ap={'ap': .25})]
    lines = format_markdown(load(small), runs).splitlines()
    assert lines[0] == '|  | backbone | AP | found | time (ms) | exact |  |'
    assert lines[1] == '| --- | --- | ---: | ---: | ---: | ---: | --- |'
    assert lines[2] == '| Other\\* | R-50 | - | ? | > 260 | no |  |'
    assert lines[3] == '| **System A** | R-50 | 12.5 | 7 | 90 | yes | large images; `a.yaml` |'
    assert lines[4].startswith('| measured here |  | 50.0 | ? | ? |  | first, 3 images, ')
    assert lines[7].startswith('| C, measured here |  | 25.0 | ')
    assert lines[-2:] == ['- one note', '- (?) found of Other\\*: the page is torn.']
    assert format_markdown(load(small, '2'), []).splitlines()[::2] == ['|  | PQ |', '| car | 1.0 |']


def test_a_time_stands_beside_what_it_was_taken_on(small):
    table = load(small)
    column = next(c for c in table.columns if c.unit == 'ms')
    timed = replace(table, columns=tuple(
        replace(c, metric='speed.seconds_per_image') if c is column else c for c in table.columns))
    run = {**record('a', 'first', ap={'ap': .5}), 'speed': {'seconds_per_image': .09,
                                                           'device': 'a V100'}}
    lines = format_table(timed, [run]).splitlines()
    (line,) = [line for line in lines if 'first' in line]
    assert ' 90 ' in line and 'a V100' in line
    assert 'a V100' not in format_table(table, [run])   # which shows no time


def test_csv(small):
    text = format_csv(load(small), [record('a', 'first', ap={'ap': .5})])
    rows = {(line['row'], line['kind']): line for line in csv.DictReader(text.splitlines())}
    assert set(rows) == {('x', 'published'), ('a', 'published'), ('a', 'measured'),
                         ('b', 'published'), ('d', 'published')}
    assert rows['x', 'published']['uncertain'] == 'found' and rows['a', 'measured']['AP'] == '50.0'
    assert rows['a', 'published']['remark'] == 'large images'
    assert rows['x', 'published']['time (ms)'] == '> 260'


def test_json(small):
    (table,) = json.loads(format_json([load(small)], [record('a', 'first', ap={'ap': .5})]))
    assert (table['paper'], table['table'], table['notes']) == ('adaptis', '1', ['one note'])
    other, mine, _, _, own = table['rows']
    assert other['published'] == {'AP': '-', 'found': None, 'time (ms)': '> 260', 'exact': False}
    assert other['uncertain'] == {'found': 'the page is torn'} and other['measured'] == []
    assert mine['measured'][0]['values'] == {'AP': 50.0, 'found': None, 'time (ms)': None,
                                             'exact': None}
    assert (mine['facts'], mine['config']) == ({'backbone': 'R-50'}, 'a.yaml')
    assert own['published'] is None and own['source'] == 'own'


def test_metric_paths():
    metrics = {'pq': {'All': {'pq': .5}}, 'images': 2}
    assert metric_value(metrics, 'pq.All.pq') == .5
    run = {'metrics': metrics, 'speed': {'seconds_per_image': .25, 'device': 'a GPU'}}
    assert run_value(run, 'speed.seconds_per_image') == .25 and run_value(run, None) is None
    assert run_value(run, 'pq.All.pq') == .5 and run_value({'metrics': metrics}, 'speed.x') is None
    assert metric_value(metrics, 'pq.All') is None
    assert metric_value(metrics, 'images.x') is None


@pytest.mark.parametrize('old, new, message', [
    ('config: a.yaml', 'config: 3', 'row a: config is not a file name'),
    ('config: a.yaml', 'metrics: {PQ: pq.pq}', 'uncertain names unknown columns: ..PQ'),
    ('config: a.yaml', 'metrics: [PQ]', 'row a: metrics is not a mapping'),
    ('config: a.yaml', 'size: 3', 'is not a file of published numbers .*size'),
    ('12.5, 7, 90, true', '12.5', 'row a: 1 values for 4 columns'),
    ('12.5, 7, 90, true', 'null, 7, 90, true', 'row a: the reason why AP is illegible is missing'),
    ('12.5, 7, 90, true', '12.5, many, 90, true', "row a: 'many' is not a value of column found"),
    ('12.5, 7, 90, true', '12.5, true, 90, true', 'row a: True is not a value of column found'),
    ('12.5, 7, 90, true', '12.5, 7, 90, 1', 'row a: 1 is not a value of column exact'),
    ('config: b.yaml', 'source: hearsay', 'unknown source hearsay'),
    ('unit: count', 'unit: apples', 'unknown unit apples'),
    ('published: [12.5', 'publishd: [12.5', "KeyError: 'published'"),
    ('tables:', 'table:', 'is not a file of published numbers'),
    ('tables:', '{', 'is not YAML'),
])
def test_malformed_numbers_are_named(small, old, new, message):
    small.write_text(SMALL.replace(old, new))
    with pytest.raises(AdaptisError, match=message):
        load_tables(small)


def test_a_row_can_measure_something_else_in_a_column(small):
    small.write_text(SMALL.replace('config: b.yaml', 'metrics: {AP: ap_by_class.ap, found: null}'))
    metrics = {'ap': {'ap': .1}, 'ap_by_class': {'ap': .2}, 'objects': {'found': 3}, 'seconds': 1}
    runs = [{'table': '1', 'row': row, 'metrics': metrics} for row in ('a', 'b')]
    shown = [line.split()[1:4] for line in format_table(load(small), runs).splitlines()
             if 'measured' in line]
    assert shown[0] == ['10.0', '3', '1000'] and shown[1][:2] == ['20.0', '1000']


def test_what_is_not_there_is_named(small, tmp_path):
    tables = load_tables(small.parent)
    with pytest.raises(AdaptisError, match='no paper x; there are adaptis'):
        find_table(tables, 'x', '1')
    with pytest.raises(AdaptisError, match='no table 9; it has 1, 2'):
        find_table(tables, 'adaptis', '9')
    with pytest.raises(AdaptisError, match='no row z; it has a, b, c'):
        tables['adaptis']['1'].row('z')
    with pytest.raises(AdaptisError, match='absent contains no published numbers'):
        load_tables(tmp_path / 'absent')


def test_command(small, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr('adaptis.commands.table.configs', lambda rows, folder: {})
    write_record(tmp_path / 'results' / 'r.json', record('b', objects={'found': 5}))
    arguments = ['--published', str(small.parent), '--results', str(tmp_path / 'results')]

    def shown(*words):
        assert cli.main(['table', *words, *arguments]) == 0
        return capsys.readouterr().out

    def refused(*words):
        assert cli.main(['table', *words]) == 1
        printed = capsys.readouterr()
        assert printed.out == '' and printed.err.count('\n') == 1
        return printed.err

    assert shown('1').startswith('AdaptIS, Table 1: toys') and '3 images' in shown('1')
    assert shown('adaptis', '1') == shown('1')
    assert shown('list').splitlines() == [
        'adaptis 1: toys (5 rows, 3 with a config, 1 of 16 published numbers uncertain)',
        'adaptis 2: classes (1 row, 0 with a config)']
    assert shown('1', '--format', 'markdown').startswith('### AdaptIS, Table 1: toys\n\n|')
    assert shown('1', '--format', 'csv').startswith('row,method,backbone,kind,AP,')
    assert json.loads(shown('1', '--format', 'json'))[0]['title'] == 'toys'
    assert shown('all', '--format', 'markdown').startswith('## A paper\n\n### AdaptIS, Table 1:')
    assert [t['table'] for t in json.loads(shown('all', '--format', 'json'))] == ['1', '2']
    assert 'has no table 3; it has 1, 2.' in refused('3', *arguments)
    assert 'There is no paper b; there are adaptis.' in refused('b', '1', *arguments)
    assert 'Give one table' in refused('a', 'b', 'c', *arguments)
    assert 'no format xml; there are text, markdown, csv, json.' in refused(
        '1', '--format', 'xml', *arguments)
    assert 'the other formats hold a single table' in refused('all', *arguments)
    assert 'only as text' in refused('list', '--format', 'csv', *arguments)
    assert 'absent, given as --results, is not a folder' in refused(
        '1', *arguments[:3], str(tmp_path / 'absent'))


@pytest.mark.parametrize('field, value', [('commit', 5), ('label', None), ('date', [1]),
                                          ('table', {}), ('metrics', {'ap': 3, 'images': 'x'})])
def test_records_of_the_wrong_shape_still_print(small, field, value):
    run = {**record('a', 'first'), field: value}
    assert 'System A' in format_table(load(small), [run])


def test_every_shipped_result_fits_a_row():
    tables = load_tables(experiments() / PUBLISHED)['adaptis']
    for path in sorted((experiments() / 'results').glob('*.json')):
        entry = json.loads(path.read_text())
        if entry.get('table') is not None:
            tables[entry['table']].row(entry['row'])
