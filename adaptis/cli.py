"""The ``adaptis`` command."""
from __future__ import annotations

import argparse
import importlib
import sys
from typing import List, Optional

from adaptis.errors import AdaptisError

COMMANDS = ('doctor', 'toy', 'train', 'evaluate', 'predict', 'table', 'convert')


def main(argv: Optional[List[str]] = None) -> int:
    """Run one subcommand; returns its exit status."""
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(prog='adaptis', description='AdaptIS in MXNet Gluon.')
    parser.add_argument('command', choices=COMMANDS)
    name = parser.parse_args(argv[:1]).command
    command = importlib.import_module(f'adaptis.commands.{name}')
    subparser = argparse.ArgumentParser(prog=f'adaptis {name}', description=command.HELP)
    command.add_arguments(subparser)
    try:
        return command.run(subparser.parse_args(argv[1:]))
    except AdaptisError as error:
        print(f'adaptis {name}: {error}', file=sys.stderr)
        return 1


if __name__ == '__main__':
    sys.exit(main())
