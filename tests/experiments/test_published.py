"""The published numbers equal those of the fact sheets, cell by cell, if these exist."""
from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Optional

import numpy as np
import pytest
import yaml

from adaptis.cli import main
from adaptis.commands.rows import PUBLISHED
from adaptis.data.cityscapes import CITYSCAPES_TAXONOMY
from adaptis.data.coco_categories import COCO_TAXONOMY
from adaptis.evaluation.record import ROOT
from adaptis.evaluation.run import Evaluator
from adaptis.evaluation.table_formats import format_csv, format_table
from adaptis.evaluation.tables import OWN, Row, Table, load_tables, run_value
from adaptis.types import Objects, PanopticResult, Segment, Taxonomy
from experiments import tables as page

FOLDER = ROOT / 'experiments' / PUBLISHED
PAPERS = load_tables(FOLDER)

# Paper -> its tables, each with the number of rows and of columns.
SHAPES = {
    'adaptis': {'1': (5, 4), '2': (15, 5), '3': (6, 3), '4': (3, 3), '5': (8, 3), '6': (4, 3),
                '7': (4, 3), '7-toy': (4, 5), 'notebooks': (11, 9), 'figure3d': (1, 3)},
    'condinst': {'1a': (4, 7), '1b': (4, 7), '2': (5, 6), '3': (4, 9), '4': (3, 6), '5': (2, 6),
                 '6': (21, 6), '7': (5, 4), '8': (9, 11), '9': (13, 3), 'adelaidet': (5, 2)},
    'dense_detections': {'1': (11, 7), '2': (7, 4), '3': (5, 6), 'A4': (20, 3), 'A5': (6, 6),
                         'A6': (134, 3)},
    'panoptic_fpn': {'1a': (6, 3), '1b': (5, 2), '1c': (6, 1), '1d': (4, 1), '2a': (7, 5),
                     '2b': (7, 4), '2c': (7, 4), '2d': (7, 4), '3a': (10, 5), '3b': (6, 5),
                     '3c': (6, 5), '3d': (6, 5), '4a': (5, 3), '4b': (2, 5), 'detectron2': (3, 3)},
    'unified': {'1': (6, 13), '2': (11, 8), '3': (5, 8), '4': (6, 9), '5': (8, 9), 'F': (4, 3),
                'G': (4, 2), 'H': (2, 5), 'I': (6, 5), 'J': (3, 14)},
}
CELLS = [
    ('adaptis', '1', 'mask_rcnn', 'AP .9', 5.8), ('adaptis', '1', 'adaptis', 'AP .5', 99.6),
    ('adaptis', '2', 'x101', 'PQ', 62.0), ('adaptis', '2', 'panoptic_fpn_resnet_101', 'PQ', 58.1),
    ('adaptis', '2', 'deeperlab_xception_71', 'AP', '-'), ('adaptis', '3', 'r50', 'PQ', 32.0),
    ('adaptis', '4', 'x101', 'PQ', 36.8), ('adaptis', '4', 'liuxu', 'PQ things', 37.8),
    ('adaptis', '5', 'r50', 'PQ', 35.9), ('adaptis', '6', 'x101', 'PQ', 42.8),
    ('adaptis', '7', 'fl', 'PQ', 55.9), ('adaptis', 'notebooks', 'v1_proposals', 'PQ', 96.77),
    ('adaptis', 'notebooks', 'v2_proposals', 'PQ things', 97.17),
    ('adaptis', 'figure3d', 'objects250', 'found', 234),
    ('panoptic_fpn', '1a', 'cityscapes_x101', 'activations (G)', 1.4),
    ('panoptic_fpn', '1b', 'coco_stuff_x152', 'fIoU', 55.7),
    ('panoptic_fpn', '1c', 'coco_width_256', 'mIoU', 40.1),
    ('panoptic_fpn', '2a', 'coco_lambda_s_change', 'AP', 0.1),
    ('panoptic_fpn', '2c', 'coco_lambda_i_000', 'AP', '-'),
    ('panoptic_fpn', '2d', 'cityscapes_lambda_i_025', 'iIoU', 58.3),
    ('panoptic_fpn', '3a', 'coco_two', 'PQ', 39.2),
    ('panoptic_fpn', '3b', 'cityscapes_r101', 'PQ', 58.1),
    ('panoptic_fpn', '4b', 'din', 'mIoU', 80.1),
    ('panoptic_fpn', 'detectron2', 'r50_3x', 'PQ', 41.5),
    ('condinst', '1a', 'depth_3', 'time (ms)', 4.5), ('condinst', '3', 'none', 'AR 100', 45.6),
    ('condinst', '6', 'r50_3x', 'AP', 37.7), ('condinst', '7', 'r50_shtw', 'AP', '-'),
    ('condinst', '7', 'dla34', 'fps', 41), ('condinst', '8', 'r50_coco_sem', 'bicycle', 18.9),
    ('condinst', '9', 'dcn101', 'PQ', 47.8), ('condinst', 'adelaidet', 'r101_3x', 'AP', 38.6),
    ('dense_detections', '1', 'ssap_resnet_50', 'time (ms)', '> 260'),
    ('dense_detections', '1', 'tascnet_resnet_50_fpn', 'PQ', None),
    ('dense_detections', '1', 'r50', 'GPU', 'V100'),
    ('dense_detections', '3', 'boxes', 'mask loss', False),
    ('dense_detections', 'A4', 'mean', 'PQ', 58.81), ('dense_detections', 'A5', 'r50', 'AP', 31.0),
    ('dense_detections', 'A6', 'skis', 'RQ', 7.02), ('unified', '1', 'd2', 'PQ', 61.4),
    ('unified', '4', 'r101_coco', 'PQ', 63.3), ('unified', 'F', 'cityscapes_b', 'SQ', 81.8),
    ('unified', 'I', 'trimmed', 'PQ stuff', 66.3), ('unified', 'J', 'coco_r50', 'IoU stuff', 43.6),
]


