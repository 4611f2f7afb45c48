"""Published tables beside what was measured here: as text, Markdown, CSV and JSON."""
from __future__ import annotations

import csv
import io
import json
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Optional

from adaptis.evaluation.record import short_commit
from adaptis.evaluation.tables import (
    DASH,
    OWN,
    Cell,
    Column,
    Row,
    Table,
    find_runs,
    run_value,
)

Records = Sequence[Mapping[str, Any]]
WIDTH = 100
FORMATS = ('text', 'markdown', 'csv', 'json')
DOUBT = '(?)'
"""Marks a published number that is not reliable."""


class Line(NamedTuple):
    """A line of a table: the published numbers of a row, or those that a run measured."""

    row: Row
    kind: str
    values: list[str]
    remark: str


def format_table(table: Table, records: Records,
                 commands: Optional[Mapping[str, str]] = None) -> str:
    """The table as text: every published row, followed by the runs that measured it.

    ``commands`` gives the command that measures a row without a run, by the row's id.
    """
    notes = [textwrap.fill(note, WIDTH, initial_indent='- ', subsequent_indent='  ')
             for note in _notes(table)]
    lines = [f'{table.heading}\n', _text(table, table.rows, records, commands)]
    return '\n'.join([*lines, '', *notes] if notes else lines)


def format_row(table: Table, row_id: str, records: Records,
               command: Optional[str] = None) -> str:
    """One row of the table as text, with what ``records`` measured of it.

    ``command`` measures the row; it is printed if no record did.
    """
    commands = {row_id: command} if command else None
    return f'{table.heading}\n\n{_text(table, [table.row(row_id)], records, commands)}'


def format_markdown(table: Table, records: Records) -> str:
    """The table in Markdown, without a heading.

    The paper's own networks are bold if the table compares them with others.
    """
    lines = [line for row in table.rows for line in _lines(table, row, records)]
    body = [_markdown_cells(line, table) for line in lines]
    head = ['', *table.facts, *(c.name for c in table.columns), '']
    rules = ['---', *['---'] * len(table.facts), *['---:'] * len(table.columns), '---']
    if not any(cells[-1] for cells in body):
        head, rules, *body = ([*cells[:-1]] for cells in (head, rules, *body))
    text = '\n'.join(f'| {" | ".join(cells)} |' for cells in (head, rules, *body))
    return text + ''.join(f'\n- {_escaped(note)}' if k else f'\n\n- {_escaped(note)}'
                          for k, note in enumerate(_notes(table)))


def format_csv(table: Table, records: Records) -> str:
    """The table as CSV: one line per row and per run, with the names of uncertain columns."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator='\n')
    writer.writerow(['row', 'method', *table.facts, 'kind', *(c.name for c in table.columns),
                     'uncertain', 'remark'])
    for line in (line for row in table.rows for line in _lines(table, row, records)):
        published = line.kind == 'published'
        values = [value.replace(f' {DOUBT}', '') for value in line.values]
        writer.writerow([line.row.id, line.row.name, *_facts(line.row, table), line.kind, *values,
                         '; '.join(line.row.uncertain) if published else '', line.remark])
    return stream.getvalue().rstrip('\n')


def format_json(tables: Iterable[Table], records: Records) -> str:
    """Tables as JSON: their columns, rows, published cells (null: not legible) and runs."""
    return json.dumps([_data(table, records) for table in tables], indent=1)


def _text(table: Table, rows: Iterable[Row], records: Records,
          commands: Optional[Mapping[str, str]]) -> str:
    lines = [line for row in rows
             for line in [*_lines(table, row, records), *_missing(table, row, records, commands)]]
    shown = [['', *table.facts, '', *(c.name for c in table.columns), '']]
    for line, before in zip(lines, [None, *lines]):
        new = before is None or before.row.id != line.row.id
        names = [line.row.name, *_facts(line.row, table)] if new else \
            [''] * (1 + len(table.facts))
        shown.append([*names, line.kind, *line.values, line.remark])
    return _aligned(shown, 2 + len(table.facts))


def _lines(table: Table, row: Row, records: Records) -> list[Line]:
    """The published numbers of a row, and the measured ones."""
    lines = []
    if row.source != OWN:
        values = [_published(value, column, table, row)
                  for value, column in zip(row.published, table.columns)]
        lines.append(Line(row, 'published', values, _remark(row)))
    return lines + [_measured(run, table, row) for run in find_runs(table, row, records)]


def _missing(table: Table, row: Row, records: Records,
             commands: Optional[Mapping[str, str]]) -> list[Line]:
    """The line of this library's own row that has not been measured yet."""
    if find_runs(table, row, records) or not (row.config or row.source == OWN):
        return []
    command = (commands or {}).get(row.id)
    remark = f'no run yet: {command}' if command else 'no run yet'
    return [Line(row, 'measured', [DASH] * len(table.columns), remark)]


def _measured(run: Mapping[str, Any], table: Table, row: Row) -> Line:
    values = []
    for column in table.columns:
        path = row.metric(column)
        value = run_value(run, path)
        text = '?' if value is None else _number(column.scaled(value), column, table)
        values.append(text if path else '')
    commit = f'commit {short_commit(run["commit"])}' if run.get('commit') else ''
    facts = [str(run.get('label') or run.get('file')), 'reduced' if run.get('reduced') else '',
             'from an earlier setting' if run.get('note') else '', *_inference(run), _images(run),
             _device(run, table, row),
             str(run.get('date') or '')[:10], commit]
    return Line(row, 'measured', values, ', '.join(f for f in facts if f))


