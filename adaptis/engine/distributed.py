"""Train one network in several processes (``--kvstore dist_sync``)."""
from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping, Sequence
from typing import Any, Optional, Union

import numpy as np

from adaptis.engine.averaging import WeightAverage
from adaptis.errors import AdaptisError
from adaptis.runtime import mx


def create_kvstore(name: str, compression: Optional[float] = None) -> Any:
    """Return a KVStore for a distributed ``name``, else the name itself, for ``gluon.Trainer``.

    ``adaptis launch`` sets the variables ``DMLC_*``, which tell each process its role.  If
    ``compression`` is not None, gradients are sent with 2 bits per number, as -1, 0 or 1 times this
    threshold, and the remainder is added to the next gradient.

    A process waits for the others before it ends only after ``end_together``.

    Raises AdaptisError for an unknown name, or an asynchronous one (such a run cannot be resumed),
    or if compression is requested but no gradients are sent.
    """
    if name in ('local', 'device', 'nccl'):
        if compression is not None:
            raise AdaptisError(f'--kvstore {name} sends no gradients to other processes, so '
                               'gradient_compression has no effect: use dist_sync or '
                               'dist_device_sync, or remove it.')
        return name
    if name not in ('dist_sync', 'dist_device_sync'):
        raise AdaptisError(f'--kvstore {name}: choose device, local, nccl, dist_sync or '
                           'dist_device_sync.')
    if 'DMLC_PS_ROOT_URI' not in os.environ:
        raise AdaptisError(f'--kvstore {name} needs a cluster: start this command with "adaptis '
                           'launch", which sets the variables DMLC_*.')
    store = mx.kv.create(name)
    _wait_at_end(store, False)
    if compression is not None:
        store.set_gradient_compression({'type': '2bit', 'threshold': compression})
    return store


def end_together(store: Union[str, Any]) -> None:
    """Let the process wait for the others before it ends, and the servers end after the last.

    By default, MXNet always waits.  After an error in one process it would wait forever, because
    the others wait for its gradients.
    """
    if not isinstance(store, str):
        _wait_at_end(store, True)


def _wait_at_end(store: Any, wait: bool) -> None:
    mx.base.check_call(mx.base._LIB.MXKVStoreSetBarrierBeforeExit(store.handle,
                                                                  ctypes.c_int(wait)))


