"""Several processes that train one network (``--kvstore dist_sync``)."""
from __future__ import annotations

import os
from typing import Any, Union

from adaptis.errors import AdaptisError
from adaptis.runtime import mx


def open_store(name: str) -> Any:
    """A KVStore for a distributed ``name``, else the name itself, as ``gluon.Trainer`` takes it.

    MXNet learns who is who from the variables ``DMLC_*`` that its launcher sets.

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


class StageStore(mx.kvstore.KVStoreBase):
    """A distributed KVStore as one stage sees it.

    The store broadcasts a key only once, but every stage has a trainer that numbers its parameters
    from 0, so the keys of a stage get its name in front.
    """

    def __init__(self, store: Any, stage: str):
        self._store = store
        self._stage = stage
        self._votes = mx.nd.zeros(1)
        self.broadcast('votes', self._votes, self._votes)

    def broadcast(self, key: Union[int, str], value: Any, out: Any, priority: int = 0) -> None:
        """Copy what rank 0 has to all.

        By way of a plain array: MXNet cannot send weights that oneDNN keeps in its own layout, as
        it does after a hybridized pass.  And it is waited for: MXNet does not order a later
        ``pushpull`` of the key after this, so that gradients may arrive in place of weights.
        """
        first = value[0] if isinstance(value, (list, tuple)) else value
        plain = mx.nd.array(first.asnumpy(), dtype=first.dtype)
        self._store.broadcast(f'{self._stage}.{key}', plain, plain, priority)
        plain.wait_to_read()
        for array in out if isinstance(out, (list, tuple)) else [out]:
            plain.copyto(array)

    def pushpull(self, key: Union[int, str], value: Any, out: Any = None,
                 priority: int = 0) -> None:
        """Replace by the sum over all processes."""
        self._store.pushpull(f'{self._stage}.{key}', value, out, priority)

    def share(self, net: Any) -> None:
        """Give all processes the parameters of rank 0, and its running statistics.

        The trainer would do so only after the first backward pass, and for trained parameters.
        """
        for name, parameter in net._collect_params_with_prefix().items():
            values = parameter.list_data()
            self.broadcast(f'net.{name}', values[0], values)

    def anyone(self, mine: int) -> int:
        """The sum of the numbers of all processes; all must ask at the same time."""
        self._votes[:] = mine
        self.pushpull('votes', self._votes)
        return int(self._votes.asscalar())

    @staticmethod
    def is_capable(capability: str) -> bool:
        """Whether the optimizer may run on the servers: it may not, its state is saved here."""
        return False

    @property
    def type(self) -> str:
        """Name of the underlying store."""
        return self._store.type

    @property
    def rank(self) -> int:
        """Number of this process."""
        return self._store.rank

    @property
    def num_workers(self) -> int:
        """Number of processes."""
        return self._store.num_workers


def for_stage(store: Union[str, Any], stage: str, net: Any) -> Union[str, StageStore]:
    """The store to give to the trainer of a stage; a distributed one equals out ``net`` first."""
    if isinstance(store, str):
        return store
    result = StageStore(store, stage)
    result.share(net)
    return result