@pytest.mark.parametrize('paper', SHAPES)
def test_tables_have_their_rows_and_columns(paper: str) -> None:
    assert list(PAPERS) == list(SHAPES)
    assert {table.id: (len(table.rows), len(table.columns))
            for table in PAPERS[paper].values()} == SHAPES[paper]
    for table in PAPERS[paper].values():
        names = [row.id for row in table.rows]
        assert len(set(names)) == len(names), table.id
        for row in table.rows:
            assert not row.same or PAPERS[paper][row.same[0]].row(row.same[1]).ours


@pytest.mark.parametrize('paper, number, row, column, value', CELLS)
def test_cells(paper: str, number: str, row: str, column: str, value: Any) -> None:
    table = PAPERS[paper][number]
    at = [c.name for c in table.columns].index(column)
    assert table.row(row).published[at] == value


def test_percentages_are_percentages() -> None:
    for table in (table for entries in PAPERS.values() for table in entries.values()):
        for row in table.rows:
            for value, column in zip(row.published, table.columns):
                if column.unit == 'percent' and isinstance(value, float) and not row.change:
                    assert 0 <= value <= 100, (table.heading, row.id)


def test_every_column_of_results_has_its_number() -> None:
    """Without one are what a server or another program measures, and what is no result."""
    lacking = {(paper, table.id, column.name) for paper, entries in PAPERS.items()
               for table in entries.values() for column in table.columns
               if column.metric is None and column.unit not in ('mark', 'text')}
    classes = ('person', 'rider', 'car', 'truck', 'bus', 'train', 'motorcycle', 'bicycle')
    assert lacking == {('condinst', '1a', 'time (ms)'), ('condinst', '1b', 'time (ms)'),
                       *(('condinst', '8', name) for name in ('AP', 'AP50', *classes)),
                       ('panoptic_fpn', '1a', 'multiply-adds (T)'),
                       ('panoptic_fpn', '1a', 'activations (G)')}


def test_every_number_that_columns_name_is_measured() -> None:
    runs = [{'metrics': measured(CITYSCAPES_TAXONOMY, cityscapes=True), 'speed': {}},
            {'metrics': measured(COCO_TAXONOMY, coco=True),
             'speed': {'seconds_per_image': 1.0, 'images_per_second': 1.0}}]
    paths = {row.metric(column) for entries in PAPERS.values() for table in entries.values()
             for row in table.rows for column in table.columns} - {None}
    assert len(paths) > 200
    for path in paths:
        assert any(run_value(run, path) is not None for run in runs), path


