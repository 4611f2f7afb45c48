"""Options for where to compute: one process, several on this machine, or a Ray cluster."""
from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, Callable, TypeVar, Union

from adaptis.errors import AdaptisError
from adaptis.evaluation.parallel import parallel_map
from adaptis.evaluation.ray_workers import LOCAL, RayWorkers, check_address, import_ray

Item = TypeVar('Item')
Result = TypeVar('Result')


class LocalWorkers:
    """Processes on this machine; with one, everything runs in this process."""

    def __init__(self, processes: int = 1):
        self.count = processes

    def chunks(self, images: Sequence[Item]) -> list[Sequence[Item]]:
        """Divide the images into chunks of one, because all processes are on this machine."""
        return [images[k:k + 1] for k in range(len(images))]

    def map(self, function: Callable[[Item], Result], items: Sequence[Item],
            name: Callable[[Item], str] = str) -> Iterator[Result]:
        """Yield ``map(function, items)``, in order; see ``RayWorkers.map``."""
        return parallel_map(function, items, self.count)


Workers = Union[LocalWorkers, RayWorkers]


def add_worker_options(group: Any) -> None:
    """Add ``--processes`` and ``--ray``; ``group`` is a parser or an argument group."""
    group.add_argument('--processes', '--workers', type=int, metavar='N',
                       help='number of single-threaded processes that share the images; the result '
                            'does not depend on it (default: 1; with --ray, one per GPU or core)')
    group.add_argument('--ray', nargs='?', const=LOCAL, metavar='ADDRESS',
                       help='share the images among the nodes of the Ray cluster at HOST:PORT, or '
                            'of the one that runs on this machine (auto); without ADDRESS, among '
                            'the cores of this machine')


def check_worker_options(args: argparse.Namespace) -> None:
    """Raise AdaptisError if --processes is below 1 or Ray cannot be used."""
    if args.processes is not None and args.processes < 1:
        raise AdaptisError('--processes must be at least 1.')
    if args.ray is not None:   # check now, before a network is loaded
        check_address(args.ray)
        import_ray(args.ray)


@contextlib.contextmanager
def open_workers(args: argparse.Namespace) -> Iterator[Workers]:
    """Yield the workers that the arguments ask for.

    Raises AdaptisError if the Ray cluster cannot be found.
    """
    if args.ray is None:
        yield LocalWorkers(args.processes or 1)
        return
    with RayWorkers(args.ray, args.ctx, args.processes) as workers:
        yield workers
