"""The interface for converters from MXNet operators to ONNX: read the operator, and write nodes."""
from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from typing import Any, Callable, Union

import numpy as np

from adaptis.runtime import mx

OPSET = 16
"""Opset of the models, the first one with GridSample and the aligned RoiAlign."""

Results = Union[str, Sequence[str]]


class Operator:
    """An MXNet operator that is being converted to ONNX.

    Sizes are unknown, because one graph serves all sizes, but the number of dimensions is known.

    Attributes
    ----------
    name : name of the operator and of its output tensor
    kind : MXNet's name of the operator type; 'null' for inputs and weights
    inputs : names of the tensors that it reads
    ranks : number of dimensions of each input
    nodes : ONNX nodes written so far
    """

    def __init__(self, node: Mapping[str, Any], context: Mapping[str, Any]):
        self.name, self.kind = node['name'], node['op']
        self._node, self._context = node, context
        self.inputs = [self._tensor(*source) for source in node['inputs']]
        self.ranks = [self._rank(*source) for source in node['inputs']]
        self.nodes: list[Any] = []
        self._attributes = node.get('attrs', {})
        self._count = 0

    def attribute(self, name: str, default: Any = None) -> Any:
        """Return a parameter of the operator: a number, a tuple, a bool, None or a string."""
        text = self._attributes.get(name)
        if text is None:
            return default
        try:
            return ast.literal_eval(text)
        except (ValueError, SyntaxError):
            return text

    def require(self, **expected: Any) -> None:
        """Raise NotImplementedError if a given parameter is not one of the ``expected`` values."""
        for name, values in expected.items():
            value = self.attribute(name)
            if value is not None and value not in values:
                raise NotImplementedError(f'{self.kind} with {name}={value}')

    def producer(self, index: int = 0) -> Operator:
        """Return the operator that produces an input; use it only for reading."""
        return Operator(self._context['mx_graph'][self._node['inputs'][index][0]], self._context)

    def add(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Write an ONNX node with one output; return the name of the output."""
        return self.add_many(kind, inputs, 1, **attributes)[0]

    def add_many(self, kind: str, inputs: Sequence[str], outputs: int,
                 **attributes: Any) -> list[str]:
        """Write an ONNX node with several outputs; return their names."""
        from onnx import helper  # optional
        names = [self._fresh() for _ in range(outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), names, name=names[0], **attributes))
        return names

    def constant(self, value: Any, dtype: str = 'int64') -> str:
        """Write a constant tensor; return its name."""
        from onnx import numpy_helper  # optional
        name = self._fresh()
        self._context['initializer'].append(numpy_helper.from_array(np.array(value, dtype), name))
        return name

    def number(self, value: float) -> str:
        """Write a float32 constant without dimensions; return its name."""
        return self.constant(value, 'float32')

    def shape(self, tensor: str, begin: int = 0, end: Any = None) -> str:
        """Write the sizes of some dimensions, int64 (end - begin,); return the name."""
        limits = {} if end is None else {'end': end}
        return self.add('Shape', tensor, start=begin, **limits)

    def concat(self, parts: Sequence[str]) -> str:
        """Concatenate vectors; return the name of the result."""
        return parts[0] if len(parts) == 1 else self.add('Concat', *parts, axis=0)

    def cast(self, tensor: str, dtype: str) -> str:
        """Cast a tensor to another type; return the name of the result."""
        from onnx import helper  # optional
        return self.add('Cast', tensor, to=int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype))))

    def axis(self, axis: int, rank: Any = None) -> int:
        """Return an axis counted from the front, for the first input or for ``rank`` dimensions."""
        return axis % (self.ranks[0] if rank is None else rank)

    def finish(self, results: Results) -> list[Any]:
        """Return the nodes, with the output names that MXNet's exporter expects."""
        several = not isinstance(results, str)
        for i, result in enumerate(results if several else [results]):
            self.nodes.append(_identity(result, f'{self.name}{i}' if several else self.name))
        return self.nodes

    def _tensor(self, number: int, output: int, *_: Any) -> str:
        tensor: str = self._context['outputs_lookup'][number][output].name
        return tensor

    def _rank(self, number: int, output: int, *_: Any) -> int:
        return len(self._context['shapes'][number][output])

    def _fresh(self) -> str:
        self._count += 1
        return f'{self.name}.{self._count}'


def register_converter(*operators: str) -> Callable[[Callable[[Operator], Results]], Callable]:
    """Register a converter, ``Operator`` -> names of results, with MXNet's exporter."""
    def decorate(convert: Callable[[Operator], Results]) -> Callable:
        def adapted(node: Mapping[str, Any], **context: Any) -> list[Any]:
            operator = Operator(node, context)
            return operator.finish(convert(operator))
        for name in operators:
            mx.onnx.mx2onnx._export_onnx.MXNetGraph.register(name, OPSET)(adapted)
        return convert
    return decorate


def _identity(source: str, target: str) -> Any:
    from onnx import helper  # optional
    return helper.make_node('Identity', [source], [target], name=target)
