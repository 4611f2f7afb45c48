"""ONNX models in float16, which GPUs compute faster.

Inputs and outputs stay float32, so that models of both precisions work with the same code.  As in
training with mixed precision, operators that are not listed here compute in float32: sums,
including those of AdaIN and of the normalisations, exponentials, coordinates, and sampling with
coordinates. ``onnxruntime.transformers.float16`` can also keep listed operators in float32, but it
rounds every array between two of them to float16, where a sum of pixels overflows.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

HALF = frozenset({'Conv', 'ConvTranspose', 'Gemm'})
"""Sums of few products, which tensor cores accumulate in float32."""

KEEPS = frozenset({'BatchNormalization', 'Relu', 'MaxPool', 'Identity', 'Transpose', 'Slice',
                   'Reshape', 'Squeeze', 'Unsqueeze', 'Flatten'})
"""Keep the type of their first input.  The other inputs are integers, except the four arrays of a
batch normalisation, which ONNX Runtime's CUDA kernel needs in the same type."""

JOINS = frozenset({'Add', 'Concat'})
"""Float16 if all inputs are, else float32."""


def to_float16(model: Any) -> Any:
    """Return a copy of an ``onnx.ModelProto`` of float32 with float16 where that is safe.

    A layer with a weight beyond the range of float16 stays in float32.
    """
    from onnx import checker  # optional
    result = type(model)()
    result.CopyFrom(model)
    writer = _Writer(result.graph)
    for node in model.graph.node:
        writer.add(node)
    writer.finish([output.name for output in model.graph.output])
    checker.check_model(result, full_check=True)
    return result


class _Writer:
    """Rewrites the nodes of a graph in order, with casts between them."""

    def __init__(self, graph: Any):
        from onnx import numpy_helper  # optional
        self._graph = graph
        self._constants = {c.name: numpy_helper.to_array(c) for c in graph.initializer}
        self._float_constants = {name for name, value in self._constants.items()
                                 if value.dtype == np.float32}
        self._nodes: list[Any] = []
        self._halves: set[str] = set()
        self._casts: dict[tuple[str, bool], str] = {}
        self._weights: dict[str, np.ndarray] = {}

    def add(self, node: Any) -> None:
        """Add a node of the float32 graph."""
        wants, gives = self._types(node)
        new = type(node)()
        new.CopyFrom(node)
        new.input[:] = [self._cast(name, want) if name else name
                        for name, want in zip(node.input, wants)]
        self._nodes.append(new)
        if gives:
            self._halves.update(node.output)

    def finish(self, outputs: list[str]) -> None:
        """Put the new nodes and weights into the graph, and cast its outputs to float32."""
        from onnx import numpy_helper  # optional
        for name in outputs:
            if name in self._halves:
                self._rename_output(name)
        del self._graph.node[:]
        self._graph.node.extend(self._nodes)
        read = {name for node in self._nodes for name in node.input}
        kept = [c for c in self._graph.initializer if c.name in read]
        del self._graph.initializer[:]
        self._graph.initializer.extend(kept + [numpy_helper.from_array(value, name)
                                               for name, value in self._weights.items()])

    def _types(self, node: Any) -> tuple[list[bool], bool]:
        """Return whether each input of a node must be float16, and whether its outputs are."""
        halves = [name in self._halves for name in node.input]
        count = len(halves)
        if node.op_type in HALF and self._fit(node.input[1:]):
            return [True] * count, True
        if node.op_type in KEEPS and halves[0] and self._fit(node.input[1:]):
            return [i == 0 or name in self._float_constants
                    for i, name in enumerate(node.input)], True
        if node.op_type in JOINS and all(halves):
            return halves, True
        return [False] * count, False

    def _fit(self, names: Sequence[str]) -> bool:
        """Return whether all weights among the names can be stored in float16."""
        limit = np.finfo(np.float16).max
        return all(np.abs(self._constants[name]).max(initial=0) < limit for name in names
                   if name in self._float_constants)

    def _cast(self, name: str, want: bool) -> str:
        """Return the name of an array in the wanted type."""
        if (name in self._halves) == want:
            return name
        key = name, want
        if key not in self._casts:
            self._casts[key] = f'{name}_{"float16" if want else "float32"}'
            if want and name in self._constants:
                self._weights[self._casts[key]] = self._constants[name].astype(np.float16)
            else:
                self._nodes.append(_cast_node(name, self._casts[key], want))
        return self._casts[key]

    def _rename_output(self, name: str) -> None:
        inside = f'{name}_inside'
        for node in self._nodes:
            for names in (node.input, node.output):
                names[:] = [inside if n == name else n for n in names]
        self._nodes.append(_cast_node(inside, name, False))


def _cast_node(source: str, target: str, to_half: bool) -> Any:
    from onnx import TensorProto, helper  # optional
    return helper.make_node('Cast', [source], [target], name=f'{target}_cast',
                            to=TensorProto.FLOAT16 if to_half else TensorProto.FLOAT)
