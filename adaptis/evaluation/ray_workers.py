"""Run one function on chunks of images in the actors of a Ray cluster, in order.

Ray only starts the actors, one for each core or GPU.  This process distributes the chunks, only a
few ahead of the first unfinished one, so that its memory does not grow with the number of images.
If an actor dies, another one repeats its work.
"""
from __future__ import annotations

import contextlib
import functools
import heapq
import importlib.metadata
import logging
import os
import platform
import secrets
import shutil
import socket
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Callable, NamedTuple, Optional, TypeVar

from adaptis import __version__
from adaptis.errors import AdaptisError
from adaptis.evaluation.parallel import ONE_THREAD
from adaptis.progress import write_line

Item = TypeVar('Item')
Result = TypeVar('Result')

LOCAL = 'local'
"""The address that stands for a temporary cluster, which ends with the command."""
ATTEMPTS = 3
"""How many actors may die while they compute one chunk."""

_LARGEST_CHUNK = 8      # images
_CHUNKS_PER_ACTOR = 8   # at least, so that all actors finish at about the same time
_QUEUED = 2             # chunks per actor: the next one is ready when one is done
_AHEAD = 4              # chunks per actor whose results are not yet yielded
_PATIENCE = 300.0       # seconds to wait for an actor, because clouds need minutes to start a node
_POLL = 1.0
_CONNECTING = 5.0
_SOCKETS = 70           # characters that Ray adds to its folder; the name of a socket has 107

# Versions that results depend on.
_PACKAGES = ('numpy', 'opencv-python-headless', 'mxnet', 'mxnet-cu112', 'onnxruntime',
             'onnxruntime-gpu')


class NodeInfo(NamedTuple):
    """The node that an actor runs on."""

    name: str
    versions: Mapping[str, str]

    @classmethod
    def here(cls) -> NodeInfo:
        """Describe this machine."""
        versions = {'adaptis': __version__}
        for package in _PACKAGES:
            with contextlib.suppress(importlib.metadata.PackageNotFoundError):
                versions[package] = importlib.metadata.version(package)
        return cls(platform.node(), versions)


class ImageActor:
    """A single-threaded process in the cluster, which keeps what it has loaded.

    Parameters
    ----------
    folder : working directory of the command; relative paths start there
    """

    def __init__(self, folder: str):
        os.environ.update(ONE_THREAD)   # before MXNet is loaded
        if os.path.isdir(folder):
            os.chdir(folder)

    def describe(self) -> NodeInfo:
        """Return where this actor runs."""
        return NodeInfo.here()

    def run(self, function: Callable[[Item], Result], item: Item) -> Result:
        """Call the function; an AdaptisError names the node."""
        try:
            return function(item)
        except AdaptisError as error:
            raise AdaptisError(f'On node {platform.node()}: {error}') from error


