"""Write the result pages in ``docs/results``, and the results in the README, from the records.

    python -m experiments.result_pages            # writes the pages
    python -m experiments.result_pages --check    # exits with 1 if a page is out of date
"""
from __future__ import annotations

import argparse
import re
import string
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

from adaptis.commands.rows import PUBLISHED
from adaptis.errors import AdaptisError
from adaptis.evaluation.ap import TABLE_1_KEYS
from adaptis.evaluation.record import read_records, short_commit
from adaptis.evaluation.table_formats import format_markdown
from adaptis.evaluation.tables import Table, load_tables
from experiments.benchmarks.markdown import table, write_text
from experiments.side_by_side import report
from experiments.side_by_side.run import RESULTS, load_results
from experiments.tables import page as tables_page

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parent
TEMPLATES = FOLDER / 'page_templates'
Record = Mapping[str, Any]


def pages() -> dict[Path, str]:
    """Return every generated page, by its path from the root of the repository.

    Raises AdaptisError if a record or a template is missing or broken.
    """
    records = {record['label']: record for record in read_records(FOLDER / 'results')}
    tables = load_tables(FOLDER / PUBLISHED)['adaptis']
    toy, streets = _toy_parts(tables, records), _street_parts()
    return {Path('docs/results/toy.md'): _fill('toy.md', toy),
            Path('docs/results/side_by_side.md'): _fill('side_by_side.md', streets),
            Path('docs/tables.md'): tables_page(),
            Path('README.md'): _readme(tables, records)}


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Write or check the pages; returns 0, or 1 after an error message."""
    parser = argparse.ArgumentParser(prog='python -m experiments.result_pages',
                                     description=__doc__.partition('\n')[0])
    parser.add_argument('--check', action='store_true', help='only compare, write nothing')
    check = parser.parse_args(arguments).check
    try:
        changed = {path: text for path, text in pages().items() if text != _read(ROOT / path)}
        if check and changed:
            raise AdaptisError(f'{", ".join(map(str, changed))} are out of date: '
                               'run "python -m experiments.result_pages".')
        for path, text in changed.items():
            write_text(ROOT / path, text)
            print(f'Wrote {path}.')
    except AdaptisError as error:
        print(f'result_pages: {error}', file=sys.stderr)
        return 1
    return 0


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """Return the rows as a table; the first one is its header, and numbers are right-aligned."""
    head, *body = rows
    return table(head, body, numbers=True)


def _toy_parts(tables: Mapping[str, Table], records: Mapping[str, Record]) -> dict[str, str]:
    every = list(records.values())
    return {'table1': format_markdown(tables['1'], every),
            'figure3d': format_markdown(tables['figure3d'], every),
            'ablation': format_markdown(tables['7-toy'], every),
            'clicks': clicks_table(records['toy_v1_wide_clicks']),
            'run': _provenance(records['toy_v1_long']),
            'wide_run': _provenance(records['toy_v1_wide'])}


def clicks_table(record: Record) -> str:
    """Return how much masks depend on the click, measured with ``adaptis evaluate --clicks``."""
    found = record['metrics']['clicks']
    head = [f'{record["settings"]["clicks"]} clicks on each of {found["objects"]:,} objects',
            'mean IoU', 'worst IoU', 'IoU above 0.5', 'agreement']
    keys = ('iou', 'worst', 'found', 'agreement')
    places = {'anywhere': 'uniform', 'in the middle': 'middle', 'near the border': 'border'}
    return markdown_table([head, *([title, *_percent(found[place][key] for key in keys)]
                                   for title, place in places.items())])


def _street_parts() -> dict[str, str]:
    results = load_results(RESULTS)
    quality, cost = report.markdown(results).strip().split('\n\n')
    findings = (RESULTS / 'findings.txt').read_text(encoding='utf-8').strip()
    runs = '\n'.join(f'- {report.TITLES[r["system"]]}: `{r["config"]}`, {_provenance(r)}.'
                     f'{" " + r["note"] if "note" in r else ""}' for r in results)
    return {'quality': quality, 'cost': cost, 'findings': findings, 'runs': runs,
            'by_objects': markdown_table(report.by_objects(results)),
            'covered': markdown_table(report.found_by(results, 'covered')),
            'area': markdown_table(report.found_by(results, 'area')),
            'ranks': markdown_table(report.ranks(results))}


def _readme(tables: Mapping[str, Table], records: Mapping[str, Record]) -> str:
    published = tables['1'].row('adaptis').published
    ours = {"`toy_v1_wide`, the paper's width": 'toy_v1_wide',
            '`toy_v1`, half the width': 'toy_v1_long'}
    table1 = markdown_table([
        ['ToyV1, all 2,000 test images (Table 1)', *TABLE_1_KEYS],
        ['AdaptIS, published', *(f'{value:.1f}' for value in published)],
        *([f'AdaptIS, {name}', *_percent(records[label]['metrics']['ap'][key]
                                         for key in TABLE_1_KEYS.values())]
          for name, label in ours.items())])
    quality = report.rows(load_results(RESULTS), report.QUALITY)
    columns = [quality[0].index(name) for name in ('PQ', 'PQ things', 'PQ stuff', 'AP', 'mIoU')]
    streets = markdown_table([['500 drawn street scenes, nothing published',
                               *(quality[0][c] for c in columns)],
                              *([row[0], *(row[c] for c in columns)] for row in quality[1:])])
    text = _read(ROOT / 'README.md')
    block = f'<!-- results -->\n\n{table1}\n\n{streets}\n\n<!-- /results -->'
    filled, count = re.subn(r'<!-- results -->.*?<!-- /results -->', lambda _: block, text,
                            flags=re.DOTALL)
    if count != 1:
        raise AdaptisError('README.md must contain "<!-- results -->" and '
                           '"<!-- /results -->" exactly once.')
    return filled


def _percent(values: Iterable[float]) -> list[str]:
    return [f'{100 * value:.1f}' for value in values]


def _provenance(record: Record) -> str:
    hardware = record['hardware']
    return (f'seed {record.get("seed", 0)}, commit {short_commit(record["commit"])}, '
            f'{record["cost"]["device"] if "device" in record.get("cost", {}) else hardware["cpu"]}'
            f', {hardware["cores"]} cores, {record["date"][:10]}')


def _fill(name: str, parts: Mapping[str, str]) -> str:
    path = TEMPLATES / name
    try:
        return string.Template(path.read_text(encoding='utf-8')).substitute(parts)
    except (OSError, KeyError, ValueError) as error:
        raise AdaptisError(f'{path} cannot be filled in: {error}.') from error


def _read(path: Path) -> str:
    return path.read_text(encoding='utf-8') if path.is_file() else ''


if __name__ == '__main__':
    sys.exit(main())
