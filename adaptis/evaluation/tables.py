"""Published tables beside what was measured here."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

import yaml

from adaptis.errors import AdaptisError
from adaptis.files import PathLike

OWN = 'own'  # an experiment of this project, of which nothing is published
SOURCES = {'issue': '', 'kit': '', 'memory': 'published value to be checked against the paper',
           OWN: ''}
UNITS = ('percent', 'count')
_LOADER = getattr(yaml, 'CSafeLoader', yaml.SafeLoader)   # libyaml, where it is, is 8 times as fast


@dataclass(frozen=True)
class Column:
    """A column; ``metric`` is the dotted path of the same number in a result file."""

    name: str
    metric: str
    unit: str = 'percent'


@dataclass(frozen=True)
class Row:
    """A row and its published values, None where unknown.

    ``config`` is the file that reproduces it, relative to that of the published numbers;
    ``metrics`` has the names of columns that measure something else of this row, and what.
    """

    id: str
    name: str
    source: Optional[str]
    published: tuple[Optional[float], ...]
    config: Optional[str] = None
    metrics: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """A published table; ``digits`` behind the point, as it was printed."""

    paper: str
    id: str
    title: str
    numbering: str
    digits: int
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]

    def row(self, row_id: str) -> Row:
        """A row by its id; AdaptisError if there is none."""
        for row in self.rows:
            if row.id == row_id:
                return row
        raise AdaptisError(f'Table {self.id} of {self.paper} has no row {row_id}; it has '
                           f'{", ".join(r.id for r in self.rows)}.')


def load_tables(path: PathLike) -> dict[str, dict[str, Table]]:
    """Paper -> table id -> table; AdaptisError if the file is missing or malformed."""
    try:
        content = yaml.load(Path(path).read_text(encoding='utf-8'), Loader=_LOADER)
        return {paper: {str(key): _table(paper, str(key), entry)
                        for key, entry in body['tables'].items()}
                for paper, body in content['papers'].items()}
    except OSError as error:
        raise AdaptisError(f'{path}, the published numbers, cannot be read: '
                           f'{error.strerror}.') from error
    except yaml.YAMLError as error:
        raise AdaptisError(f'{path} is not valid YAML: {" ".join(str(error).split())}.') from error
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise AdaptisError(f'{path} is not a file of published numbers '
                           f'({type(error).__name__}: {error}).') from error


def find_table(tables: Mapping[str, Mapping[str, Table]], paper: str, table: str) -> Table:
    """One table; AdaptisError naming what there is."""
    if paper not in tables:
        raise AdaptisError(f'There is no paper {paper}; there are {", ".join(tables)}.')
    if table not in tables[paper]:
        raise AdaptisError(f'{paper} has no table {table}; it has {", ".join(tables[paper])}.')
    return tables[paper][table]


def format_table(table: Table, records: Sequence[Mapping[str, Any]],
                 commands: Optional[Mapping[str, str]] = None) -> str:
    """The table as text: every published row, below it each run that measured it.

    ``commands`` tells for the id of a row without a run how to measure it.
    """
    lines = [line for row in table.rows
             for line in _row_lines(table, row, records, (commands or {}).get(row.id))]
    heading = f'{_heading(table)}: {table.title}'
    if table.numbering != 'certain':
        heading += ' (its number in the paper is to be checked)'
    return heading + '\n\n' + _aligned([_names(table), *lines])


def format_row(table: Table, row_id: str, records: Sequence[Mapping[str, Any]],
               command: Optional[str] = None) -> str:
    """One row of the table as text, beside what ``records`` measured of it.

    ``command`` tells how to measure it if none did.
    """
    lines = _row_lines(table, table.row(row_id), records, command)
    return f'{_heading(table)}: {table.title}\n\n' + _aligned([_names(table), *lines])


def rows_without_run(table: Table, records: Sequence[Mapping[str, Any]]) -> list[Row]:
    """The rows that no record measures."""
    return [row for row in table.rows if not _runs(table, row, records)]


def metric_value(metrics: Mapping[str, Any], path: str) -> Optional[float]:
    """The number at a dotted path, or None."""
    value: Any = metrics
    for part in path.split('.'):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value if isinstance(value, (int, float)) else None


def _names(table: Table) -> list[str]:
    return ['', '', *(c.name for c in table.columns), '']


def _row_lines(table: Table, row: Row, records: Sequence[Mapping[str, Any]],
               command: Optional[str] = None) -> list[list[str]]:
    lines = []
    if row.source != OWN:
        values = [_number(v, c, table.digits) for v, c in zip(row.published, table.columns)]
        note = SOURCES.get(row.source or '', 'published value not known here')
        lines.append(['', 'published', *values, note])
    runs = _runs(table, row, records)
    lines += [_measured(run, table, row) for run in runs]
    if not runs:
        note = f'no run yet: {command}' if command else 'no run yet'
        lines.append(['', 'measured', *['-'] * len(table.columns), note])
    lines[0][0] = row.name
    return lines


def _runs(table: Table, row: Row, records: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [run for run in records if (run.get('paper') or 'adaptis', str(run.get('table')),
                                       run.get('row')) == (table.paper, table.id, row.id)]


def _measured(run: Mapping[str, Any], table: Table, row: Row) -> list[str]:
    values = [metric_value(run['metrics'], row.metrics.get(c.name, c.metric))
              for c in table.columns]
    shown = [_number(v and v * (100 if c.unit == 'percent' else 1), c, table.digits)
             for v, c in zip(values, table.columns)]
    commit = f'commit {str(run["commit"])[:8]}' if run.get('commit') else ''
    facts = [str(run.get('label') or run.get('file')), 'reduced' if run.get('reduced') else '',
             _images(run), str(run.get('date') or '')[:10], commit]
    return ['', 'measured', *shown, ', '.join(f for f in facts if f)]


def _images(run: Mapping[str, Any]) -> str:
    count = run['metrics'].get('images')
    return f'{count:,} image{"s" * (count != 1)}' if isinstance(count, int) else ''


def _heading(table: Table) -> str:
    return f'Table {table.id} of {table.paper}' if table.id[:1].isdigit() else \
        f'{table.paper}, {table.id}'


def _number(value: Optional[float], column: Column, digits: int) -> str:
    if value is None:
        return '?'
    return f'{value:.{digits if column.unit == "percent" else 0}f}'


def _aligned(lines: Sequence[Sequence[str]]) -> str:
    """Text columns to the left, number columns to the right."""
    widths = [max(len(line[k]) for line in lines) for k in range(len(lines[0]))]
    last = len(widths) - 1
    return '\n'.join('  '.join(
        cell.ljust(width) if k in (0, 1, last) else cell.rjust(width)
        for k, (cell, width) in enumerate(zip(line, widths))).rstrip() for line in lines)


def _table(paper: str, key: str, entry: Mapping[str, Any]) -> Table:
    columns = tuple(Column(**c) for c in entry['columns'])
    rows = tuple(Row(r['id'], r['name'], r['source'], tuple(r['published']), r.get('config'),
                     dict(r.get('metrics', {})))
                 for r in entry['rows'])
    for row in rows:
        if len(row.published) != len(columns):
            raise ValueError(f'table {key}, row {row.id}: {len(row.published)} values for '
                             f'{len(columns)} columns')
        if not all(v is None or isinstance(v, (int, float)) for v in row.published):
            raise ValueError(f'table {key}, row {row.id}: a published value is no number')
        if row.source is None and any(v is not None for v in row.published):
            raise ValueError(f'table {key}, row {row.id}: values without a source')
        other = set(row.metrics) - {c.name for c in columns}
        if other:
            raise ValueError(f'table {key}, row {row.id}: metrics of no column: {sorted(other)}')
        if not isinstance(row.config, (str, type(None))):
            raise ValueError(f'table {key}, row {row.id}: config is no file name')
        if row.source is not None and row.source not in SOURCES:
            raise ValueError(f'table {key}, row {row.id}: unknown source {row.source}')
    for column in columns:
        if column.unit not in UNITS:
            raise ValueError(f'table {key}: unknown unit {column.unit}')
    return Table(paper, key, entry['title'], entry['numbering'], int(entry.get('digits', 1)),
                 columns, rows)
