"""A base class of predictors, which belong to one process."""
from __future__ import annotations

from typing import Any, TypeVar

from adaptis.errors import AdaptisError

Self = TypeVar('Self', bound='OfOneProcess')


class OfOneProcess:
    """Base of objects with a network, which cannot be sent to another process.

    Pickling them, as ``multiprocessing`` does with arguments, raises AdaptisError.  A forked
    process can use the objects of its parent on the CPU.
    """

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise AdaptisError('A predictor cannot be sent to another process: load one in each '
                           'process, with adaptis.load_predictor(CHECKPOINT).')

    def __copy__(self: Self) -> Self:
        """Return a predictor that shares the network."""
        own = object.__new__(type(self))
        vars(own).update(vars(self))
        return own
