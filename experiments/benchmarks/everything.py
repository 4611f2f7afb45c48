"""The run without a subject: all comparisons in one run."""
from __future__ import annotations

import argparse
import concurrent.futures.process
import datetime
import functools
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

from adaptis.errors import AdaptisError
from adaptis.evaluation.record import provenance, write_record
from adaptis.files import PathLike
from experiments.benchmarks import kernels, page
from experiments.benchmarks.busy import complaints, load_complaint
from experiments.benchmarks.comparison import Comparison, Setting, measure
from experiments.benchmarks.markdown import write_text
from experiments.benchmarks.measures import conditions, load
from experiments.benchmarks.official import Program
from experiments.benchmarks.process import alone
from experiments.benchmarks.subjects import SUBJECTS, comparisons, subject_of

ROOT = Path(__file__).resolve().parents[2]
RECORD, PAGE = Path('experiments/logs/benchmarks.json'), Path('docs/benchmarks.md')
QUICK_RECORD, QUICK_PAGE = Path('benchmarks_quick.json'), Path('benchmarks_quick.md')
KIND = 'benchmarks'
"""The kind of a record, as stored in it."""

Row = dict[str, Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of a run without a subject."""
    parser.add_argument('--quick', action='store_true',
                        help='smaller sizes and fewer rounds (a minute or two); the files say so')
    parser.add_argument('--only', nargs='+', metavar='NAME',
                        help='run only these subjects or comparisons')
    parser.add_argument('--official', type=Path, metavar='DIR',
                        help='also time the official programs with repositories in this folder')
    parser.add_argument('--official-python', default=sys.executable, metavar='PYTHON',
                        help='Python interpreter with PyTorch, for those that need it; default: '
                             'this one')
    parser.add_argument('--out', type=Path, metavar='FILE',
                        help=f'record to write; default: {RECORD}, or {QUICK_RECORD} with --quick')
    parser.add_argument('--page', type=Path, metavar='FILE',
                        help=f'page to write; default: {PAGE}, or {QUICK_PAGE} with --quick')
    parser.add_argument('--render', type=Path, metavar='RECORD',
                        help='write the page of this record without measuring')
    parser.add_argument('--note', help='stored in the record, for instance what else was running')


def run(args: argparse.Namespace) -> None:
    """Measure everything, print the figures, write the record and the page.

    Raises AdaptisError for unknown names, and for files that cannot be read or written.
    """
    if args.render:
        write_text(args.page or PAGE, page.render(read(args.render), SUBJECTS))
        return
    record = measure_all(args)
    out = args.out or (QUICK_RECORD if args.quick else RECORD)
    where = args.page or (QUICK_PAGE if args.quick else PAGE)
    print(page.facts(record))
    write_record(out, record)
    write_text(where, page.render(read(out), SUBJECTS))
    print(f'Wrote {out} and {where}.')


def measure_all(args: argparse.Namespace) -> dict[str, Any]:
    """Return the record of a run; each row is printed as soon as it is measured.

    After Ctrl-C, the record contains the rows measured so far, if there are any.
    """
    chosen = _chosen(args.only)
    before = conditions()
    _warn([load_complaint(before['load before'])])
    rows: dict[str, Row] = {}
    facts: dict[str, str] = {}
    interrupted = False
    try:
        for comparison in chosen:
            print(f'{comparison.name} ...', file=sys.stderr, flush=True)
            rows[comparison.name] = row = measure_row(comparison, args.quick, args.official,
                                                      args.official_python)
            print(page.text(comparison.name, row), flush=True)
        facts, looked = _look(chosen, args.quick)
        for (name, form), log in looked.items():
            if form in rows[name].get('forms', {}):
                rows[name]['forms'][form]['kernels'] = log
    except KeyboardInterrupt:
        if not rows:
            raise
        interrupted = True
    return {'kind': KIND, 'quick': args.quick, 'interrupted': interrupted, 'only': args.only,
            'rows': rows,
            'processor': facts, **provenance(),
            'date': datetime.datetime.now(datetime.timezone.utc).isoformat(timespec='seconds'),
            'conditions': {**before, 'load after': load(), 'note': args.note}}


def measure_row(comparison: Comparison, quick: bool, official: Optional[PathLike] = None,
                python: str = sys.executable) -> Row:
    """Return the row of a comparison; it has a sentence 'not measured' if it has no figures."""
    row = {'subject': subject_of(comparison.name), 'config': comparison.config[quick],
           'seed': comparison.seed}
    try:
        found = alone(_measure, comparison, quick, official, python)
    except (AdaptisError, concurrent.futures.process.BrokenProcessPool) as error:
        return {**row, 'not measured': str(error)}
    return {**row, **found, 'complaints': complaints(found['busy'], _threads())}


def read(path: PathLike) -> dict[str, Any]:
    """Return the record of a run without a subject; AdaptisError if the file is not one."""
    try:
        record = json.loads(Path(path).read_text(encoding='utf-8'))
    except OSError as error:
        raise AdaptisError(f'{path} cannot be read: {error.strerror}.') from error
    except ValueError as error:
        raise AdaptisError(f'{path} is not a record of benchmarks: it is not JSON.') from error
    if not isinstance(record, dict) or record.get('kind') != KIND:
        raise AdaptisError(f'{path} is not a record of benchmarks: write one with a run without a '
                           'subject.')
    return record


def _measure(comparison: Comparison, quick: bool, official: Optional[PathLike],
             python: str) -> dict[str, Any]:
    """Time a comparison in this process, with the official program if there is one."""
    if official is None or comparison.official is None:
        return measure(comparison, Setting(quick))
    try:
        name, inputs = comparison.official
        program = Program(official, name, functools.partial(inputs, quick), comparison.seed,
                          python)
    except AdaptisError as error:   # ours are timed nevertheless
        found = measure(comparison, Setting(quick))
        return {**found, 'left out': {**found['left out'], 'official': str(error)}}
    with program:
        return measure(comparison, Setting(quick, program))


def _chosen(only: Optional[Sequence[str]]) -> list[Comparison]:
    known = {comparison.name for comparison in comparisons()}
    wrong = set(only or ()) - known - {subject_of(name) for name in known}
    if wrong:
        raise AdaptisError(f'There is no comparison "{min(wrong)}": choose from '
                           f'{", ".join(sorted(known))}.')
    return list(comparisons(only))


def _look(chosen: Sequence[Comparison], quick: bool
          ) -> tuple[dict[str, str], Mapping[tuple[str, str], kernels.Log]]:
    print('Looking up the kernels ...', file=sys.stderr, flush=True)
    try:
        return kernels.look([comparison.name for comparison in chosen], quick)
    except AdaptisError as error:
        _warn([str(error)])
        return {}, {}


def _threads() -> Optional[int]:
    text = os.environ.get('OMP_NUM_THREADS', '')
    return int(text) if text.isdecimal() else None


def _warn(sentences: Sequence[Optional[str]]) -> None:
    for sentence in filter(None, sentences):
        print(f'Warning: {sentence}', file=sys.stderr, flush=True)