def measured(taxonomy: Taxonomy, **options: bool) -> dict[str, Any]:
    """What is measured of an image with a detection and a semantic branch, as a file has it."""
    thing = taxonomy.categories[-1]
    truth = PanopticResult(np.ones((1, 4), np.int32), [Segment(1, thing.id, True, 1.0, 4)])
    found = PanopticResult(truth.segment_map, truth.segments, semantic=np.zeros((1, 4), np.int32),
                           objects=Objects(np.ones((1, 1, 4), bool), np.ones(1),
                                           np.array([thing.id])))
    evaluator = Evaluator(taxonomy, **options)
    evaluator.add(0, truth, found)
    return json.loads(json.dumps(evaluator.result()))


def test_no_number_is_from_memory() -> None:
    for path in FOLDER.glob('*.yaml'):
        assert not re.search('memory|assumed|not known', path.read_text()), path


@pytest.mark.parametrize('paper, number', [(p, n) for p, found in SHAPES.items() for n in found])
def test_every_table_prints(paper: str, number: str) -> None:
    table = PAPERS[paper][number]
    lines = format_table(table, []).splitlines()
    assert all(any(line.startswith(row.name) for line in lines) for row in table.rows)
    assert len(list(csv.reader(format_csv(table, []).splitlines()))) == 1 + sum(
        row.source != OWN for row in table.rows)


def test_the_page_of_all_tables_is_the_one_that_is_written_now(tmp_path: Path) -> None:
    assert page.main([str(tmp_path / 'new.md')]) == 0
    written = (tmp_path / 'new.md').read_text()
    assert written == (ROOT / 'docs' / 'tables.md').read_text(), 'python -m experiments.tables'
    assert written.count('\n### ') == sum(map(len, SHAPES.values()))


def test_results_of_an_earlier_setting_say_so(capsys: pytest.CaptureFixture) -> None:
    assert main(['table', '1', '--results', str(ROOT / 'experiments' / 'results')]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert [line.split('  ')[0] for line in shown if 'from an earlier setting' in line] == [
        'CondInst', 'Dense detections']


def test_a_page_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / 'file').touch()
    assert page.main([str(tmp_path / 'file' / 'new.md')]) == 1
    assert capsys.readouterr().err.startswith('tables: ')


# The fact sheets.

NAMES = {'PQst': 'PQ stuff', 'PQth': 'PQ things', 'PQ_st': 'PQ stuff', 'PQ_th': 'PQ things',
         'AP50': 'AP50', 'AP_S': 'AP small', 'AP_M': 'AP medium', 'AP_L': 'AP large',
         'time_ms': 'time (ms)', 'inference_time': 'time (ms)', 'AP_val': 'AP val',
         'FLOPs': 'multiply-adds (T)', 'memory': 'activations (G)', 'end_to_end': 'end to end',
         'AP70': 'AP .7', 'AP80': 'AP .8', 'AP90': 'AP .9'}
METHODS = {'delta': 'change', 'two separate networks': 'two networks', 'Mean': 'mean',
           'combine': 'combined updates', 'alternate': 'alternate updates',
           'original': 'original FPN', 'grouped': 'grouped FPN', 'ground truths': 'ground truth'}
FACTS = {'backbone': 'backbone', 'schedule': 'schedule', 'trained on': 'training_data',
         'pretraining': 'pretraining', 'dataset': 'dataset', 'images': 'group'}
BY_DATASET = {'Cityscapes_mIoU': 'Cityscapes', 'COCO_mIoU': 'COCO'}   # columns that are rows here
COUNT = 1963


class Cell(NamedTuple):
    """A cell of a fact sheet, with its row as the sheet has it."""

    row: dict[str, Any]
    column: str
    value: Any
    uncertain: bool


@pytest.fixture(scope='module')
def sheets(shared: Path) -> dict[str, dict[str, Any]]:
    folder = shared / 'papers'
    if not folder.is_dir():
        pytest.skip(f'no fact sheets at {folder}')
    return {paper: yaml.safe_load((folder / f'{paper}.yaml').read_text())['tables']
            for paper in SHAPES}