class RayWorkers:
    """A Ray cluster as workers; a context manager.

    Parameters
    ----------
    address : address of the cluster, such as ``10.0.0.1:6379``, or ``auto`` for the one that this
        machine belongs to; by default a temporary cluster on this machine only
    ctx : as for ``load_predictor``; if it allows GPUs and the cluster has GPUs, each actor gets one
    processes : number of actors; by default one for each GPU or core
    ray : the module ``ray``

    Raises
    ------
    AdaptisError
        If Ray is not installed, or the cluster cannot be reached or has other versions.
    """

    def __init__(self, address: str = LOCAL, ctx: str = 'auto', processes: Optional[int] = None,
                 ray: Optional[Any] = None):
        if ':' in ctx and not ctx.startswith('cpu'):
            raise AdaptisError('Ray assigns one GPU to each process: use --ctx gpu instead of '
                               f'{ctx}.')
        check_address(address)
        self._address, self._ctx, self._processes = address, ctx, processes
        self._ray = ray or import_ray(address)
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> RayWorkers:
        with self._stack:
            if self._address == LOCAL:
                self._stack.enter_context(_local_cluster(self._ray, self._processes))
            else:
                self._stack.enter_context(_connection(self._ray, self._address))
            self.options, self.count = self._resources()
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def chunks(self, images: Sequence[Item]) -> list[Sequence[Item]]:
        """Divide the images."""
        size = len(images) // (_CHUNKS_PER_ACTOR * self.count)
        size = max(1, min(size, _LARGEST_CHUNK))
        return [images[k:k + size] for k in range(0, len(images), size)]

    def map(self, function: Callable[[Item], Result], items: Sequence[Item],
            name: Callable[[Item], str] = str) -> Iterator[Result]:
        """Yield ``map(function, items)``, in order.

        Parameters
        ----------
        function : importable by name; loads what it needs on its first call
        items : chunks of images; they are pickled
        name : function that names the images of a chunk in an error message

        Raises
        ------
        AdaptisError
            If several actors died of one chunk, no actor can be started, or a node has other
            versions.  Exceptions of ``function`` are raised here.
        """
        actor = self._ray.remote(ImageActor).options(**self.options)
        start = functools.partial(actor.remote, os.getcwd())
        return _Run(self._ray, start, function, items, name, self.count).results()

    def _resources(self) -> tuple[dict[str, Any], int]:
        """Return the options of an actor, and the number of actors."""
        total = self._ray.cluster_resources()
        gpus = int(total.get('GPU', 0))
        on_gpu = self._ctx == 'gpu' or (self._ctx == 'auto' and gpus > 0)
        count = gpus if on_gpu else int(total.get('CPU', 0))
        if count < 1:
            raise AdaptisError(f'The Ray cluster has no {"GPU" if on_gpu else "core"}'
                               f'{": use --ctx cpu" if on_gpu else ""}.')
        options = {'num_cpus': 0 if on_gpu else 1, 'num_gpus': int(on_gpu), 'max_restarts': 0,
                   'max_task_retries': 0, 'scheduling_strategy': 'SPREAD'}
        return options, min(count, self._processes or count)


def check_address(address: str) -> None:
    """Raise AdaptisError if a text is not the address of a cluster."""
    host, _, port = address.rpartition(':')
    if address in (LOCAL, 'auto') or (host and port.isdecimal() and '/' not in host):
        return
    advice = ('run the command on a node of the cluster, with --ray auto'
              if address.startswith('ray:') else
              'write HOST:PORT or auto, or put --ray after the other arguments')
    raise AdaptisError(f'"{address}" is not the address of a Ray cluster: {advice}.')


def import_ray(address: str = LOCAL) -> Any:
    """Import Ray with settings for this address; AdaptisError if it is not installed.

    Unless the user's environment says otherwise, Ray sends no usage statistics, and a local cluster
    accepts only this command, with a token that is not stored in a file.
    """
    settings = {'RAY_USAGE_STATS_ENABLED': '0',
                'RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO': '0'}   # or Ray warns of a future change
    if address == LOCAL:
        settings.update(RAY_AUTH_MODE='token', RAY_AUTH_TOKEN=secrets.token_hex(32))
    else:   # otherwise Ray tries for minutes
        settings.update(RAY_NUM_REDIS_GET_RETRIES='1', RAY_py_gcs_connect_timeout_s='15')
    for name, value in settings.items():
        os.environ.setdefault(name, value)
    try:
        import ray  # optional
    except ImportError as error:
        raise AdaptisError('--ray needs Ray, which is not installed: python -m pip install ray.'
                           ) from error
    return ray