class StageKVStore(mx.kvstore.KVStoreBase):
    """A distributed KVStore for one stage.

    The store broadcasts a key only once, but every stage has a trainer that numbers its parameters
    from 0.  So the keys get the name of the stage as a prefix.  ``compression`` is the threshold
    that the store was created with.
    """

    def __init__(self, store: Any, stage: str, compression: Optional[float] = None):
        self._store = store
        self._stage = stage
        self._compressed = compression is not None
        self._unit = 1.0 if compression is None else compression   # not changed by the compression
        self._lengths: set[int] = set()   # lengths of the arrays of numbers that already have a key

    def broadcast(self, key: Union[int, str], value: Any, out: Any, priority: int = 0) -> None:
        """Copy the values of rank 0 to all processes.

        This sends a plain array, because MXNet cannot send weights in oneDNN's own layout, which
        they have after a hybridized pass.  It waits for the result, because MXNet may run a later
        ``pushpull`` of the same key first, and gradients would then arrive in place of weights.
        """
        first = value[0] if isinstance(value, (list, tuple)) else value
        plain = mx.nd.array(first.asnumpy(), dtype=first.dtype)
        self._store.broadcast(f'{self._stage}.{key}', plain, plain, priority)
        plain.wait_to_read()
        for array in out if isinstance(out, (list, tuple)) else [out]:
            plain.copyto(array)

    def pushpull(self, key: Union[int, str], value: Any, out: Any = None,
                 priority: int = 0) -> None:
        """Replace the values by their sum over all processes."""
        key = f'{self._stage}.{key}'
        if self._compressed:   # MXNet's pushpull does not support it
            self._store.push(key, value, priority)
            self._store.pull(key, value if out is None else out, priority)
        else:
            self._store.pushpull(key, value, out, priority)

    def broadcast_parameters(self, net: Any) -> None:
        """Copy the parameters and running statistics of rank 0 to all processes.

        The trainer would do this only after the first backward pass, and only for trained
        parameters.
        """
        for name, parameter in net._collect_params_with_prefix().items():
            values = parameter.list_data()
            self.broadcast(f'net.{name}', values[0], values)

    def any_process(self, *flags: bool) -> list[bool]:
        """Return which flags are true in any process; all must call this at the same time."""
        return [bool(count) for count in self._sum(np.array(flags))]

    def gather(self, mine: bytes) -> list[bytes]:
        """Return the bytes of all processes by rank; all call this together with equal lengths."""
        numbers = np.frombuffer(mine, np.uint8)
        if not self._compressed:
            return [self._sum(numbers * (rank == self.rank)).astype(np.uint8).tobytes()
                    for rank in range(self.num_workers)]
        bits = np.unpackbits(numbers)   # compression does not change zeros and ones
        return [np.packbits(self._sum(bits * (rank == self.rank)) > 0).tobytes()
                for rank in range(self.num_workers)]

    def check_same(self, digest: bytes) -> None:
        """Raise AdaptisError in all processes unless all of them pass the same bytes."""
        found = self.gather(digest)
        others = [str(rank) for rank, theirs in enumerate(found) if theirs != found[0]]
        if others:
            raise AdaptisError(
                f'Rank {", ".join(others)} has a different config, number of images or checkpoint '
                'than rank 0: give all processes the same config and data, and an --output that '
                'all machines share.')

    def average(self, arrays: Sequence[Any]) -> None:
        """Replace float32 arrays by their mean over all processes; equal arrays keep every bit."""
        if not arrays:
            return
        mine = [array.asnumpy() for array in arrays]
        everyone = self.gather(b''.join(array.tobytes() for array in mine))
        # In double precision, the mean of equal numbers is that number.
        means = np.mean([np.frombuffer(part, np.float32) for part in everyone], axis=0,
                        dtype=np.float64).astype(np.float32)
        ends = np.cumsum([array.size for array in mine])
        for array, mean in zip(arrays, np.split(means, ends[:-1])):
            array[:] = mx.nd.array(mean.reshape(array.shape), ctx=array.context)

    def _sum(self, numbers: np.ndarray) -> np.ndarray:
        """Return sums of small integers over all processes (with compression, of 0 and 1)."""
        key = f'numbers{len(numbers)}'
        if len(numbers) not in self._lengths:
            self._lengths.add(len(numbers))
            zeros = mx.nd.zeros(len(numbers))
            self.broadcast(key, zeros, zeros)
        array = mx.nd.array(numbers * self._unit, dtype='float32')
        self.pushpull(key, array)
        return np.rint(array.asnumpy() / self._unit)

    @staticmethod
    def is_capable(capability: str) -> bool:
        """Return False, because the optimizer must run here, where its state is saved."""
        return False

    @property
    def type(self) -> str:
        """The name of the underlying store."""
        return self._store.type

    @property
    def rank(self) -> int:
        """The number of this process."""
        return self._store.rank

    @property
    def num_workers(self) -> int:
        """The number of processes."""
        return self._store.num_workers


def stage_kvstore(store: Union[str, Any], stage: str, net: Any, digest: bytes,
                  compression: Optional[float] = None) -> Union[str, StageKVStore]:
    """Return the store for the trainer of a stage; a distributed one first broadcasts ``net``.

    ``digest`` must be the same in all processes, see ``StageKVStore.check_same``.
    """
    if isinstance(store, str):
        return store
    result = StageKVStore(store, stage, compression)
    result.check_same(digest)
    result.broadcast_parameters(net)
    return result


def average_statistics(store: Union[str, StageKVStore], net: Any,
                       average: Optional[WeightAverage]) -> None:
    """Replace running statistics by their means over all processes, which must all call this.

    Each process normalises with the statistics of its own images.  Running statistics and their
    moving averages are linear in these, so it does not matter how often this is called.
    """
    if isinstance(store, str):
        return
    chosen = [parameter.list_data() for parameter in
              running_statistics(net._collect_params_with_prefix())]
    if average is not None:
        chosen += [[value] for value in running_statistics(average.values)]
    store.average([copies[0] for copies in chosen])
    for copies in chosen:
        for copy in copies[1:]:
            copies[0].copyto(copy)


def running_statistics(named: Mapping[str, Any]) -> list[Any]:
    """Return the values whose names are those of batch norm running statistics, ordered by name."""
    return [value for name, value in sorted(named.items())
            if name.endswith(('running_mean', 'running_var'))]
