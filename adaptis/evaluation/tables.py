"""Results tables of the papers, and a few others, from ``experiments/published``."""
from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional, Union

from adaptis.errors import AdaptisError
from adaptis.files import PathLike
from adaptis.yaml_files import read_yaml

OWN = 'own'
SOURCES = {'paper': 'a table or figure of the paper',
           'official notebook': 'printed by the notebooks of the official code',
           'official model zoo': 'published by the official code beside its checkpoints',
           OWN: 'an experiment of this library without published numbers'}
UNITS = ('percent', 'count', 'number', 'ms', 'fps', 'mark', 'text')
DASH = '-'
"""What a paper prints where it has no number; None stands for an illegible number."""

Cell = Union[float, bool, str, None]
_BOUND = re.compile(r'[<>] \d+(\.\d+)?')
_DIGITS = {'count': 0, 'ms': 0, 'fps': 0}
_SCALES = {'percent': 100, 'ms': 1000}   # results are fractions and seconds


@dataclass(frozen=True)
class Column:
    """A column of results.

    ``metric`` is the dotted path of the same number in a result file, or None if it is not
    measured; ``{category}`` in it stands for the ``category`` of a row.  ``digits`` is the number
    of decimals; None = that of the table.
    """

    name: str
    metric: Optional[str] = None
    unit: str = 'percent'
    digits: Optional[int] = None

    def scaled(self, value: float) -> float:
        """Convert a number of a result file to the unit of the column."""
        return value * _SCALES.get(self.unit, 1)


@dataclass(frozen=True)
class Row:
    """A row and its published numbers.

    Attributes
    ----------
    published : one cell per column: a number; a text such as a GPU or ``> 260``; ``DASH`` where a
        dash is printed; None if the number is illegible, or for this library's own rows
    facts : other facts in the table about the row, by the names in ``Table.facts``
    ours : whether it is one of the paper's own networks rather than one for comparison
    config : the file that reproduces it, relative to the folder ``experiments``
    metrics : columns with a different metric for this row -> that metric, or None for no metric
    uncertain : columns with an unreliable cell -> the reason
    same : table and row of the same network, whose results also apply to this row
    change : whether the row prints differences between other rows
    """

    id: str
    name: str
    source: str
    published: tuple[Cell, ...]
    facts: Mapping[str, str] = field(default_factory=dict)
    ours: bool = False
    config: Optional[str] = None
    metrics: Mapping[str, Optional[str]] = field(default_factory=dict)
    uncertain: Mapping[str, str] = field(default_factory=dict)
    note: Optional[str] = None
    same: Optional[tuple[str, str]] = None
    category: Optional[int] = None
    change: bool = False

    def metric(self, column: Column) -> Optional[str]:
        """The path in a result file of the number in a column; None if there is none."""
        path = self.metrics.get(column.name, column.metric)
        return path and path.format(category=self.category)


@dataclass(frozen=True)
class Table:
    """A table: its rows in the order of the source, ``digits`` behind the point as printed."""

    paper: str
    id: str
    title: str
    digits: int
    facts: tuple[str, ...]
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    paper_title: str = ''
    system: str = ''

    @property
    def heading(self) -> str:
        """The name of the system, the number of the table, and its title."""
        number = f'Table {self.id}' if re.match(r'[A-Z]?\d|[A-Z]$', self.id) else self.id
        return f'{self.system or self.paper}, {number}: {self.title}'

    def row(self, row_id: str) -> Row:
        """A row by its id; AdaptisError that lists the rows with a config if there is none."""
        for row in self.rows:
            if row.id == row_id:
                return row
        known = [row.id for row in self.rows if row.config] or [row.id for row in self.rows]
        raise AdaptisError(f'Table {self.id} of {self.paper} has no row {row_id}; it has '
                           f'{", ".join(known)}.')

    def digits_of(self, column: Column) -> int:
        """The number of decimals in a column."""
        return _DIGITS.get(column.unit, self.digits) if column.digits is None else column.digits


def load_tables(path: PathLike) -> dict[str, dict[str, Table]]:
    """Paper -> table id -> table, from a folder with a file for each paper, or from one such file.

    Raises AdaptisError if there is no file, or one is malformed.
    """
    path = Path(path)
    files = [path] if path.is_file() else sorted(path.glob('*.yaml'))
    if not files:
        raise AdaptisError(f'{path} contains no published numbers: it has no file PAPER.yaml.')
    return {file.stem: _load(file) for file in files}