@contextlib.contextmanager
def _local_cluster(ray: Any, processes: Optional[int]) -> Iterator[None]:
    """Start a cluster on this machine, which leaves no files behind."""
    folder = Path(tempfile.mkdtemp(prefix='adaptis-ray-'))
    own = {'_temp_dir': str(folder)} if len(str(folder)) + _SOCKETS < 107 else {}
    try:
        try:
            with _quiet_stderr():   # "local" keeps Ray from joining an existing cluster
                ray.init(address='local', num_cpus=processes, include_dashboard=False, **own,
                         **_QUIET)
        except Exception as error:   # Ray raises many types
            raise AdaptisError(f'Ray could not be started on this machine: {_first_words(error)}.'
                               ) from error
        yield
    finally:
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _connection(ray: Any, address: str) -> Iterator[None]:
    """Connect to a cluster; AdaptisError if that is not possible."""
    if address != 'auto':
        host, _, port = address.rpartition(':')
        try:   # Ray itself would try for a minute
            socket.create_connection((host, int(port)), _CONNECTING).close()
        except OSError as error:
            raise AdaptisError(f'No Ray cluster answers at {address}: {error.strerror or error}.'
                               ) from error
    try:
        with _quiet_stderr():
            ray.init(address=address, **_QUIET)
    except Exception as error:   # Ray raises many types
        raise AdaptisError(_connection_sentence(address, error)) from error
    try:
        yield
    finally:
        ray.shutdown()


_QUIET = {'log_to_driver': False, 'logging_level': logging.CRITICAL}


@contextlib.contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Drop what Ray's own threads print at the start; its exceptions repeat all of it."""
    sys.stderr.flush()
    before = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)
        os.close(nowhere)


def _connection_sentence(address: str, error: Exception) -> str:
    if 'ersion mismatch' in str(error):
        return (f'The Ray cluster at {address} has another version of Ray or Python than this '
                f'command ({_first_words(error)}): install the same version on all nodes.')
    if address == 'auto':
        return ('No Ray cluster runs on this machine: start one with "ray start --head", or give '
                'the address of another one.')
    return (f'The Ray cluster at {address} does not accept this machine: run the command on one of '
            'its nodes, and set RAY_AUTH_MODE=token if the cluster asks for a token '
            f'({_first_words(error)}).')


def _first_words(error: Exception) -> str:
    """Return the first words of an error."""
    return ' '.join(str(error).split())[:300].rstrip('.')


class _Worker:
    """An actor and its tasks in order: a reference and the chunk number (None = start)."""

    def __init__(self, handle: Any):
        self.handle = handle
        self.node: Optional[str] = None   # known once it has started
        self.tasks: deque[tuple[Any, Optional[int]]] = deque([(handle.describe.remote(), None)])

    @property
    def chunks(self) -> list[int]:
        return [chunk for _, chunk in self.tasks if chunk is not None]


