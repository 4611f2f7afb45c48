"""``adaptis models``: the networks of all systems."""
from __future__ import annotations

import argparse
import inspect
from fnmatch import fnmatchcase
from typing import Optional

from adaptis.errors import AdaptisError
from adaptis.registry import families, find_family, import_object

HELP = 'List the networks of all five systems, or the options of one.'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument('name', nargs='?', default='*', metavar='NAME',
                        help='a network, whose options are printed, or a pattern such as '
                             '"condinst*"')


def run(args: argparse.Namespace) -> int:
    """Print the networks; AdaptisError if no name matches."""
    lines = _listing(args.name)
    if not lines:
        raise AdaptisError(f'There is no network "{args.name}": "adaptis models" lists them all.')
    if _is_name(args.name):
        lines += _options(args.name)
    print(*lines, sep='\n')
    return 0


def _is_name(name: str) -> bool:
    return any(name in family.models for family in families())


def _listing(pattern: str) -> list[str]:
    """One heading for each family, followed by the names that match."""
    lines = []
    for family in families():
        names = [name for name in family.models if fnmatchcase(name, pattern)]
        if names:
            lines += [f'{family.paper}', *(f'  {name}{_weights(family.weights.get(name))}'
                                           for name in names)]
    return lines


def _weights(shipped: Optional[str]) -> str:
    return f'   (included weights: {shipped})' if shipped else ''


def _options(name: str) -> list[str]:
    """The constructor's arguments, and where they are documented."""
    path = find_family(name).models[name]
    signature = inspect.signature(import_object(path))   # loads MXNet
    options = [f'  {parameter}' for parameter in signature.parameters.values()]
    return ['', f'options, documented in {path.replace(":", ".")}:', *options]
