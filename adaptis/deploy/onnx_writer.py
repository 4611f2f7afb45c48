"""What a converter of an MXNet operator to ONNX is given: what it reads, and how to write nodes."""
from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from typing import Any, Callable, Union

import numpy as np

from adaptis.runtime import mx

OPSET = 16
"""Of the models: the first with GridSample and with the aligned RoiAlign."""

Results = Union[str, Sequence[str]]


class Operator:
    """One MXNet operator on its way to ONNX.

    Sizes are never known here, as a graph is for all of them; the number of dimensions is.

    Attributes
    ----------
    name : of the operator, and of the tensor that it gives
    kind : what MXNet calls such operators; 'null' are inputs and weights
    inputs : names of the tensors it reads
    ranks : how many dimensions each of these has
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
        """A parameter of the operator: a number, a tuple, a truth value, None or a word."""
        text = self._attributes.get(name)
        if text is None:
            return default
        try:
            return ast.literal_eval(text)
        except (ValueError, SyntaxError):
            return text

    def demand(self, **expected: Any) -> None:
        """NotImplementedError if a parameter that is given is not one of the ``expected``."""
        for name, values in expected.items():
            value = self.attribute(name)
            if value is not None and value not in values:
                raise NotImplementedError(f'{self.kind} with {name}={value}')

    def maker(self, index: int = 0) -> Operator:
        """What gives an input: to look at, not to write with."""
        return Operator(self._context['mx_graph'][self._node['inputs'][index][0]], self._context)

    def add(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Write an ONNX node of one output, and give the name of that."""
        return self.add_many(kind, inputs, 1, **attributes)[0]

    def add_many(self, kind: str, inputs: Sequence[str], outputs: int,
                 **attributes: Any) -> list[str]:
        """Write an ONNX node of several outputs."""
        from onnx import helper
        names = [self._fresh() for _ in range(outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), names, name=names[0], **attributes))
        return names

    def constant(self, value: Any, dtype: str = 'int64') -> str:
        """A tensor that is known."""
        from onnx import numpy_helper
        name = self._fresh()
        self._context['initializer'].append(numpy_helper.from_array(np.array(value, dtype), name))
        return name

    def number(self, value: float) -> str:
        """A float32 without dimensions."""
        return self.constant(value, 'float32')

    def shape(self, tensor: str, begin: int = 0, end: Any = None) -> str:
        """int64 (end - begin,): sizes of some dimensions."""
        limits = {} if end is None else {'end': end}
        return self.add('Shape', tensor, start=begin, **limits)

    def concat(self, parts: Sequence[str]) -> str:
        """Vectors one after the other."""
        return parts[0] if len(parts) == 1 else self.add('Concat', *parts, axis=0)

    def cast(self, tensor: str, dtype: str) -> str:
        """The same values as another type."""
        from onnx import helper
        return self.add('Cast', tensor, to=int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype))))

    def axis(self, axis: int, rank: Any = None) -> int:
        """An axis, counted from the front, of the first input or of so many dimensions."""
        return axis % (self.ranks[0] if rank is None else rank)

    def finish(self, results: Results) -> list[Any]:
        """The nodes, with the outputs called as MXNet's exporter expects it."""
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


def converts(*operators: str) -> Callable[[Callable[[Operator], Results]], Callable]:
    """Register a converter with MXNet's exporter, for this opset: ``Operator`` -> result names."""
    def decorate(convert: Callable[[Operator], Results]) -> Callable:
        def adapted(node: Mapping[str, Any], **context: Any) -> list[Any]:
            operator = Operator(node, context)
            return operator.finish(convert(operator))
        for name in operators:
            mx.onnx.mx2onnx._export_onnx.MXNetGraph.register(name, OPSET)(adapted)
        return convert
    return decorate


def _identity(source: str, target: str) -> Any:
    from onnx import helper
    return helper.make_node('Identity', [source], [target], name=target)
