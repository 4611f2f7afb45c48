"""The peak memory of a training step, from the graph that MXNet logs.

The log holds every operator of the forward and the backward pass in the order in which they run,
with the shapes of their inputs and outputs.  MXNet keeps an array as long as a later operator of
either pass reads it, with and without ``hybridize``, and so does this estimate.  This module does
not load MXNet.
"""
from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

Shape = tuple[int, ...]

ENVIRONMENT = {'MXNET_CPU_WORKER_NTHREADS': '1', 'MXNET_CPU_PRIORITY_NTHREADS': '1',
               'MXNET_ENGINE_TYPE': 'ThreadedEnginePerDevice', 'OMP_NUM_THREADS': '1',
               'MXNET_MKLDNN_ENABLED': '0',   # because its operators wait for their inputs
               'MXNET_MEM_PLAN_VERBOSE_LOGGING': '1'}
"""The environment that a process needs from its start to use ``adaptis.engine.dry_run``."""

MOST_ELEMENTS = 2 ** 31 - 1
"""Larger arrays are not possible, because MXNet's wheels count elements in 32 bits."""

_LINE = re.compile(r'exec_utils\.h:\d+:\s+(node|input|output) (\d+):? ?(.*)')
_ARRAY = re.compile(r'\[([\d,]*)\] \((\d+) KB\)')
_ITEM_SIZES = (4, 2, 8, 1)
_IN_PLACE = ('_backward_Activation', 'add_n', '_backward_copy', '_backward_Dropout')
"""Operators of the backward pass that overwrite an input that nothing else reads."""


class Array(NamedTuple):
    """An array of a graph: its number, its shape and its bytes."""

    number: int
    shape: Shape
    bytes: int


class Node(NamedTuple):
    """An operator of a graph, or one of the graph's inputs (then without arrays)."""

    operator: str
    inputs: list[Array]
    outputs: list[Array]


class TapeNode(NamedTuple):
    """An executed operator: inputs, outputs, their bytes, and whether autograd recorded it.
    """

    inputs: tuple[int, ...]
    outputs: dict[int, int]
    recorded: bool


@dataclass(frozen=True)
class GraphMemory:
    """Memory of a forward and a backward pass in bytes.

    Attributes
    ----------
    kept : held when the backward pass begins, without ``inputs``
    peak : the peak amount, without ``inputs``
    inputs : arrays that no operator of the graph creates, without the parameters
    largest : number of elements of the largest array
    operator : the operator that runs at the peak
    """

    kept: int
    peak: int
    inputs: int
    largest: int
    operator: str


def parse_plan(lines: Iterable[str]) -> list[Node]:
    """Return the graph that MXNet logs with ``MXNET_MEM_PLAN_VERBOSE_LOGGING=1``."""
    nodes: list[Node] = []
    for line in lines:
        match = _LINE.search(line)
        if not match:
            continue
        kind, number, rest = match.groups()
        if kind == 'node':
            nodes.append(Node(rest.strip(), [], []))
        else:
            arrays = nodes[-1].inputs if kind == 'input' else nodes[-1].outputs
            arrays.append(_array(int(number), rest))
    return nodes


def graph_memory(nodes: Sequence[Node], parameters: Iterable[Shape]) -> GraphMemory:
    """Return the memory of a graph, for the shapes of the network's parameters."""
    last = {array.number: i for i, node in enumerate(nodes) for array in node.inputs}
    alive: dict[int, int] = {}
    now = kept = peak = 0
    operator, backward = '', False
    for i, node in enumerate(nodes):
        if node.operator.startswith('_backward') and not backward:
            kept, backward = now, True
        # Arrays that nothing reads are gradients: of parameters, which have their own arrays, or
        # unused ones.
        made = {array.number: array.bytes for array in node.outputs if array.number in last}
        ended = {array.number for array in node.inputs if last[array.number] == i}
        freed = sum(alive.pop(number, 0) for number in ended)
        alive.update(made)
        before, now = now, now - freed + sum(made.values())
        at_once = max(before, now) if node.operator in _IN_PLACE else now + freed
        if at_once > peak:
            peak, operator = at_once, node.operator
    arrays = [array for node in nodes for array in (*node.inputs, *node.outputs)]
    largest = max((_size(array.shape) for array in arrays), default=0)
    return GraphMemory(kept, peak, _inputs(nodes, parameters), largest, operator)


def unrecorded_peak(tape: Sequence[TapeNode], kept: int) -> int:
    """Return the largest memory during operators that autograd does not record.

    ``kept`` bytes remain after all operators have run; they are counted up to the size of the
    outputs recorded so far.
    """
    last = {number: i for i, node in enumerate(tape) for number in node.inputs}
    total = sum(sum(node.outputs.values()) for node in tape if node.recorded)
    recorded = now = peak = 0
    alive: dict[int, int] = {}
    for i, node in enumerate(tape):
        if node.recorded:
            recorded += sum(node.outputs.values())
        else:
            alive.update(node.outputs)
            now += sum(node.outputs.values())
            peak = max(peak, now + (kept * recorded // total if total else 0))
        for number in {*node.inputs, *node.outputs}:
            if last.get(number, i) <= i:
                now -= alive.pop(number, 0)
    return peak


def _array(number: int, text: str) -> Array:
    """Parse ``[2,3] (0 KB)``; the size of an element follows from both, and is 4 if unclear."""
    match = _ARRAY.search(text)
    if not match:
        return Array(number, (), 0)
    shape = tuple(int(side) for side in match[1].split(',') if side)
    count, kilobytes = _size(shape), int(match[2])
    item = next((size for size in _ITEM_SIZES if count * size // 1024 == kilobytes), 4)
    return Array(number, shape, count * item)


def _inputs(nodes: Sequence[Node], parameters: Iterable[Shape]) -> int:
    """Return the bytes of the inputs except parameters, which are recognised by their shapes."""
    made = {array.number for node in nodes for array in node.outputs}
    found = {array.number: array for node in nodes for array in node.inputs
             if array.number not in made}
    left, total = Counter(parameters), 0
    for array in found.values():
        if left[array.shape] > 0:
            left[array.shape] -= 1
        else:
            total += array.bytes
    return total


def _size(shape: Shape) -> int:
    count = 1
    for side in shape:
        count *= side
    return count
