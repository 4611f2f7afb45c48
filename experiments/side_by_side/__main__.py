"""Train the five systems on street scenes, evaluate them, and write their results.

    python -m experiments.side_by_side [SYSTEM ...]
    python -m experiments.side_by_side --time-again [SYSTEM ...]

You can stop the command with Ctrl-C; the same command continues it.  Finished results are kept:
delete a result to repeat it.
"""
from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Optional

from adaptis.config import load_config
from adaptis.errors import AdaptisError
from adaptis.machine import usable_cores
from adaptis.runtime import context_name, get_context
from experiments.side_by_side.run import (
    FOLDER,
    RESULTS,
    SYSTEMS,
    Stopped,
    draw,
    run,
    time_again,
)


def main(arguments: Optional[list[str]] = None) -> int:
    """Run the comparison; returns 0, 1 after an error message, or 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(prog='python -m experiments.side_by_side',
                                     description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('systems', nargs='*', metavar='SYSTEM',
                        help=f'one or more of {", ".join(SYSTEMS)} (default: all)')
    parser.add_argument('--out', type=Path, default=Path('runs/side_by_side'),
                        help='folder for the training runs (default: %(default)s)')
    parser.add_argument('--results', type=Path, default=RESULTS,
                        help='folder for the results (default: beside the configs)')
    parser.add_argument('--time-again', action='store_true',
                        help='only measure the cost of trained systems again')
    parser.add_argument('--workers', type=int, default=usable_cores(),
                        help='number of processes that draw the scenes')
    parser.add_argument('--ctx', default='auto',
                        help='the one device that trains and is timed: cpu, gpu, gpu:1 (default: '
                             'the first GPU, or the CPU if there is none)')
    parser.add_argument('--set', action='append', default=[], metavar='KEY=VALUE',
                        help='override a key of all configs, e.g. joint.steps=10')
    args = parser.parse_args(arguments)
    unknown = sorted(set(args.systems) - set(SYSTEMS))
    if unknown:
        parser.error(f'there is no system {unknown[0]}: choose from {", ".join(SYSTEMS)}')
    try:
        ctx = context_name(get_context(args.ctx))
        data = [text for text in args.set if text.startswith('data.')]   # for all systems alike
        draw(load_config(FOLDER / f'{SYSTEMS[0]}.yaml', data), args.workers)
        for system in args.systems or SYSTEMS:
            if args.time_again:
                print(f'{system}: {time_again(system, args.out, args.results, ctx)}')
            else:
                print(f'{system}: {run(system, args.out, args.results, args.set, ctx)}')
    except AdaptisError as error:
        print(f'side_by_side: {error}', file=sys.stderr)
        return 1
    except Stopped as stopped:
        return stopped.status
    except KeyboardInterrupt:
        print('side_by_side: interrupted; the same command continues.', file=sys.stderr)
        return 130
    return 0


if __name__ == '__main__':
    sys.exit(main())
