"""Write the page of a run without a subject, and its rows as text."""
from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any, Optional

from adaptis.evaluation.record import short_commit
from experiments.benchmarks import earlier
from experiments.benchmarks.busy import load_complaint
from experiments.benchmarks.kernels import describe
from experiments.benchmarks.markdown import seconds, table
from experiments.benchmarks.official import SETUP

MARK = '(!)'
"""Marks rows that other processes disturbed."""

Row = Mapping[str, Any]

_HEAD = """# Benchmarks

`python -m experiments.benchmarks` measures the tables above "Records of subjects" in one run, and
writes this page and its record as JSON. On your machine, run

    OMP_NUM_THREADS=1 python -m experiments.benchmarks            # all of it
    OMP_NUM_THREADS=1 python -m experiments.benchmarks --quick    # a minute or two, smaller sizes
    OMP_NUM_THREADS=1 python -m experiments.benchmarks --official DIR

The variants in a comparison take turns in one process, with the same weights and inputs. A
different one goes first in each round. Times are medians. "Times as fast" is the median over rounds
of the ratio to the reference variant in the same round, in CPU time and in wall-clock time. CPU
time depends little on what else the machine does. Only ratios carry over to another machine."""

_FORMS = """The variants are:

- *plain*: the approach of the official AdaptIS code, written with this library's blocks
  (`experiments/benchmarks/plain.py`): nothing is hybridized, points are processed one after
  another, and features are repeated for every point. It is not the official program.
- *imperative*, *hybridized*: the same network, run operator by operator, or as a graph.
- *ONNX Runtime*: the exported network.
- *official*: the official program itself, in a separate process."""

_RECORDS = """Each record is a separate run, at the commit and on the machine that it names. Compare
figures only within a table."""

_KERNELS = """The kernels that oneDNN uses, from its log of one more call: primitives,
implementations, and their shares of the wall-clock time within oneDNN. Logging makes a call slower,
and on a busy machine the shares are rough. Operators that MXNet computes itself are not included.
ONNX Runtime does not use oneDNN."""


def render(record: Mapping[str, Any], subjects: Mapping[str, ModuleType]) -> str:
    """Return the page of a record in Markdown; ``subjects`` are listed with their commands."""
    parts = [_HEAD, '\n'.join(_warnings(record)), table(('of the run', ''), _machine(record)),
             _FORMS]
    for subject in dict.fromkeys(row['subject'] for row in record['rows'].values()):
        rows = {name: row for name, row in record['rows'].items() if row['subject'] == subject}
        parts += [f'## {subject}', _table(rows), '\n'.join(_remarks(rows, record))]
    parts += ['## Kernels', _kernels(record), '## Against the official programs',
              _official(record), '## Subjects', _subjects(subjects), _absent(record, subjects),
              '## Records of subjects', _RECORDS, earlier.section()]
    return '\n\n'.join(filter(None, parts)) + '\n'


def text(name: str, row: Row) -> str:
    """Return a row for the terminal."""
    if 'not measured' in row:
        return f'{name}: not measured. {row["not measured"]}'
    lines = [f'{name} ({row["config"]}; {row["rounds"]} rounds)']
    width = max(map(len, row['forms'])) + 4
    heads = ('clock', 'CPU', 'x (CPU)', 'x (clock)', 'fastest', 'slowest')
    for form, cells in ('', heads), *((form, _figures(f)) for form, f in row['forms'].items()):
        lines.append(f'    {form:{width}}' + ''.join(f'{cell:>11}' for cell in cells))
    lines += [f'    {form}: {why}' for form, why in row['left out'].items()]
    lines += [f'    {MARK} {complaint}' for complaint in row['complaints']]
    return '\n'.join(lines)


def facts(record: Mapping[str, Any]) -> str:
    """Return what a run depends on, for the terminal: the machine, and each variant's kernels."""
    kernels = [(f'{name}, {form}', used) for name, form, _, used in _kernel_lines(record)]
    lines = [*_machine(record), *kernels, *(('', line) for line in _warnings(record))]
    return '\n'.join(': '.join(filter(None, line)).replace('*', '').strip() for line in lines)


def _warnings(record: Mapping[str, Any]) -> Iterator[str]:
    if record['quick']:
        yield ('**This is a quick run** (`--quick`), with smaller sizes and fewer rounds than a '
               'full run.\n')
    if record.get('only'):
        yield f'**Only a part was measured**: `--only {" ".join(map(repr, record["only"]))}`.\n'
    if record.get('interrupted'):
        yield '**This run was interrupted**: some rows and kernels are missing.\n'
    cores = record['conditions']['cores to run on']
    busy = load_complaint(record['conditions']['load before'], cores)
    if busy:
        yield f'**{busy}**\n'
    marked = [name for name, row in record['rows'].items() if row.get('complaints')]
    if marked:
        yield (f'**{len(marked)} of {len(record["rows"])} rows were disturbed** and are marked '
               f'{MARK}: use only their ratios of CPU time, or repeat them on an idle machine.')


