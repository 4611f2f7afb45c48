"""The machines for training: a file with one name per line."""
from __future__ import annotations

import os
import re
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from adaptis.errors import AdaptisError

_NAME = re.compile(r'[\w.@%:\[\]-]+$')


class Place(NamedTuple):
    """The machine of one process, and how many workers the machine has."""

    host: str
    workers: int


def read_hosts(path: Path) -> list[str]:
    """Return the hosts in a file: one per line, as for ssh; ``#`` starts a comment.

    Raises AdaptisError if the file is missing, names no host, or names one twice.
    """
    try:
        text = path.read_text(encoding='utf-8')
    except (OSError, ValueError) as error:
        reason = getattr(error, 'strerror', None) or 'it is not text'
        raise AdaptisError(f'--hosts {path} cannot be read: {reason}.') from error
    hosts = [line.partition('#')[0].strip() for line in text.splitlines()]
    hosts = [host for host in hosts if host]
    if not hosts:
        raise AdaptisError(f'--hosts {path} names no machine: write one per line.')
    for host in hosts:
        if not _NAME.match(host) or host.startswith('-'):
            raise AdaptisError(f'--hosts {path}: "{host}" is not the name of a machine: write one '
                               'per line, such as node1 or user@node1.')
        if hosts.count(host) > 1:
            raise AdaptisError(f'--hosts {path} names {host} twice: name it once, and set the '
                               'total number of workers with -n.')
    return hosts


def is_here(host: str) -> bool:
    """Return whether a host is a usual name of this machine, which needs no ssh."""
    return host in ('localhost', '127.0.0.1', socket.gethostname(), os.uname().nodename)


def share_workers(hosts: Sequence[str], count: int) -> list[Place]:
    """Return the place of each worker, divided evenly with any remainder on the first hosts.

    Raises AdaptisError if there are fewer workers than hosts.
    """
    if count < len(hosts):
        raise AdaptisError(f'-n {count} is less than the {len(hosts)} machines, which need at '
                           'least one worker each: increase it, or remove machines from the file.')
    each, more = divmod(count, len(hosts))
    return [Place(host, each + (i < more)) for i, host in enumerate(hosts)
            for _ in range(each + (i < more))]


def share_servers(places: Sequence[Place], count: int) -> list[Place]:
    """Return the place of each server, one host after the other."""
    hosts = list(dict.fromkeys(places))
    return [hosts[i % len(hosts)] for i in range(count)]
