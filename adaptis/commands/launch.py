"""``adaptis launch``: train in several processes, here or on several machines."""
from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from adaptis.errors import AdaptisError
from adaptis.launch.hosts import Place, read_hosts, share_workers
from adaptis.launch.launcher import Cluster
from adaptis.launch.member import Shell

HELP = 'Train in several processes, here or by ssh on several machines. Ctrl-C stops all of them.'
SSH = ('ssh -o BatchMode=yes -o ConnectTimeout=10 -o ServerAliveInterval=5 '
       '-o ServerAliveCountMax=3')
_KVSTORES = ('dist_sync', 'dist_device_sync')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument('--hosts', type=Path, metavar='FILE',
                        help='file with the names of the machines for ssh, one per line (default: '
                             'only this machine)')
    parser.add_argument('-n', '--workers', type=int, metavar='N',
                        help='number of processes that train (default: one per machine)')
    parser.add_argument('-s', '--servers', type=int, metavar='N',
                        help='number of processes that sum the gradients (default: one per '
                             'machine)')
    parser.add_argument('--address', help='address under which the other machines reach this one '
                                          '(default: the one that they see)')
    parser.add_argument('--port', type=int,
                        help='port on this machine at which all processes meet (default: any free '
                             'port)')
    parser.add_argument('--python', metavar='PATH', default=sys.executable,
                        help='path of Python on the other machines (default: the same path as '
                             'here)')
    parser.add_argument('--ssh', metavar='COMMAND', default=SSH,
                        help=f'command that runs another command on a machine (default: {SSH})')
    parser.add_argument('train', nargs=argparse.REMAINDER,
                        help='"train" and its arguments, e.g. train experiments/toy_v1_cpu.yaml')


def run(args: argparse.Namespace) -> int:
    """Start all processes and wait; return their exit status."""
    if args.train[:1] != ['train'] or len(args.train) < 2:
        raise AdaptisError('Write "train CONFIG" after the options, because only training uses '
                           'several machines.')
    for name in ('servers', 'port'):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise AdaptisError(f'--{name} must be at least 1, but is {value}.')
    command = ['-m', 'adaptis', *args.train, *_kvstore(args.train),
               *(['--quiet'] if args.quiet else [])]
    return Cluster(command, _places(args), Shell(shlex.split(args.ssh), args.python), args.servers,
                   args.address, args.port).run()


def _places(args: argparse.Namespace) -> list[Place]:
    if args.hosts is None and args.workers is None:
        raise AdaptisError('Give the number of processes on this machine with -n, or name several '
                           'machines with --hosts.')
    hosts = ['localhost'] if args.hosts is None else read_hosts(args.hosts)
    return share_workers(hosts, len(hosts) if args.workers is None else args.workers)


def _kvstore(words: list[str]) -> list[str]:
    """Return the option to add to the arguments; AdaptisError if they choose an unsuitable one."""
    given = [word.partition('=')[2] or following for word, following in zip(words, [*words[1:], ''])
             if word.partition('=')[0] == '--kvstore']
    if not given:
        return ['--kvstore', _KVSTORES[0]]
    if given[-1] not in _KVSTORES:
        raise AdaptisError(f'--kvstore {given[-1]} is for a single process: choose '
                           f'{" or ".join(_KVSTORES)}.')
    return []
