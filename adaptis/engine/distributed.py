"""Training of one network in several processes (``--kvstore dist_sync``)."""
from __future__ import annotations

import os
from typing import Any, Union

from adaptis.errors import AdaptisError
from adaptis.runtime import mx


def create_kvstore(name: str) -> Any:
    """Return a KVStore for a distributed ``name``, else the name itself, for ``gluon.Trainer``.

    MXNet's launcher sets the variables ``DMLC_*``, which tell each process its role.

    Raises AdaptisError for an unknown name, or an asynchronous one (such a run cannot be resumed).
    """
    if name in ('local', 'device', 'nccl'):
        return name
    if name not in ('dist_sync', 'dist_device_sync'):
        raise AdaptisError(f'--kvstore {name}: choose device, local, nccl, dist_sync or '
                           'dist_device_sync.')
    if 'DMLC_PS_ROOT_URI' not in os.environ:
        raise AdaptisError(f'--kvstore {name} needs a cluster: start this command through MXNet\'s '
                           'launcher, which sets the variables DMLC_*.')
    return mx.kv.create(name)


class StageKVStore(mx.kvstore.KVStoreBase):
    """A distributed KVStore for one stage.

    The store broadcasts a key only once, but every stage has a trainer that numbers its parameters
    from 0.  So the name of the stage is prepended to its keys.
    """

    def __init__(self, store: Any, stage: str):
        self._store = store
        self._stage = stage
        self._votes = mx.nd.zeros(1)
        self.broadcast('votes', self._votes, self._votes)

    def broadcast(self, key: Union[int, str], value: Any, out: Any, priority: int = 0) -> None:
        """Copy the values of rank 0 to all processes.

        This sends a plain array, because MXNet cannot send weights in oneDNN's own layout, which
        they have after a hybridized pass.  It waits for the result, because MXNet does not order a
        later ``pushpull`` of the key after it, so that gradients could arrive in place of weights.
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
        self._store.pushpull(f'{self._stage}.{key}', value, out, priority)

    def broadcast_parameters(self, net: Any) -> None:
        """Give all processes the parameters and running statistics of rank 0.

        The trainer would do this only after the first backward pass, and only for trained
        parameters.
        """
        for name, parameter in net._collect_params_with_prefix().items():
            values = parameter.list_data()
            self.broadcast(f'net.{name}', values[0], values)

    def sum_over_processes(self, mine: int) -> int:
        """Return the sum of the numbers of all processes; all must call this at the same time."""
        self._votes[:] = mine
        self.pushpull('votes', self._votes)
        return int(self._votes.asscalar())

    @staticmethod
    def is_capable(capability: str) -> bool:
        """Return False: the optimizer must not run on the servers, as its state is saved here."""
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


def stage_kvstore(store: Union[str, Any], stage: str, net: Any) -> Union[str, StageKVStore]:
    """Return the store for the trainer of a stage; a distributed one first broadcasts ``net``."""
    if isinstance(store, str):
        return store
    result = StageKVStore(store, stage)
    result.broadcast_parameters(net)
    return result
