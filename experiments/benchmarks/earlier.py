"""Tables of the records in ``experiments/logs``, for the benchmark page."""
from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Callable, NamedTuple

from adaptis.evaluation.record import short_commit
from experiments.benchmarks.markdown import seconds, table

LOGS = Path(__file__).resolve().parents[1] / 'logs'

Results = Mapping[str, Any]


class Earlier(NamedTuple):
    """A record: its heading, the command, its file, and a function that makes its table."""

    title: str
    command: str
    file: str
    table: Callable[[Results], str]


def section(folder: Path = LOGS) -> str:
    """Return the tables of all records, each with its conditions, and say which are missing."""
    there = [each for each in EARLIER if (folder / each.file).is_file()]
    parts = [part for each in there for part in _parts(each, folder)]
    missing = [f'- {each.title}: `python -m experiments.benchmarks {each.command} --out '
               f'experiments/logs/{each.file}`' for each in EARLIER if each not in there]
    if missing:
        parts += ['These subjects have no record yet. Each command writes one, and the page of the '
                  'next run shows it:', '\n'.join(missing)]
    return '\n\n'.join(parts)


def cost_table(results: Results) -> str:
    """Return a row for each network: hybridized, imperative in brackets."""
    rows, lines = results['cost'], []
    for name, row in rows.items():
        network, _, form = name.rpartition(' ')
        if form == 'hybridized' and f'{network} imperative' in rows:
            plain = rows[f'{network} imperative']
            lines.append([network, f'{row["parameters, M"]:.1f} M', *(cell for what in (
                'features', 'a point') for cell in (
                f'{row[f"{what}, G multiply-adds"]:.4g} G',
                f'{seconds(row[f"{what}, s"])} ({seconds(plain[f"{what}, s"])})')),
                f'{row["peak, MiB"]:.0f} MiB'])
    wholes = [[name, '', '', seconds(row['whole, s']), '', '', f'{row["peak, MiB"]:.0f} MiB']
              for name, row in rows.items() if 'whole, s' in row]
    return table(['network and size', 'parameters', 'features, multiply-adds', 'time',
                  'a point, multiply-adds', 'time', 'peak'], [*lines, *wholes])


def ports_table(results: Results) -> str:
    """Return a row for each port: hybridized, imperative in brackets."""
    found = results['detector']
    cases = [re.fullmatch(r'(\S+) at (\S+), hybridized, s', name) for name in found]
    ports, sizes = (list(dict.fromkeys(case[i] for case in cases if case)) for i in (1, 2))
    return table(['port, 100 detections', *sizes], [[port, *(
        f'{seconds(found[f"{port} at {size}, hybridized, s"])} '
        f'({seconds(found[f"{port} at {size}, imperative, s"])})' for size in sizes)]
        for port in ports])


def forms_table(results: Results) -> str:
    """Return systems in rows and variants in columns: time, and peak memory in brackets."""
    found = results['forms']
    cases = [name[:-len(', s')].split(', ', 1) for name in found if name.endswith(', s')]
    systems, forms = (list(dict.fromkeys(column)) for column in zip(*cases))
    return table(['system', *forms], [[system, *(
        f'{seconds(found[f"{system}, {form}, s"])} ({found[f"{system}, {form}, peak MiB"]:.0f} MiB)'
        for form in forms)] for system in systems])


def unified_table(results: Results) -> str:
    """Return networks in rows, numbers of detections in columns, and the peak memory."""
    found = results['unified']
    cases = [name[:-len(', s')].split(', ', 1) for name in found if name.endswith(', s')]
    columns, networks = (list(dict.fromkeys(column)) for column in zip(*cases))
    return table(['network', *columns, 'peak'], [[network, *(
        seconds(found[f'{column}, {network}, s']) for column in columns),
        f'{found[f"{network}, MiB"]:.0f} MiB' if f'{network}, MiB' in found else '']
        for network in networks])


def loader_table(results: Results) -> str:
    """Return the figures in rows and the systems in columns."""
    return table(['figure', *results], [[figure, *(_value(figure, found[figure]) for found in
                                                   results.values())]
                                        for figure in next(iter(results.values()))])


def figures_table(results: Results) -> str:
    """Return the figures of each measure in rows."""
    return table(['measure', 'figure', 'value'], [
        [measure, figure.removesuffix(', s'), _value(figure, value)]
        for measure, found in results.items()
        for figure, value in found.items()])


def _value(figure: str, value: float) -> str:
    if figure.endswith(', share'):
        return f'{value:.0%}'
    if figure.endswith(', s'):
        return seconds(value)
    return f'{value:.4g}'


EARLIER = (
    Earlier('Cost at the sizes of photographs (imperative in brackets)', 'cost',
            'cost_one_core.json', cost_table),
    Earlier('The ports (imperative in brackets)', 'ports detector', 'benchmark_ports_one_core.json',
            ports_table),
    Earlier('Imperative, hybridized and exported networks (peak memory of the process in brackets)',
            'forms', 'benchmark_forms_one_core.json', forms_table),
    Earlier('The unified network and Panoptic FPN, by number of detections and image size',
            'unified', 'benchmark_unified_one_core.json', unified_table),
    Earlier("Where the time of the detectors' data workers goes", 'loader',
            'loader_one_core.json', loader_table),
    Earlier('What large data sets cost', 'size', 'size_one_core.json', figures_table),
    Earlier('A training step of the toy network', 'training_step', 'training_step_one_core.json',
            figures_table))


def _parts(each: Earlier, folder: Path) -> Iterator[str]:
    record = json.loads((folder / each.file).read_text(encoding='utf-8'))
    given = record['conditions']
    yield f'### {each.title}'
    yield (f'`python -m experiments.benchmarks {each.command}`, `experiments/logs/{each.file}`: '
           f'commit {short_commit(record["commit"], 10)}, {record["hardware"]["cpu"]}, '
           f'{given["threads"]} thread, load {given["load before"]:g} before'
           + (f'; {given["note"]}.' if given.get('note') else '.'))
    yield each.table(record['results'])
