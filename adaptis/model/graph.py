"""What a block computes, read off its graph without computing: operators, their shapes, their cost.

Nothing needs to be initialised and no memory for maps is taken, so the cost of an image of any
size is known before the image is.
"""
from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from adaptis.runtime import mx

Shape = tuple[int, ...]

BYTES = 4  # of a float32


class Node(NamedTuple):
    """An operator, or an input or parameter if ``op`` is 'null'.

    ``inputs`` are the numbers of the nodes that it reads, ``read`` the shapes of what it reads
    there, ``shapes`` those of what it gives.
    """

    op: str
    attributes: dict[str, str]
    inputs: list[int]
    read: list[Shape]
    shapes: list[Shape]


class Graph(NamedTuple):
    """The nodes of a block, each after what it reads; its ``outputs`` and which nodes give them."""

    nodes: list[Node]
    outputs: list[Shape]
    heads: list[int]


def trace(block: Any, *shapes: Shape) -> Graph:
    """The graph of a ``HybridBlock`` for inputs of these shapes."""
    variables = [mx.sym.var(f'input{i}') for i in range(len(shapes))]
    outputs = block(*variables)
    group = mx.sym.Group(list(outputs)) if isinstance(outputs, (list, tuple)) else outputs
    described = json.loads(group.tojson())
    given = node_shapes(group, {v.name: shape for v, shape in zip(variables, shapes)})
    nodes: list[Node] = []
    for entry, results in zip(described['nodes'], given):
        inputs = [number for number, *_ in entry['inputs']]
        read = [nodes[number].shapes[output] for number, output, *_ in entry['inputs']]
        nodes.append(Node(entry['op'], entry.get('attrs', {}), inputs, read, results))
    heads = [(number, output) for number, output, *_ in described['heads']]
    return Graph(nodes, [nodes[number].shapes[output] for number, output in heads],
                 [number for number, _ in heads])


def node_shapes(symbol: Any, inputs: Mapping[str, Shape]) -> list[list[Shape]]:
    """Shapes of all outputs of every node of a symbol, for inputs of these shapes."""
    internals, used = symbol.get_internals(), set(symbol.list_arguments())
    known = {name: shape for name, shape in inputs.items() if name in used}
    return list(_by_node(internals.list_outputs(), internals.infer_shape(**known)[1]))


def multiply_adds(graph: Graph) -> int:
    """Multiply-adds of convolutions, dense layers and matrix products; nothing else counts.

    Normalisation, activations, resizing and pooling are a few operations per value, where a
    convolution is hundreds; biases are left out.
    """
    return sum(_MULTIPLY_ADDS[n.op](n) for n in graph.nodes if n.op in _MULTIPLY_ADDS)


def peak_bytes(graph: Graph) -> int:
    """The most that the maps alive at one time take, in bytes; without inputs and parameters.

    A map lives from the operator that makes it until the last one that reads it, and an output of
    the block until the end.  No two share memory, except what only changes its shape.  What an
    operator keeps for itself is counted where it is known to be large (``_workspace``).
    """
    owner = _owners(graph.nodes)
    end = {owner[i]: number for number, node in enumerate(graph.nodes) for i in node.inputs}
    end.update((owner[number], len(graph.nodes)) for number in graph.heads)
    alive = peak = 0
    freed: dict[int, int] = {}  # number of a node -> bytes that nothing needs after it
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
    """Numbers that training changes (running statistics and fixed weights are not among them)."""
    return sum(math.prod(p.shape) for p in block.collect_params().values() if p.grad_req != 'null')


_VIEWS = ('Reshape', 'reshape', 'reshape_like', 'expand_dims', 'BlockGrad', 'Flatten')


def _owners(nodes: Sequence[Node]) -> list[int]:
    """For every node the one that made the values it gives."""
    owner: list[int] = []
    for number, node in enumerate(nodes):
        owner.append(owner[node.inputs[0]] if node.op in _VIEWS else number)
    return owner


def _workspace(node: Node) -> int:
    """MXNet's transposed convolution multiplies first and adds up overlapping windows then."""
    if node.op != 'Deconvolution':
        return 0
    return BYTES * math.prod(node.shapes[0][:2]) * math.prod(node.read[0][2:]) * math.prod(
        node.read[1][2:])


def _by_node(names: Sequence[str], shapes: Sequence[Shape]) -> Iterator[list[Shape]]:
    """Shapes of all outputs, node by node: a node's further outputs end in 1, 2, ..."""
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