def _machine(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    hardware, given, facts = record['hardware'], record['conditions'], record['processor']
    versions = ', '.join(f'{name} {version}' for name, version in record['versions'].items())
    lines = [('processor', f'{hardware["cpu"]}, {hardware["cores"]} cores, '
              f'{hardware["memory_gib"]} GiB'),
             ('instructions that oneDNN uses', facts.get('isa', 'unknown')),
             ('oneDNN', facts.get('oneDNN', 'unknown')),
             ('threads (`OMP_NUM_THREADS`)', given['threads']),
             ('cores to run on', str(given['cores to run on'])),
             ('load before and after', f'{given["load before"]:g}, {given["load after"]:g}'),
             ('date', record['date']), ('commit', f'{record["commit"]}'), ('versions', versions)]
    if given.get('note'):
        lines.append(('note', given['note']))
    return lines


def _table(rows: Mapping[str, Row]) -> str:
    lines = [[name if first else '', form, *_figures(figures), MARK if row['complaints'] else '']
             for name, row in rows.items() if 'forms' in row
             for first, (form, figures) in zip((True, *[False] * len(row['forms'])),
                                               row['forms'].items())]
    if not lines:
        return ''
    return table(('comparison', 'variant', 'clock', 'CPU', 'times as fast, CPU',
                  'times as fast, clock', 'fastest', 'slowest', ''), lines)


def _figures(figures: Mapping[str, Any]) -> list[str]:
    return [seconds(figures['clock, s']), seconds(figures['CPU, s']),
            _ratio(figures['times as fast, cpu']), _ratio(figures['times as fast, clock']),
            seconds(figures['fastest, s']), seconds(figures['slowest, s'])]


def _ratio(value: Optional[float]) -> str:
    return '-' if value is None else f'{value:.2f}'


def _remarks(rows: Mapping[str, Row], record: Mapping[str, Any]) -> Iterator[str]:
    """Yield the remarks below the figures: configs, seeds, rounds, and what went wrong."""
    for name, row in rows.items():
        if 'not measured' in row:
            yield f'- {name}: {row["config"]}. Not measured: {row["not measured"]}'
            continue
        yield (f'- {name}: {row["config"]}; seed {row["seed"]}, {row["rounds"]} rounds, against '
               f'*{row["against"]}*.' + ''.join(f' No *{form}*: {why}'
                                               for form, why in row['left out'].items())
               + (f' {MARK} {"; ".join(row["complaints"])}.' if row['complaints'] else ''))
    yield (f'- Commit {short_commit(record["commit"], 10)}, {record["hardware"]["cpu"]}, '
           f'OMP_NUM_THREADS={record["conditions"]["threads"]}.')


def _kernels(record: Mapping[str, Any]) -> str:
    lines = list(_kernel_lines(record))
    if not lines:
        return 'oneDNN has logged nothing.'
    return f'{_KERNELS}\n\n{table(("comparison", "variant", "in oneDNN", "kernels"), lines)}'


def _kernel_lines(record: Mapping[str, Any]) -> Iterator[list[str]]:
    for name, row in record['rows'].items():
        for form, figures in row.get('forms', {}).items():
            if figures.get('kernels', {}).get('kernels'):
                yield [name, form, seconds(figures['kernels']['seconds']),
                       describe(figures['kernels'])]


def _official(record: Mapping[str, Any]) -> str:
    measured = [name for name, row in record['rows'].items() if 'official' in row.get('forms', {})]
    said = (f'This run timed official programs in {", ".join(measured)}.' if measured
            else 'This run did not time official programs.')
    return f'{said} {SETUP}'


def _subjects(subjects: Mapping[str, ModuleType]) -> str:
    lines = [[f'`python -m experiments.benchmarks {name}`',
              (module.__doc__ or '').splitlines()[0],
              'yes' if getattr(module, 'COMPARISONS', ()) else '']
             for name, module in subjects.items()]
    return ('Each subject is a separate command with more figures; see its `--help`.\n\n'
            + table(('command', 'what it measures', 'part of the run without a subject'), lines))


def _absent(record: Mapping[str, Any], subjects: Mapping[str, ModuleType]) -> str:
    names = [comparison.name for module in subjects.values()
             for comparison in getattr(module, 'COMPARISONS', ())
             if comparison.name not in record['rows']]
    return f'The run on this page does not include these rows: {"; ".join(names)}.' if names else ''
