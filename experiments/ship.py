"""Copy a trained network into the package: in half precision, with a record of its training.

    python -m experiments.ship CHECKPOINT --log LOG.jsonl --command "adaptis train ..."

CHECKPOINT is a .params file of ``adaptis train``.  LOG.jsonl is the log of that run, which records
the commits and the machine of the training.  The log is stored as
``experiments/logs/<name>.jsonl``.  If the training continued from a network that ships
(``initial_weights`` of its config, or --continued), the new record includes the record of that
one.  --to decides where the file goes: one in the package must stay below 12 MB; larger ones
belong into ``experiments/pretrained`` and are listed in ``adaptis/weights.py``.
"""
from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional

from adaptis.errors import AdaptisError
from adaptis.files import atomic_write
from adaptis.inference.likeness import KEY as IMAGES
from adaptis.weights import FETCHED, PACKAGE, PRETRAINED, weights_file
from experiments.training_logs import LOGS, read_log

ROOT = Path(__file__).parents[1]
MOST_BYTES = 12_000_000
STORED_AS = 'float16'
SHIPPED = (*PRETRAINED, *FETCHED)


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Write the files; return the exit status."""
    parser = argparse.ArgumentParser(prog='python -m experiments.ship',
                                     description=__doc__.partition('\n')[0])
    parser.add_argument('checkpoint', type=Path)
    parser.add_argument('--log', type=Path, required=True)
    parser.add_argument('--command', required=True, help='the command line of the training')
    parser.add_argument('--name', default='toy_v1_long', help='name of the stored log')
    parser.add_argument('--to', type=Path, default=PRETRAINED['toy_v1'])
    parser.add_argument('--logs', type=Path, default=LOGS)
    parser.add_argument('--continued', choices=SHIPPED, metavar='NAME',
                        help='the network that ships and that the training continued from '
                             '(default: that of its config)')
    args = parser.parse_args(argv)
    try:
        ship(args.checkpoint, args.log, args.to, args.logs / f'{args.name}.jsonl', args.command,
             args.continued)
    except AdaptisError as error:
        print(f'Error: {error}', file=sys.stderr)
        return 1
    return 0


def ship(checkpoint: Path, log: Path, target: Path, kept: Path, command: str,
         continued: Optional[str] = None) -> None:
    """Write ``target``, its JSON sidecar, and the log to ``kept``.

    Raises AdaptisError if the checkpoint or its log is broken, or the file would be too large.
    """
    from adaptis.model.zoo import load_model, read_info, save_model  # loads MXNet
    starts = _read_starts(log)
    info, net = read_info(checkpoint), load_model(checkpoint)
    size = 2 * sum(p.data().size for p in net.collect_params().values())
    if size > MOST_BYTES and PACKAGE in target.resolve().parents:
        raise AdaptisError(f'{checkpoint} takes {size:,} bytes in {STORED_AS}; a network in the '
                           f'package must stay below {MOST_BYTES:,}.')
    with atomic_write(kept) as temporary:
        shutil.copyfile(log, temporary)
    relative = kept.relative_to(ROOT) if kept.is_relative_to(ROOT) else kept
    trained = {'command': command, 'log': str(relative),
               'commits': list(dict.fromkeys(str(start['commit']) for start in starts)),
               'hardware': starts[-1]['hardware'], 'versions': starts[-1]['versions'],
               'stored_as': STORED_AS}
    initial = continued or (info.get('config') or {}).get('initial_weights')
    if initial in SHIPPED:
        trained['from'] = read_info(weights_file(initial)).get('trained')
    save_model(net, target, {'config': info.get('config'), 'trained': trained,
                             **{key: info[key] for key in (IMAGES,) if key in info}}, STORED_AS)


def _read_starts(path: Path) -> list[dict[str, Any]]:
    """Return a log's records of starts; there must be at least one."""
    starts = [record for record in read_log(path) if record['kind'] == 'start']
    if not starts:
        raise AdaptisError(f'{path} is not a log of "adaptis train": it has no record of a start.')
    return starts


if __name__ == '__main__':
    sys.exit(main())
