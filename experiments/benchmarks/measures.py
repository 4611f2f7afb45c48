"""Run measurements, print the figures, and store them as a record."""
from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Callable

from adaptis.evaluation.record import provenance, write_record
from experiments.benchmarks.process import alone, peak_mib

Measure = Callable[..., dict[str, Any]]
Size = tuple[int, int]
"""Height and width in pixels."""


def add_record_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare ``--out`` and ``--note``."""
    parser.add_argument('--out', type=Path, metavar='FILE', help='also write the figures as JSON')
    parser.add_argument('--note', help='stored in the JSON, for instance what else was running')


def one_of(what: str, names: Collection[str]) -> Callable[[str], str]:
    """Return an argparse type that accepts only these names."""
    def known(text: str) -> str:
        if text not in names:
            raise argparse.ArgumentTypeError(f'there is no {what} {text}: choose one of '
                                             f'{", ".join(names)}')
        return text
    return known


def add_measure_arguments(parser: argparse.ArgumentParser,
                          measures: Mapping[str, Measure]) -> None:
    """Declare the argument ``measures``, and those of ``add_record_arguments``."""
    parser.add_argument('measures', nargs='*', metavar='MEASURE', type=one_of('measure', measures),
                        help=f'one or more of {", ".join(measures)}; default: all')
    add_record_arguments(parser)


def run_measures(measures: Mapping[str, Measure], args: argparse.Namespace,
                 *arguments: Any, **more: Any) -> None:
    """Run the requested measurements, print each, and write the record of ``--out``.

    Each runs in its own process, so that it has its own peak of memory.  ``arguments`` are passed
    to every measurement; ``more`` is stored in the record.  Raises BrokenProcessPool if such a
    process dies, perhaps because of too little memory.
    """
    before, results = conditions(), {}
    for name in getattr(args, 'measures', None) or measures:
        results[name] = alone(_measure, measures[name], *arguments)
        _show(name, measures[name], results[name])
    keep_record(args, results, before, **more)


def keep_record(args: argparse.Namespace, results: Mapping[str, Any], before: Mapping[str, Any],
                **more: Any) -> None:
    """Write results to ``--out``, with the ``conditions`` before the measurements.

    Raises AdaptisError if the file cannot be written.
    """
    if args.out:
        write_record(args.out, {
            **more, 'results': results, **provenance(),
            'conditions': {**before, 'load after': load(), 'note': args.note}})


def conditions() -> dict[str, Any]:
    """Return what times depend on apart from the hardware."""
    return {'threads': os.environ.get('OMP_NUM_THREADS', 'default'),
            'cores to run on': len(os.sched_getaffinity(0)),
            'load before': load()}


def load() -> float:
    """Return how many processes computed in the last minute, on all cores."""
    return round(os.getloadavg()[0], 2)


def parse_size(text: str) -> Size:
    """An argparse type for HEIGHTxWIDTH."""
    height, _, width = text.partition('x')
    if not (height.isdecimal() and width.isdecimal() and int(height) and int(width)):
        raise argparse.ArgumentTypeError(f'{text!r} is not HEIGHTxWIDTH, for example 512x1024')
    return int(height), int(width)


def _measure(measure: Measure, *arguments: Any) -> dict[str, Any]:
    result = measure(*arguments)
    ratio = {'ratio': result['plain'] / result['ours']} if 'plain' in result else {}
    return {**result, **ratio, 'peak memory, MiB': round(peak_mib())}


def _show(name: str, measure: Measure, result: Mapping[str, Any]) -> None:
    print(f'{name}: {(measure.__doc__ or "").splitlines()[0]}')
    for key, value in result.items():
        text = f'{1e3 * value:.1f} ms' if key in ('plain', 'ours') else f'{value:.4g}'
        print(f'    {key:50} {text}')
    sys.stdout.flush()
