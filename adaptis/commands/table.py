"""``adaptis table``: published numbers beside measured ones."""
from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional

from adaptis.commands.rows import EVALUATIONS, PUBLISHED, command, configs, experiments, remarks
from adaptis.errors import AdaptisError
from adaptis.evaluation.record import read_records
from adaptis.evaluation.tables import (
    OWN,
    Table,
    find_table,
    format_table,
    load_tables,
    rows_without_run,
)

HELP = 'Print a published table beside what was measured here.'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument('table', nargs='+', metavar='[PAPER] TABLE',
                        help='for instance: 1, 7, notebooks, or: adaptis 1; "list" lists them all')
    parser.add_argument('--published', type=Path, metavar='YAML',
                        help='default: experiments/published.yaml')
    parser.add_argument('--results', type=Path, metavar='DIR',
                        help='records of runs, default: experiments/results and evaluations')


def run(args: argparse.Namespace) -> int:
    """Print the table; AdaptisError if there is no such table or a file is broken."""
    if len(args.table) > 2:
        raise AdaptisError('Give one table, for instance: adaptis table 1.')
    published = args.published or experiments() / PUBLISHED
    tables = load_tables(published)
    if args.table == ['list']:
        for paper, entries in tables.items():
            for table in entries.values():
                print(f'{paper} {table.id}: {table.title}{_unknown(table)}')
        return 0
    paper, name = (['adaptis'] + args.table)[-2:]
    table, records = find_table(tables, paper, name), _records(args.results)
    paths = configs(rows_without_run(table, records), published.parent)
    print(format_table(table, records, {row: command(path) for row, path in paths.items()}))
    below = remarks(paths.values())
    if below:
        print('', *below, sep='\n')
    return 0


def _unknown(table: Table) -> str:
    values = [value for row in table.rows if row.source != OWN for value in row.published]
    count = values.count(None)
    return f' ({count} of {len(values)} published numbers not known here)' if count else ''


def _records(folder: Optional[Path]) -> Sequence[dict[str, Any]]:
    """Those of a folder, or of both usual ones; a record that lies in both counts once."""
    if folder is not None:
        if not folder.is_dir():
            raise AdaptisError(f'{folder}, given as --results, is not a folder.')
        return read_records(folder)
    records = read_records(experiments() / 'results')
    return records + [r for r in read_records(EVALUATIONS)
                      if all({**r, 'file': None} != {**k, 'file': None} for k in records)]