def test_every_cell_is_that_of_the_fact_sheets(sheets: dict[str, dict[str, Any]]) -> None:
    count = 0
    for paper, entries in sheets.items():
        own = [number for number, table in PAPERS[paper].items()
               if number in ('7-toy', 'notebooks', 'figure3d', 'detectron2', 'adelaidet')]
        assert set(PAPERS[paper]) == {*map(str, entries), *own}
        for number, sheet in entries.items():
            table = PAPERS[paper][str(number)]
            printed = [row for row in table.rows if row.source != OWN]
            rows = list(_sheet_rows(sheet))
            assert len(printed) == len(rows)
            for row, cells in zip(printed, rows):
                _compare(table, row, cells)
                count += len(cells)
    assert count == COUNT


def test_the_notebooks_are_those_of_the_fact_sheets(shared: Path) -> None:
    path = shared / 'papers' / 'adaptis.yaml'
    if not path.is_file():
        pytest.skip(f'no fact sheet at {path}')
    known = yaml.safe_load(path.read_text())['code_release']['notebooks']
    table = PAPERS['adaptis']['notebooks']
    assert len(table.rows) == len(known['rows'])
    for row, entry in zip(table.rows, known['rows']):
        assert list(row.published) == entry['values']
        assert row.facts == {'framework': entry['framework'], 'data': f'ToyV{entry["data"][1]}',
                             'points': entry['sampling'], 'flip': 'yes' if entry['flip'] else 'no'}


def _sheet_rows(sheet: dict[str, Any]) -> Iterator[list[Cell]]:
    """The cells of each row, in the order of the project's rows."""
    names = sheet['columns']
    if set(names) == set(BY_DATASET):
        for name, dataset in BY_DATASET.items():
            for row in sheet['rows']:
                yield [Cell({**row, 'dataset': dataset}, 'mIoU', row['values'][name], False)]
        return
    for row in sheet['rows']:
        values = row['values']
        doubts = row.get('uncertain_cells', {})
        pairs = values.items() if isinstance(values, dict) else zip(names, values)
        yield [_cell(row, name, value, name in doubts or 'all' in doubts)
               for name, value in pairs]


def _cell(row: dict[str, Any], name: str, value: Any, uncertain: bool) -> Cell:
    column = NAMES.get(name, re.sub('_', ' ', name))
    if name == 'AP50' and 'AP70' in row['values']:
        column = 'AP .5'
    if name in ('AR_1', 'AR_10', 'AR_100'):
        column = name.replace('_', ' ')
    if isinstance(value, dict):
        return Cell(row, column, value['value'], value['uncertain'])
    return Cell(row, column, '-' if value is None else _milliseconds(value), uncertain)


def _milliseconds(value: Any) -> Any:
    if isinstance(value, str) and value.endswith(' ms'):
        text = value[:-3]
        return text if text.startswith('>') else int(text)
    return value


def _compare(table: Table, row: Row, cells: list[Cell]) -> None:
    where = (table.heading, row.id)
    assert [c.name for c in table.columns] == [cell.column for cell in cells], where
    assert [repr(v) for v in row.published] == [repr(cell.value) for cell in cells], where
    assert set(row.uncertain) == {cell.column for cell in cells if cell.uncertain}, where
    entry = cells[0].row
    name = _method(entry)
    assert name is None or row.name == name, where
    assert row.ours == entry.get('ours', row.ours), where
    for fact, key in FACTS.items():
        if fact in table.facts and key in entry:
            value = entry[key]
            assert row.facts.get(fact) == (None if value is None else _plain(value)), where


def _method(entry: dict[str, Any]) -> Optional[str]:
    """The method without the numbers of references; None if it is called otherwise here."""
    if 'method' not in entry:
        return None
    name = _plain(entry['method']).replace(" (the paper's)", '')
    if 'tower' in name or entry.get('relative_coordconv') is not None:   # in columns of their own
        return None
    return METHODS.get(name, name)


def _plain(text: str) -> str:
    return re.sub(r' \[[\d, ]+\]', '', text)
