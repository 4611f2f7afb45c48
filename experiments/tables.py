"""Write the page of all tables: the papers' numbers beside the results of this repository.

    python -m experiments.tables [FILE]     # default: docs/tables.md
"""
from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Optional

from adaptis.commands.rows import PUBLISHED
from adaptis.commands.table import all_markdown
from adaptis.errors import AdaptisError
from adaptis.evaluation.record import read_records
from adaptis.evaluation.tables import load_tables
from adaptis.files import atomic_write

FOLDER = Path(__file__).resolve().parent
PAGE = Path('docs', 'tables.md')
HEAD = """# Tables of the five papers

`python -m experiments.tables` writes this page from `experiments/published/` and
`experiments/results/`; `adaptis table` prints one table, with your own runs beside it.

- In tables that compare systems, **bold** rows are networks of the paper itself. The last column
  names the config of the row in `experiments/`. "Measured here" is the result of a run of this
  project.
- Numbers are percentages unless the column says otherwise. Rows are in the order of the paper. "-"
  is a dash in the paper.
- "+" after a commit means that tracked files differed from it during the run.
- "(?)" marks a number that may be wrong. "?" is a number that is illegible or was not measured.
"""


def page() -> str:
    """Return the page as Markdown; AdaptisError if a file is missing or broken."""
    tables = load_tables(FOLDER / PUBLISHED)
    return f'{HEAD}\n{all_markdown(tables, read_records(FOLDER / "results"))}\n'


def main(arguments: Optional[list[str]] = None) -> int:
    """Write the page; returns 0, or 1 after an error message."""
    parser = argparse.ArgumentParser(prog='python -m experiments.tables', description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('file', type=Path, nargs='?', default=PAGE, metavar='FILE')
    args = parser.parse_args(arguments)
    try:
        with atomic_write(args.file) as temporary:
            temporary.write_text(page(), encoding='utf-8')
    except AdaptisError as error:
        print(f'tables: {error}', file=sys.stderr)
        return 1
    except OSError as error:
        print(f'tables: {args.file} cannot be written: {error.strerror}.', file=sys.stderr)
        return 1
    print(f'Wrote {args.file}.')
    return 0


if __name__ == '__main__':
    sys.exit(main())