def find_table(tables: Mapping[str, Mapping[str, Table]], paper: str, table: str) -> Table:
    """One table; AdaptisError that lists the tables if it does not exist."""
    if paper not in tables:
        raise AdaptisError(f'There is no paper {paper}; there are {", ".join(tables)}.')
    if table not in tables[paper]:
        raise AdaptisError(f'{paper} has no table {table}; it has {", ".join(tables[paper])}.')
    return tables[paper][table]


def find_runs(table: Table, row: Row,
              records: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The records that measure a row, or a row of the same network."""
    wanted = {(table.paper, table.id, row.id)}
    if row.same:
        wanted.add((table.paper, *row.same))
    return [run for run in records if (run.get('paper') or 'adaptis', str(run.get('table')),
                                       run.get('row')) in wanted]


def rows_without_run(table: Table, records: Sequence[Mapping[str, Any]]) -> list[Row]:
    """The rows with a config that no record measures."""
    return [row for row in table.rows if row.config and not find_runs(table, row, records)]


def metric_value(metrics: Mapping[str, Any], path: str) -> Optional[float]:
    """The number at a dotted path, or None."""
    value: Any = metrics
    for part in path.split('.'):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value if isinstance(value, (int, float)) else None


def run_value(run: Mapping[str, Any], path: Optional[str]) -> Optional[float]:
    """Return the number at a path in the metrics or the ``speed`` of a record, or None."""
    return metric_value({**run['metrics'], 'speed': run.get('speed')}, path) if path else None


def _load(path: Path) -> dict[str, Table]:
    content = read_yaml(path)
    try:
        return {str(key): _table(path.stem, str(key), entry, content)
                for key, entry in content['tables'].items()}
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise AdaptisError(f'{path} is not a file of published numbers '
                           f'({type(error).__name__}: {error}).') from error


def _table(paper: str, key: str, entry: Mapping[str, Any], content: Mapping[str, Any]) -> Table:
    columns = tuple(Column(**c) for c in entry['columns'])
    for column in columns:
        if column.unit not in UNITS:
            raise ValueError(f'table {key}: unknown unit {column.unit}')
    facts = tuple(entry.get('facts', ()))
    rows = tuple(_row(r, entry.get('source'), facts, columns) for r in entry['rows'])
    for row in rows:
        fault = _fault(row, columns)
        if fault:
            raise ValueError(f'table {key}, row {row.id}: {fault}')
    return Table(paper, key, entry['title'], int(entry.get('digits', 1)), facts, columns, rows,
                 tuple(entry.get('notes', ())), content['title'], content.get('system', paper))


def _row(entry: Mapping[str, Any], source: Optional[str], facts: Sequence[str],
         columns: Sequence[Column]) -> Row:
    """A row from an entry whose keys are those of ``Row`` plus its facts."""
    values = dict(entry)
    values['facts'] = {name: str(values.pop(name)) for name in facts if name in values}
    values.setdefault('source', source)
    if values['source'] == OWN:
        values.setdefault('published', [None] * len(columns))
    values['published'] = tuple(values['published'])
    if 'same' in values:
        table, row = values['same']
        values['same'] = (str(table), row)
    return Row(**values)


def _fault(row: Row, columns: Sequence[Column]) -> Optional[str]:
    """The mistake in a row, or None."""
    if row.source not in SOURCES:
        return f'unknown source {row.source}'
    if len(row.published) != len(columns):
        return f'{len(row.published)} values for {len(columns)} columns'
    if not isinstance(row.config, (str, type(None))):
        return 'config is not a file name'
    for name in ('metrics', 'uncertain'):
        if not isinstance(getattr(row, name), Mapping):
            return f'{name} is not a mapping'
    other = {*row.metrics, *row.uncertain} - {c.name for c in columns}
    if other:
        return f'metrics or uncertain names unknown columns: {sorted(other)}'
    for value, column in zip(row.published, columns):
        if not _fits(value, column):
            return f'{value!r} is not a value of column {column.name}'
        if value is None and row.source != OWN and column.name not in row.uncertain:
            return f'the reason why {column.name} is illegible is missing'
    return None


def _fits(value: Any, column: Column) -> bool:
    if value is None or value == DASH:
        return True
    if column.unit == 'text':
        return isinstance(value, str)
    if column.unit == 'mark' or isinstance(value, bool):
        return column.unit == 'mark' and isinstance(value, bool)
    return isinstance(value, (int, float)) or (isinstance(value, str)
                                               and bool(_BOUND.fullmatch(value)))
