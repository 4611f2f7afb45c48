"""What a network is made of for export: graphs with a signature, between which NumPy decides."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Union


class Signature(NamedTuple):
    """One array that goes into a stage or comes out of it.

    ``shape`` holds a number where a dimension is fixed and a name ('H', 'W', 'N', ...) where it
    varies; dimensions of one name within one stage agree.
    """

    name: str
    shape: tuple[Union[int, str], ...]
    dtype: str = 'float32'


class Stage(NamedTuple):
    """One graph of a network.

    ``block`` is an initialised ``HybridBlock`` that takes the ``inputs`` in their order and gives
    one output or a flat list, called ``outputs``.  ``example`` has a number for each name in the
    inputs' shapes: what the graph may be traced and checked with.
    """

    name: str
    block: Any
    inputs: tuple[Signature, ...]
    outputs: tuple[str, ...]
    example: Mapping[str, int]

    def example_shapes(self) -> list[tuple[int, ...]]:
        """The inputs' shapes with the numbers of ``example``."""
        return [concrete_shape(signature, self.example) for signature in self.inputs]


class Interface(NamedTuple):
    """What a stage takes and gives, in order: all that its caller has to know."""

    inputs: tuple[Signature, ...]
    outputs: tuple[str, ...]


def interfaces(stages: Sequence[Stage]) -> dict[str, Interface]:
    """The stages by name, without their blocks."""
    return {stage.name: Interface(stage.inputs, stage.outputs) for stage in stages}


def symbol_of(stage: Stage) -> Any:
    """The graph of a stage as an MXNet symbol whose inputs have the stage's names for them."""
    from adaptis.runtime import mx
    outputs = stage.block(*(mx.sym.var(signature.name) for signature in stage.inputs))
    return mx.sym.Group(list(outputs)) if isinstance(outputs, (list, tuple)) else outputs


def concrete_shape(signature: Signature, values: Mapping[str, int]) -> tuple[int, ...]:
    """A signature's shape with numbers for its names."""
    return tuple(values[part] if isinstance(part, str) else part for part in signature.shape)