def _inference(run: Mapping[str, Any]) -> list[str]:
    """The settings that tables distinguish: how points are chosen, and the flip."""
    settings = run.get('settings')
    used = settings.get('inference') if isinstance(settings, Mapping) else None
    if not isinstance(used, Mapping):
        return []
    points = {'random': 'random points', 'proposals': 'point proposals'}
    return [points.get(str(used.get('sampling')), ''), 'flip' if used.get('flip') is True else '']


def _device(run: Mapping[str, Any], table: Table, row: Row) -> str:
    """Return the device of a run if the table has columns of time."""
    speed = run.get('speed')
    asked = any((row.metric(c) or '').startswith('speed.') for c in table.columns)
    return str(speed.get('device') or '') if asked and isinstance(speed, Mapping) else ''


def _images(run: Mapping[str, Any]) -> str:
    count = run['metrics'].get('images')
    return f'{count:,} image{"s" * (count != 1)}' if isinstance(count, int) else ''


def _remark(row: Row) -> str:
    network = ''
    if row.same and row.category is None:   # the rows of all classes would repeat it
        network = f'the network of {row.same[1]} in table {row.same[0]}'
    return '; '.join(part for part in (row.note, network) if part)


def _published(value: Cell, column: Column, table: Table, row: Row) -> str:
    if value is None:
        return '?'
    if isinstance(value, bool):
        text = 'yes' if value else 'no'
    elif isinstance(value, str):
        text = value
    else:
        text = _number(value, column, table, '+' if row.change else '')
    return f'{text} {DOUBT}' if column.name in row.uncertain else text


def _number(value: float, column: Column, table: Table, sign: str = '') -> str:
    return f'{value:{sign}.{table.digits_of(column)}f}'


def _facts(row: Row, table: Table) -> list[str]:
    return [row.facts.get(name, '') for name in table.facts]


def _notes(table: Table) -> list[str]:
    """The notes of a table, then the reasons why cells are uncertain, each reason once."""
    cells: dict[str, tuple[dict[str, None], dict[str, None]]] = {}
    for row in table.rows:
        for column, why in row.uncertain.items():
            columns, names = cells.setdefault(why, ({}, {}))
            columns[column] = names[row.name] = None
    doubts = [f'{DOUBT} {", ".join(columns)} of {", ".join(names)}: {why}.'
              for why, (columns, names) in cells.items()]
    return [*table.notes, *doubts]


def _aligned(lines: Sequence[Sequence[str]], texts: int) -> str:
    """Align the first ``texts`` columns and the last one to the left, and numbers to the right."""
    widths = [max(len(line[k]) for line in lines) for k in range(len(lines[0]))]
    last = len(widths) - 1
    return '\n'.join('  '.join(
        cell.ljust(width) if k < texts or k == last else cell.rjust(width)
        for k, (cell, width) in enumerate(zip(line, widths))).rstrip() for line in lines)


def _markdown_cells(line: Line, table: Table) -> list[str]:
    row, name, remark = line.row, _escaped(line.row.name), _escaped(line.remark)
    facts = [_escaped(fact) for fact in _facts(row, table)]
    if line.kind == 'measured':
        if row.source != OWN:   # the row above names it
            name, facts = '', [''] * len(facts)
        name = f'{name}, measured here'.lstrip(', ')
    else:
        others = any(not r.ours and r.source != OWN for r in table.rows)
        name = f'**{name}**' if row.ours and others else name
        if row.config:
            remark = '; '.join(part for part in (remark, f'`{row.config}`') if part)
    return [name, *facts, *map(_escaped, line.values), remark]


def _escaped(text: str) -> str:
    for sign in ('\\', '|', '*', '<'):
        text = text.replace(sign, f'\\{sign}')
    return text


def _data(table: Table, records: Records) -> dict[str, Any]:
    return {'paper': table.paper, 'table': table.id, 'title': table.title,
            'columns': [{'name': c.name, 'unit': c.unit} for c in table.columns],
            'rows': [_row_data(table, row, records) for row in table.rows],
            'notes': list(table.notes)}


def _row_data(table: Table, row: Row, records: Records) -> dict[str, Any]:
    names = [column.name for column in table.columns]
    runs = [{'label': run.get('label'), 'reduced': bool(run.get('reduced')),
             'date': run.get('date'), 'commit': run.get('commit'),
             'values': {c.name: _scaled(run, row, c) for c in table.columns}}
            for run in find_runs(table, row, records)]
    return {'id': row.id, 'method': row.name, 'facts': dict(row.facts), 'ours': row.ours,
            'source': row.source, 'config': row.config, 'note': row.note,
            'published': None if row.source == OWN else dict(zip(names, row.published)),
            'uncertain': dict(row.uncertain), 'measured': runs}


def _scaled(run: Mapping[str, Any], row: Row, column: Column) -> Optional[float]:
    path = row.metric(column)
    value = run_value(run, path)
    return None if value is None else column.scaled(value)
