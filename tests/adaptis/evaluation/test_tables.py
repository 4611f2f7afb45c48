from __future__ import annotations

import json
from pathlib import Path

import pytest

from adaptis import cli
from adaptis.commands.rows import PUBLISHED, experiments
from adaptis.errors import AdaptisError
from adaptis.evaluation.record import make_record, write_record
from adaptis.evaluation.tables import (
    find_table,
    format_row,
    format_table,
    load_tables,
    metric_value,
    rows_without_run,
)

SMALL = """
papers:
  adaptis:
    tables:
      1:
        title: toys
        numbering: certain
        columns: [{name: AP, metric: ap.ap}, {name: found, metric: objects.found, unit: count}]
        rows:
          - {id: a, name: System A, source: issue, published: [12.5, 7]}
          - {id: b, name: B, source: memory, published: [null, 8]}
          - {id: c, name: C, source: null, published: [null, null]}
"""


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / PUBLISHED
    path.write_text(SMALL)
    return path


def record(row, label='run', **metrics):
    return make_record({'images': 3, **metrics}, {}, label=label, table='1', row=row)


def test_published_beside_measured(small):
    table = find_table(load_tables(small), 'adaptis', '1')
    runs = [record('a', 'first', ap={'ap': .1234}, objects={'found': 0}),
            record('a', 'second', ap={'ap': None}), record('other')]
    lines = [line.split() for line in format_table(table, runs).splitlines()]
    assert lines[2] == ['AP', 'found']
    assert lines[3] == ['System', 'A', 'published', '12.5', '7']
    assert lines[4][:5] == ['measured', '12.3', '0', 'first,', '3']
    assert lines[5][:4] == ['measured', '?', '?', 'second,']
    assert lines[6][:4] == ['B', 'published', '?', '8'] and 'checked' in lines[6]
    assert lines[7] == ['measured', '-', '-', 'no', 'run', 'yet']
    assert lines[8][:4] == ['C', 'published', '?', '?'] and 'known' in lines[8]


def test_one_row_and_how_to_measure_it(small):
    table = find_table(load_tables(small), 'adaptis', '1')
    runs = [record('a', ap={'ap': .5})]
    lines = format_row(table, 'a', runs).splitlines()
    assert lines[3].split()[2:4] == ['published', '12.5'] and lines[4].split()[1] == '50.0'
    assert len(lines) == 5
    assert 'no run yet: do this' in format_row(table, 'b', runs, 'do this')
    assert 'no run yet: do this' in format_table(table, runs, {'b': 'do this'})
    assert idle(table, runs) == ['b', 'c']
    other = {**runs[0], 'paper': 'another'}
    assert idle(table, [other]) == ['a', 'b', 'c']
    assert idle(table, [{**other, 'paper': None}]) == ['b', 'c']


def idle(table, runs):
    return [row.id for row in rows_without_run(table, runs)]


def test_an_experiment_of_this_project_alone(small):
    small.write_text(SMALL.replace('source: null, published: [null, null]',
                                   'source: own, published: [null, null], config: c.yaml'))
    table = find_table(load_tables(small), 'adaptis', '1')
    assert table.row('c').config == 'c.yaml'
    assert format_table(table, []).splitlines()[-1].split() == [
        'C', 'measured', '-', '-', 'no', 'run', 'yet']


def test_metric_paths():
    metrics = {'pq': {'All': {'pq': .5}}, 'images': 2}
    assert metric_value(metrics, 'pq.All.pq') == .5
    assert metric_value(metrics, 'pq.All') is None
    assert metric_value(metrics, 'images.x') is None


@pytest.mark.parametrize('old, new, message', [
    ('[12.5, 7]', '[12.5, 7], config: 3', 'row a: config is no file name'),
    ('[12.5, 7]', '[12.5, 7], metrics: {PQ: pq.pq}', "row a: metrics of no column: ..PQ"),
    ('[12.5, 7]', '[12.5, 7], metrics: [PQ]', 'is not a file of published numbers'),
    ('[12.5, 7]', '[12.5]', 'row a: 1 values for 2 columns'),
    ('source: null, published: [null', 'source: null, published: [3', 'values without a source'),
    ('source: memory', 'source: hearsay', 'unknown source hearsay'),
    ('[12.5, 7]', '[12.5, many]', 'row a: a published value is no number'),
    ('unit: count', 'unit: apples', 'unknown unit apples'),
    ('published: [12.5', 'publishd: [12.5', "KeyError: 'published'"),
    ('papers:', 'paper:', 'is not a file of published numbers'),
    ('papers:', '{', 'is not valid YAML'),
])
def test_malformed_numbers_are_named(small, old, new, message):
    small.write_text(SMALL.replace(old, new))
    with pytest.raises(AdaptisError, match=message):
        load_tables(small)


def test_a_row_can_measure_something_else_in_a_column(small):
    small.write_text(SMALL.replace('[null, 8]', '[null, 8], metrics: {AP: ap_by_class.ap}'))
    metrics = {'ap': {'ap': .1}, 'ap_by_class': {'ap': .2}, 'objects': {'found': 3}}
    runs = [{'table': '1', 'row': row, 'metrics': metrics} for row in ('a', 'b')]
    shown = [line.split()[1:3] for line in format_table(
        load_tables(small)['adaptis']['1'], runs).splitlines() if 'measured' in line]
    assert shown[:2] == [['10.0', '3'], ['20.0', '3']]