class _Run:
    """One call of :meth:`RayWorkers.map`."""

    def __init__(self, ray: Any, start: Callable[[], Any], function: Callable[[Item], Result],
                 items: Sequence[Item], name: Callable[[Item], str], count: int):
        self._ray, self._start_actor = ray, start
        self._function, self._items, self._name = function, items, name
        self._count = min(count, len(items))
        self._workers: list[_Worker] = []
        self._lost: list[int] = []            # chunks to compute again, a heap
        self._deaths: Counter[int] = Counter()
        self._failed_starts = 0               # in a row
        self._told: set[str] = set()          # nodes
        self._done: dict[int, Result] = {}
        self._handed_out = self._given_back = 0
        self._last_seen = time.monotonic()

    def results(self) -> Iterator[Result]:
        """Yield the results in order, and end all actors."""
        try:
            while len(self._workers) < self._count:
                self._start()
            while self._given_back < len(self._items):
                self._hand_out()
                self._collect()
                while self._given_back in self._done:
                    yield self._done.pop(self._given_back)
                    self._given_back += 1
        finally:
            for worker in self._workers:
                self._kill(worker)

    def _start(self) -> None:
        self._workers.append(_Worker(self._start_actor()))

    def _kill(self, worker: _Worker) -> None:
        with contextlib.suppress(Exception):   # it may already be dead
            self._ray.kill(worker.handle)

    def _hand_out(self) -> None:
        """Give a chunk to each actor without one, and then a second one."""
        ready = [worker for worker in self._workers if worker.node is not None]
        for depth in range(_QUEUED):
            for worker in ready:
                if len(worker.tasks) == depth:
                    chunk = self._next_chunk()
                    if chunk is None:
                        return
                    task = worker.handle.run.remote(self._function, self._items[chunk])
                    worker.tasks.append((task, chunk))

    def _next_chunk(self) -> Optional[int]:
        """Return the first chunk that no actor computes; None if there is none, or it is too early.
        """
        if self._lost:
            return heapq.heappop(self._lost)
        chunk = self._handed_out
        if chunk == len(self._items) or chunk - self._given_back >= _AHEAD * self._count:
            return None
        self._handed_out += 1
        return chunk

    def _collect(self) -> None:
        """Wait for the first result, at most one second."""
        heads = {worker.tasks[0][0]: worker for worker in self._workers if worker.tasks}
        for task in self._ray.wait(list(heads), num_returns=1, timeout=_POLL)[0]:
            self._take(heads[task])
        now = time.monotonic()
        if any(worker.node is not None for worker in self._workers):
            self._last_seen = now
        elif now - self._last_seen > _PATIENCE:
            raise AdaptisError('The Ray cluster has had no free core or GPU for '
                               f'{_PATIENCE / 60:.0f} minutes: see "ray status".')

    def _take(self, worker: _Worker) -> None:
        """Take the result of the first task of an actor."""
        task, chunk = worker.tasks[0]
        exceptions = self._ray.exceptions
        try:
            value = self._ray.get(task)
        except exceptions.RayTaskError as error:   # the function raised something
            raise error.cause from error
        except exceptions.RayError as error:
            self._bury(worker, error)
            return
        worker.tasks.popleft()
        if chunk is None:
            _check_versions(value)
            worker.node, self._failed_starts = value.name, 0
        else:
            self._done[chunk] = value

    def _bury(self, worker: _Worker, error: Exception) -> None:
        """Replace a dead actor, and compute its chunks again."""
        self._workers.remove(worker)
        self._kill(worker)
        if worker.node is None:
            self._failed_starts += 1
            # If a node dies, all actors that were to start on it may fail.
            if self._failed_starts == ATTEMPTS * self._count or 'No module named' in str(error):
                raise AdaptisError(_start_sentence(str(error))) from error
        elif worker.chunks:
            self._count_death(worker)
            for chunk in worker.chunks:
                heapq.heappush(self._lost, chunk)
        self._start()

    def _count_death(self, worker: _Worker) -> None:
        """Report the first death on a node; AdaptisError if too many actors died on one chunk."""
        chunk = worker.chunks[0]   # the others were waiting
        self._deaths[chunk] += 1
        if self._deaths[chunk] == ATTEMPTS:
            raise AdaptisError(f'{ATTEMPTS} processes ended while they computed '
                               f'{self._name(self._items[chunk])}, perhaps because the nodes have '
                               'too little memory: use fewer --processes.')
        if worker.node not in self._told:
            self._told.add(worker.node)
            write_line(f'A process on node {worker.node} was lost: another one repeats its '
                       'work.', sys.stderr)


def _check_versions(node: NodeInfo) -> None:
    """Raise AdaptisError if a node would compute with other versions."""
    here = NodeInfo.here().versions
    for package in sorted(here.keys() & node.versions.keys()):
        if here[package] != node.versions[package]:
            raise AdaptisError(f'Node {node.name} has {package} {node.versions[package]}, but this '
                               f'machine has {here[package]}: install the same version on all '
                               'nodes.')


def _start_sentence(error: str) -> str:
    lines = [line.strip() for line in error.splitlines() if line.strip()]
    missing = next((line for line in lines if 'No module named' in line), None)
    if missing is not None:
        name = missing.rpartition('No module named')[2].strip(" '\"")
        return (f'A node of the Ray cluster lacks the Python package {name}: install AdaptIS in '
                'the same way on all nodes.')
    return f'No process of the Ray cluster could start: {lines[0] if lines else "no reason given"}'
