"""``adaptis table``: published numbers beside measured ones."""
from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

from adaptis.commands.rows import (
    EVALUATIONS,
    PUBLISHED,
    RUNS,
    command,
    configs,
    experiments,
    remarks,
    shown,
)
from adaptis.errors import AdaptisError
from adaptis.evaluation.record import read_record, read_records
from adaptis.evaluation.table_formats import (
    FORMATS,
    format_csv,
    format_json,
    format_markdown,
    format_table,
)
from adaptis.evaluation.tables import OWN, Table, find_table, load_tables, rows_without_run

HELP = 'Print a published table beside the numbers measured here.'
Records = Sequence[dict[str, Any]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument('table', nargs='+', metavar='[PAPER] TABLE',
                        help='for instance 1, 7, notebooks or unified 2; "list" lists all tables, '
                             '"all" prints them (as Markdown or JSON)')
    parser.add_argument('--format', default='text', metavar='FORMAT',
                        help=f'output format: {", ".join(FORMATS)} (default: text)')
    parser.add_argument('--published', type=Path, metavar='DIR',
                        help='folder with a file PAPER.yaml for each paper (default: '
                             'experiments/published)')
    parser.add_argument('--results', type=Path, metavar='DIR',
                        help='folder with the records of runs (default: experiments/results, '
                             'evaluations, and runs/*/evaluation.json)')


def run(args: argparse.Namespace) -> int:
    """Print the table; AdaptisError if it does not exist or a file is broken."""
    if args.format not in FORMATS:
        raise AdaptisError(f'There is no format {args.format}; there are {", ".join(FORMATS)}.')
    if len(args.table) > 2:
        raise AdaptisError('Give one table, for instance: adaptis table 1.')
    published = args.published or experiments() / PUBLISHED
    tables = load_tables(published)
    if args.table == ['list']:
        print(_list(tables, args.format))
    elif args.table == ['all']:
        print(_all(tables, _find_records(args.results)[0], args.format))
    else:
        paper, name = (['adaptis'] + args.table)[-2:]
        table, (records, where) = find_table(tables, paper, name), _find_records(args.results)
        folder = published.resolve() if published.is_dir() else published.resolve().parent
        print(_one(table, records, args.format, folder.parent))
        if args.format == 'text':
            print(f'\n{where}')
    return 0


def all_markdown(tables: Mapping[str, Mapping[str, Table]], records: Records) -> str:
    """Every table of every paper in Markdown, each below a heading."""
    parts = []
    for entries in tables.values():
        parts.append(f'## {next(iter(entries.values())).paper_title}')
        for table in entries.values():
            parts += [f'### {table.heading}', format_markdown(table, records)]
    return '\n\n'.join(parts)


def _one(table: Table, records: Records, form: str, folder: Path) -> str:
    if form == 'markdown':
        return f'### {table.heading}\n\n{format_markdown(table, records)}'
    if form == 'csv':
        return format_csv(table, records)
    if form == 'json':
        return format_json([table], records)
    paths = configs(rows_without_run(table, records), folder)
    text = format_table(table, records, {row: command(path) for row, path in paths.items()})
    below = remarks(paths.values())
    return '\n'.join([text, '', *below] if below else [text])


def _all(tables: Mapping[str, Mapping[str, Table]], records: Records, form: str) -> str:
    if form == 'markdown':
        return all_markdown(tables, records)
    if form == 'json':
        return format_json([t for entries in tables.values() for t in entries.values()], records)
    raise AdaptisError('"all" needs --format markdown or json, because the other formats hold a '
                       'single table.')


def _list(tables: Mapping[str, Mapping[str, Table]], form: str) -> str:
    if form != 'text':
        raise AdaptisError('The list of tables is available only as text: leave out --format.')
    return '\n'.join(f'{paper} {table.id}: {table.title} ({_counts(table)})'
                     for paper, entries in tables.items() for table in entries.values())


def _counts(table: Table) -> str:
    values = [value for row in table.rows if row.source != OWN for value in row.published]
    configured = sum(row.config is not None for row in table.rows)
    doubts = sum(len(row.uncertain) for row in table.rows)
    plural = 's' * (len(table.rows) != 1)
    parts = [f'{len(table.rows)} row{plural}', f'{configured} with a config']
    if doubts:
        parts.append(f'{doubts} of {len(values)} published numbers uncertain')
    return ', '.join(parts)


def _find_records(folder: Optional[Path]) -> tuple[Records, str]:
    """Return the records of a folder, or of all usual places, and a sentence about the place.

    A record that exists in two places counts once.
    """
    if folder is not None:
        if not folder.is_dir():
            raise AdaptisError(f'{folder}, given as --results, is not a folder.')
        return read_records(folder), f'Measured: the records in {folder}.'
    of_runs = [read_record(path) for path in sorted(RUNS.glob('*/evaluation.json'))]
    results = experiments() / 'results'
    places = {shown(results): read_records(results), str(EVALUATIONS): read_records(EVALUATIONS),
              f'{RUNS}/*/evaluation.json': of_runs}
    found: list[dict[str, Any]] = []
    for records in places.values():
        known = [{**record, 'file': None} for record in found]
        found += [record for record in records if {**record, 'file': None} not in known]
    *most, last = [f'{place} ({len(records)})' for place, records in places.items()]
    return found, f'Measured: the records in {", ".join(most)} and {last}.'
