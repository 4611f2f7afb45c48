"""Exponential moving average (EMA) of the weights.

The average varies less than the weights while the learning rate is high.  None of the papers uses
it.  Polyak and Juditsky (1992) use the plain mean.  This is an exponential average with smaller
decays in the first steps, as in TensorFlow, so that the initial weights soon lose their influence.
"""
from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from adaptis.errors import AdaptisError
from adaptis.runtime import mx


class WeightAverage:
    """Average of parameters and running statistics, each as one array on the first device.

    Parameters
    ----------
    parameters : parameters of the network, by their names in a checkpoint
    decay : weight of the old average in the new one, in [0, 1)
    """

    def __init__(self, parameters: Mapping[str, Any], decay: float):
        self._parameters, self._decay = dict(parameters), decay
        self._values = {name: _weight(p).copy() for name, p in self._parameters.items()}

    @property
    def values(self) -> Mapping[str, Any]:
        """The averages by name, which the caller may change in place."""
        return self._values

    def update(self, step: int) -> None:
        """Add the weights after step ``step`` of the stage, counted from 0."""
        decay = min(self._decay, (1 + step) / (10 + step))
        for name, parameter in self._parameters.items():
            value = self._values[name]
            # (1 - lr * wd) * value - lr * rescale_grad * weight, in one pass over both.
            mx.nd.sgd_update(value, _weight(parameter), lr=1 - decay, wd=1, rescale_grad=-1,
                             out=value)

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """Return a context in which the network uses the averages as its weights."""
        own = {name: _weight(p).copy() for name, p in self._parameters.items()}
        self.adopt()
        try:
            yield
        finally:
            self._set(own)

    def adopt(self) -> None:
        """Set the weights of the network to the averages."""
        self._set(self._values)

    def load(self, arrays: Mapping[str, Any]) -> None:
        """Load the averages of a checkpoint; AdaptisError if they belong to another network."""
        for name, value in self._values.items():
            if name not in arrays or arrays[name].shape != value.shape:
                raise AdaptisError(f'The averaged weights in the checkpoint have no {name} of '
                                   f'shape {value.shape}, so they belong to another network: give '
                                   'another --output.')
            value[:] = arrays[name].as_in_context(value.context)

    def _set(self, values: Mapping[str, Any]) -> None:
        for name, parameter in self._parameters.items():
            parameter.set_data(values[name])


def averaged_parameters(net: Any, trained: Any) -> dict[str, Any]:
    """Return the parameters of a network that are in ``trained``, by their checkpoint names."""
    chosen = {id(parameter) for parameter in trained.values()}
    return {name: p for name, p in net._collect_params_with_prefix().items() if id(p) in chosen}


def _weight(parameter: Any) -> Any:
    return parameter.list_data()[0]
