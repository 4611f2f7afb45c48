"""The stages of a network for export: graphs with signatures, with NumPy code between them."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Union


class Signature(NamedTuple):
    """An array that is an input or an output of a stage.

    ``shape`` has a number for each fixed dimension and a name ('H', 'W', 'N', ...) for each dynamic
    one.  Dimensions with the same name within one stage are equal.
    """

    name: str
    shape: tuple[Union[int, str], ...]
    dtype: str = 'float32'


class Stage(NamedTuple):
    """One graph of a network.

    Attributes
    ----------
    block : an initialised ``HybridBlock`` that takes the ``inputs`` in order and returns one output
        or a flat list, called ``outputs``
    example : a number for each name in the shapes of the inputs, for tracing and checking
    """

    name: str
    block: Any
    inputs: tuple[Signature, ...]
    outputs: tuple[str, ...]
    example: Mapping[str, int]

    def example_shapes(self) -> list[tuple[int, ...]]:
        """Return the shapes of the inputs with the numbers of ``example``."""
        return [concrete_shape(signature, self.example) for signature in self.inputs]


class Interface(NamedTuple):
    """The inputs and outputs of a stage, in order."""

    inputs: tuple[Signature, ...]
    outputs: tuple[str, ...]


def interfaces(stages: Sequence[Stage]) -> dict[str, Interface]:
    """Return the interfaces of stages by name."""
    return {stage.name: Interface(stage.inputs, stage.outputs) for stage in stages}


def trace_symbol(stage: Stage) -> Any:
    """Return the graph of a stage as an MXNet symbol whose inputs have the names of the stage."""
    from adaptis.runtime import mx  # loads MXNet
    outputs = stage.block(*(mx.sym.var(signature.name) for signature in stage.inputs))
    return mx.sym.Group(list(outputs)) if isinstance(outputs, (list, tuple)) else outputs


def concrete_shape(signature: Signature, values: Mapping[str, int]) -> tuple[int, ...]:
    """Return the shape of a signature with numbers in place of its names."""
    return tuple(values[part] if isinstance(part, str) else part for part in signature.shape)
