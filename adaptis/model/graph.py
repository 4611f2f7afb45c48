"""The operators of a block, their shapes and their cost, without running the block.

The block need not be initialised, and no memory for maps is allocated, so the cost is known before
an image is loaded.
"""
from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from adaptis.runtime import mx

Shape = tuple[int, ...]

BYTES = 4  # size of a float32


class Node(NamedTuple):
    """An operator, or an input or parameter if ``op`` is 'null'.

    Attributes
    ----------
    inputs : numbers of the nodes that it reads
    read : shapes of the arrays that it reads from them
    shapes : shapes of its outputs
    name : name of the parameter or input, or MXNet's name for the operator
    """

    op: str
    attributes: dict[str, str]
    inputs: list[int]
    read: list[Shape]
    shapes: list[Shape]
    name: str = ''


class Graph(NamedTuple):
    """The nodes of a block in topological order.

    Attributes
    ----------
    outputs : shapes of the outputs of the block
    heads : numbers of the nodes that compute them
    """

    nodes: list[Node]
    outputs: list[Shape]
    heads: list[int]


def trace(block: Any, *shapes: Shape) -> Graph:
    """Return the graph of a ``HybridBlock`` for inputs of these shapes."""
    variables = [mx.sym.var(f'input{i}') for i in range(len(shapes))]
    outputs = block(*variables)
    group = mx.sym.Group(list(outputs)) if isinstance(outputs, (list, tuple)) else outputs
    described = json.loads(group.tojson())
    given = node_shapes(group, {v.name: shape for v, shape in zip(variables, shapes)})
    nodes: list[Node] = []
    for entry, results in zip(described['nodes'], given):
        inputs = [number for number, *_ in entry['inputs']]
        read = [nodes[number].shapes[output] for number, output, *_ in entry['inputs']]
        nodes.append(Node(entry['op'], entry.get('attrs', {}), inputs, read, results,
                          entry['name']))
    heads = [(number, output) for number, output, *_ in described['heads']]
    return Graph(nodes, [nodes[number].shapes[output] for number, output in heads],
                 [number for number, _ in heads])


def node_shapes(symbol: Any, inputs: Mapping[str, Shape]) -> list[list[Shape]]:
    """Return the shapes of all outputs of every node of a symbol, for inputs of these shapes."""
    internals, used = symbol.get_internals(), set(symbol.list_arguments())
    known = {name: shape for name, shape in inputs.items() if name in used}
    return list(_by_node(internals.list_outputs(), internals.infer_shape(**known)[1]))


def multiply_adds(graph: Graph) -> int:
    """Return the multiply-adds of convolutions, dense layers and matrix products.

    Everything else is ignored, because normalisation, activations, resizing and pooling need a few
    operations per value, while a convolution needs hundreds.  Biases are not counted.
    """
    return sum(_MULTIPLY_ADDS[n.op](n) for n in graph.nodes if n.op in _MULTIPLY_ADDS)


def peak_bytes(graph: Graph) -> int:
    """Return the peak memory of the maps, in bytes; without inputs and parameters.

    A map lives from the operator that creates it until the last one that reads it; an output of the
    block lives until the end.  Maps share memory only if an operator just changes the shape. The
    workspace of an operator is counted if it is known to be large (``_workspace``).
    """
    owner = _owners(graph.nodes)
    end = {owner[i]: number for number, node in enumerate(graph.nodes) for i in node.inputs}
    end.update((owner[number], len(graph.nodes)) for number in graph.heads)
    alive = peak = 0
    freed: dict[int, int] = {}  # number of a node -> bytes that are freed after it
    for number, node in enumerate(graph.nodes):
        if node.op != 'null' and owner[number] == number:
            size = BYTES * sum(math.prod(shape) for shape in node.shapes)
            alive += size
            last = end.get(number, number)
            freed[last] = freed.get(last, 0) + size
        peak = max(peak, alive + _workspace(node))
        alive -= freed.pop(number, 0)
    return peak


def parameter_count(block: Any) -> int:
    """Return the number of trainable values, without running statistics and fixed weights."""
    return sum(math.prod(p.shape) for p in block.collect_params().values() if p.grad_req != 'null')


VIEWS = ('Reshape', 'reshape', 'reshape_like', 'expand_dims', 'BlockGrad', 'Flatten')
"""Operators whose output is their input with another shape."""


def _owners(nodes: Sequence[Node]) -> list[int]:
    """Return for every node the node that computed the values of its output."""
    owner: list[int] = []
    for number, node in enumerate(nodes):
        owner.append(owner[node.inputs[0]] if node.op in VIEWS else number)
    return owner


def _workspace(node: Node) -> int:
    """Return the extra bytes of an operator.

    MXNet's transposed convolution computes a matrix product first and then adds overlapping
    windows.
    """
    if node.op != 'Deconvolution':
        return 0
    return BYTES * math.prod(node.shapes[0][:2]) * math.prod(node.read[0][2:]) * math.prod(
        node.read[1][2:])


def _by_node(names: Sequence[str], shapes: Sequence[Shape]) -> Iterator[list[Shape]]:
    """Yield the shapes of all outputs, node by node: a node's further outputs end in 1, 2, ..."""
    group: list[Shape] = []
    for name, shape in zip(names, shapes):
        stem, _, number = name.rpartition('_output')
        if group and not (stem and number.isdecimal() and int(number) == len(group)):
            yield group
            group = []
        group.append(tuple(shape))
    yield group


def _convolution(node: Node) -> int:
    # Weights are (output channels, input channels / groups, height, width).
    return math.prod(node.shapes[0]) * math.prod(node.read[1][1:])


def _deconvolution(node: Node) -> int:
    # Weights are (input channels, output channels / groups, height, width).
    return math.prod(node.read[0]) * math.prod(node.read[1][1:])


def _matrix_product(node: Node) -> int:
    transposed = node.attributes.get('transpose_a') in ('True', '1')
    first = node.read[0]
    if node.op == 'dot':
        shared = first[0] if transposed else first[-1]
    else:
        shared = first[-2] if transposed else first[-1]
    return math.prod(node.shapes[0]) * shared


_MULTIPLY_ADDS = {
    'Convolution': _convolution,
    'Deconvolution': _deconvolution,
    'FullyConnected': lambda node: math.prod(node.shapes[0]) * node.read[1][1],
    'dot': _matrix_product,
    'batch_dot': _matrix_product,
}
