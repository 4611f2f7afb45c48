"""``adaptis table``: published numbers beside measured ones."""
from __future__ import annotations

import argparse
from pathlib import Path

from adaptis.errors import AdaptisError
from adaptis.evaluation.record import ROOT, read_records
from adaptis.evaluation.tables import find_table, format_table, load_tables

HELP = 'Print a published table beside what was measured here.'
PUBLISHED = 'published.yaml'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument('table', nargs='+', metavar='[PAPER] TABLE',
                        help='for instance: 1, 7, notebooks, or: adaptis 1; "list" lists them all')
    parser.add_argument('--published', type=Path, metavar='YAML',
                        help='default: experiments/published.yaml')
    parser.add_argument('--results', type=Path, metavar='DIR',
                        help='records of runs, default: experiments/results')


def run(args: argparse.Namespace) -> int:
    """Print the table; AdaptisError if there is no such table or a file is broken."""
    if len(args.table) > 2:
        raise AdaptisError('Give one table, for instance: adaptis table 1.')
    tables = load_tables(args.published or experiments() / PUBLISHED)
    if args.table == ['list']:
        for paper, entries in tables.items():
            for table in entries.values():
                print(f'{paper} {table.id}: {table.title}')
        return 0
    if args.results is not None and not args.results.is_dir():
        raise AdaptisError(f'{args.results}, given as --results, is not a folder.')
    paper, table = (['adaptis'] + args.table)[-2:]
    records = read_records(args.results or experiments() / 'results')
    print(format_table(find_table(tables, paper, table), records))
    return 0


def experiments() -> Path:
    """The folder ``experiments`` of the working directory, else that of the source tree."""
    here = Path('experiments')
    return here if (here / PUBLISHED).is_file() else ROOT / 'experiments'
