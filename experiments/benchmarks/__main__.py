"""Measure how long things take, and how much memory.

    python -m experiments.benchmarks SUBJECT [--out FILE]
    python -m experiments.benchmarks SUBJECT --help

Each subject is a file of this folder.  The figures of the documentation name the subject they come
from, and ``experiments/logs/`` keeps them as JSON; only ratios carry over to another machine.
"""
from __future__ import annotations

import argparse
import concurrent.futures.process
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Optional

from adaptis.errors import AdaptisError
from experiments.benchmarks import (
    affinity_memory,
    clicks,
    cost,
    dense_detections,
    forms,
    memory,
    onnx_devices,
    ports,
    quantization,
    speed,
    training_step,
    unified,
    web_page,
)

SUBJECTS: dict[str, ModuleType] = {
    'speed': speed, 'training_step': training_step, 'cost': cost, 'ports': ports,
    'dense_detections': dense_detections,
    'unified': unified, 'affinity_memory': affinity_memory, 'forms': forms,
    'quantization': quantization, 'clicks': clicks, 'onnx_devices': onnx_devices,
    'web_page': web_page, 'memory': memory}


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run one subject: 0 when done, 1 and a sentence if something is wrong, 130 after Ctrl-C."""
    args = make_parser().parse_args(arguments)
    try:
        SUBJECTS[args.subject].run(args)
    except (AdaptisError, concurrent.futures.process.BrokenProcessPool) as error:
        print(f'{args.subject}: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f'{args.subject}: interrupted.', file=sys.stderr)
        return 130
    return 0


def make_parser() -> argparse.ArgumentParser:
    """The parser of all subjects; each declares its own options."""
    parser = argparse.ArgumentParser(prog='python -m experiments.benchmarks',
                                     description=__doc__.splitlines()[0])
    subjects = parser.add_subparsers(dest='subject', metavar='SUBJECT', required=True)
    for name, module in SUBJECTS.items():
        sentence = module.__doc__.splitlines()[0]
        module.add_arguments(subjects.add_parser(name, help=sentence, description=sentence))
    return parser


if __name__ == '__main__':
    sys.exit(main())
