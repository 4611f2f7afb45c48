"""A moving average of the weights: steadier than the weights themselves while the rate is high.

A training trick that none of the papers has.  Polyak and Juditsky (1992) average plainly; this is
the exponential kind, with the first decays lowered as TensorFlow does, so that the weights of the
start are forgotten soon.
"""
from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from adaptis.errors import AdaptisError


class WeightAverage:
    """Average of parameters and running statistics, one array each on the first device.

    Parameters
    ----------
    parameters : of the network, by the names they have in a checkpoint
    decay : share of the old average in a new one, in [0, 1)
    """

    def __init__(self, parameters: Mapping[str, Any], decay: float):
        self._parameters, self._decay = dict(parameters), decay
        self._values = {name: _weight(p).copy() for name, p in self._parameters.items()}

    def update(self, step: int) -> None:
        """Take in the weights after step number ``step`` of the stage, which counts from 0."""
        decay = min(self._decay, (1 + step) / (10 + step))
        for name, parameter in self._parameters.items():
            value = self._values[name]
            value *= decay
            value += _weight(parameter) * (1 - decay)

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """Inside, the network has the averages for its weights."""
        own = {name: _weight(p).copy() for name, p in self._parameters.items()}
        self.adopt()
        try:
            yield
        finally:
            self._set(own)

    def adopt(self) -> None:
        """Let the network have the averages for good."""
        self._set(self._values)

    def load(self, arrays: Mapping[str, Any]) -> None:
        """Go on from the averages of a checkpoint; AdaptisError if they are of another network."""
        for name, value in self._values.items():
            if name not in arrays or arrays[name].shape != value.shape:
                raise AdaptisError(f'The average of a checkpoint has no {name} of shape '
                                   f'{value.shape}: it belongs to another network.')
            value[:] = arrays[name].as_in_context(value.context)

    def _set(self, values: Mapping[str, Any]) -> None:
        for name, parameter in self._parameters.items():
            parameter.set_data(values[name])


def averaged_parameters(net: Any, trained: Any) -> dict[str, Any]:
    """Those parameters of a network that ``trained`` holds, by the names of a checkpoint."""
    chosen = {id(parameter) for parameter in trained.values()}
    return {name: p for name, p in net._collect_params_with_prefix().items() if id(p) in chosen}


def _weight(parameter: Any) -> Any:
    return parameter.list_data()[0]
