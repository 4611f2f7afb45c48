"""Measure time and memory.

    python -m experiments.benchmarks [--quick] [--official DIR]
    python -m experiments.benchmarks SUBJECT [--out FILE]
    python -m experiments.benchmarks SUBJECT --help

Without a subject, one run measures all comparisons and writes a record and ``docs/benchmarks.md``.
Each subject is a file in this folder.  The documentation names the subject of each figure, and
``experiments/logs/`` stores the figures as JSON.  Only ratios carry over to another machine.
"""
from __future__ import annotations

import argparse
import concurrent.futures.process
import sys
from collections.abc import Sequence
from typing import Optional

from adaptis.errors import AdaptisError
from experiments.benchmarks import everything
from experiments.benchmarks.subjects import SUBJECTS


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run one subject, or everything if none is given.

    Returns 0 when done, 1 after an error message, 130 after Ctrl-C.
    """
    args = make_parser().parse_args(arguments)
    name = args.subject or 'benchmarks'
    try:
        (SUBJECTS[args.subject] if args.subject else everything).run(args)
    except (AdaptisError, concurrent.futures.process.BrokenProcessPool) as error:
        print(f'{name}: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f'{name}: interrupted.', file=sys.stderr)
        return 130
    return 0


def make_parser() -> argparse.ArgumentParser:
    """Return the parser for all subjects; each declares its own options."""
    parser = argparse.ArgumentParser(prog='python -m experiments.benchmarks',
                                     description=__doc__.splitlines()[0])
    everything.add_arguments(parser)
    subjects = parser.add_subparsers(dest='subject', metavar='SUBJECT',
                                     help='default: all comparisons')
    for name, module in SUBJECTS.items():
        sentence = module.__doc__.splitlines()[0]
        module.add_arguments(subjects.add_parser(name, help=sentence, description=sentence))
    return parser


if __name__ == '__main__':
    sys.exit(main())