def test_what_is_not_there_is_named(small, tmp_path):
    tables = load_tables(small)
    with pytest.raises(AdaptisError, match='no paper x; there are adaptis'):
        find_table(tables, 'x', '1')
    with pytest.raises(AdaptisError, match='no table 9; it has 1'):
        find_table(tables, 'adaptis', '9')
    with pytest.raises(AdaptisError, match='no row z; it has a, b, c'):
        tables['adaptis']['1'].row('z')
    with pytest.raises(AdaptisError, match='absent.yaml.* cannot be read'):
        load_tables(tmp_path / 'absent.yaml')


def test_shipped_numbers():
    tables = load_tables(experiments() / PUBLISHED)['adaptis']
    assert {str(n) for n in range(1, 8)} <= set(tables)
    assert tables['1'].row('adaptis').published == (99.6, 99.2, 98.8, 97.5)
    assert tables['1'].row('mask_rcnn').published == (74.6, 59.4, 43.8, 5.8)
    assert tables['notebooks'].row('v1_proposals').published == (96.77, 94.47)
    assert tables['notebooks'].row('v1_random').published == (96.69, 94.30)
    assert tables['notebooks'].row('v2_proposals').published == (98.58, 97.17)
    assert tables['figure3d'].row('objects250').published == (234, 16, 3)


# Paper -> its tables, each with the number of rows and of columns, as far as they are ours to
# reproduce; what else a table compares with is left out.
SHAPES = {
    'adaptis': {'1': (5, 4), '2': (3, 5), '3': (3, 3), '4': (3, 3), '5': (1, 3), '6': (2, 3),
                '7': (4, 3), '7-toy': (4, 5), 'notebooks': (3, 2), 'figure3d': (1, 3)},
    'panoptic_fpn': {'1': (11, 1), '2': (24, 4), '3': (12, 5), '4': (2, 5), 'detectron2': (2, 2)},
    'condinst': {'1': (8, 3), '2': (5, 3), '3': (4, 3), '4': (3, 3), '5': (2, 3), '6': (8, 3),
                 '7': (3, 3), '8': (3, 2), '9': (3, 3), 'adelaidet': (5, 1)},
    'dense_detections': {'1': (1, 5), '2': (1, 3), '3': (6, 5), 'A5': (3, 5), '5.6': (1, 5)},
    'unified': {'1': (6, 3), '2': (2, 3), '3': (1, 3), 'F': (6, 3), 'H': (2, 3), 'I': (2, 3)},
}


def test_shipped_tables_of_all_papers():
    tables = load_tables(experiments() / PUBLISHED)
    assert {paper: {table.id: (len(table.rows), len(table.columns)) for table in entries.values()}
            for paper, entries in tables.items()} == SHAPES
    for entries in tables.values():
        for table in entries.values():
            assert all(v is None or 0 < v <= 100 or column.unit == 'count' for row in table.rows
                       for v, column in zip(row.published, table.columns))


@pytest.mark.parametrize('paper, number, row, column, value', [
    ('adaptis', '2', 'x101', 'PQ', 62.0),
    ('panoptic_fpn', '4', 'cityscapes_r101', 'PQ', 58.1),
    ('panoptic_fpn', 'detectron2', 'r50_3x', 'PQ', 41.5),
    ('condinst', '6', 'r50_3x', 'AP', 37.8),
    ('dense_detections', '1', 'r50', 'PQ', 58.8),
    ('unified', '2', 'masks', 'PQ', 61.4),
])
def test_shipped_values(paper, number, row, column, value):
    table = load_tables(experiments() / PUBLISHED)[paper][number]
    at = [c.name for c in table.columns].index(column)
    assert table.row(row).published[at] == value


@pytest.mark.parametrize('paper, number', [(p, n) for p, found in SHAPES.items() for n in found])
def test_every_shipped_table_prints(paper, number, capsys):
    assert cli.main(['table', paper, number]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = load_tables(experiments() / PUBLISHED)[paper][number].rows
    assert all(any(line.startswith(row.name) for line in lines) for row in rows)


def test_command(small, tmp_path, capsys):
    write_record(tmp_path / 'results' / 'r.json', record('b', objects={'found': 5}))
    arguments = ['--published', str(small), '--results', str(tmp_path / 'results')]
    assert cli.main(['table', '1', *arguments]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith('Table 1 of adaptis: toys') and '3 images' in shown
    assert cli.main(['table', 'adaptis', '1', *arguments]) == 0
    assert capsys.readouterr().out == shown
    assert cli.main(['table', 'list', *arguments]) == 0
    assert capsys.readouterr().out == (
        'adaptis 1: toys (3 of 6 published numbers not known here)\n')
    assert cli.main(['table', '2', *arguments]) == 1
    assert 'has no table 2' in capsys.readouterr().err
    assert cli.main(['table', 'a', 'b', 'c', *arguments]) == 1
    assert cli.main(['table', '1', *arguments[:3], str(tmp_path / 'absent')]) == 1
    assert 'absent, given as --results, is not a folder' in capsys.readouterr().err


@pytest.mark.parametrize('field, value', [('commit', 5), ('label', None), ('date', [1]),
                                          ('table', {}), ('metrics', {'ap': 3, 'images': 'x'})])
def test_records_of_the_wrong_shape_still_print(small, field, value):
    run = {**record('a', 'first'), field: value}
    assert 'System A' in format_table(find_table(load_tables(small), 'adaptis', '1'), [run])


def test_every_shipped_result_fits_a_row():
    tables = load_tables(experiments() / PUBLISHED)['adaptis']
    for path in sorted((experiments() / 'results').glob('*.json')):
        entry = json.loads(path.read_text())
        if entry.get('table') is not None:
            tables[entry['table']].row(entry['row'])
