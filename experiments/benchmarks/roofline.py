"""Multiply-adds and bytes of a graph, and the minimum time that a device needs for them.

The roofline model (Williams, Waterman and Patterson, 2009): a device has a peak of operations per
second and a peak of bytes per second, so a stage takes at least the longer of the two times.  Real
times are longer; this is a bound.
"""
from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from adaptis.engine.memory_sizes import data_facts
from adaptis.registry import find_family
from adaptis.types import Taxonomy

FLOAT, HALF = 4, 2   # bytes


class Device(NamedTuple):
    """A GPU according to its data sheet.

    Attributes
    ----------
    flops : 10^12 operations per second by kind of number; a multiply-add is two operations
    bandwidth : memory bandwidth in 10^9 bytes per second
    source : source of these numbers
    """

    name: str
    flops: Mapping[str, float]
    bandwidth: float
    source: str


PRECISIONS = {'float32': FLOAT, 'TF32': FLOAT, 'amp': HALF}
"""Maps a precision to the number of bytes of a value in memory."""

DEVICES = (
    Device('RTX 3090', {'float32': 35.6, 'TF32': 35.6, 'amp': 71.0}, 936.0,
           'NVIDIA Ampere GA102 GPU Architecture, white paper, table of the GeForce RTX 3090: '
           'without sparsity; float16 with sums in float32'),
    Device('A100 40 GB', {'float32': 19.5, 'TF32': 156.0, 'amp': 312.0}, 1555.0,
           'NVIDIA A100 Tensor Core GPU, data sheet, 40 GB: without sparsity'))


class Cost(NamedTuple):
    """The cost of a part of a network.

    Attributes
    ----------
    multiply_adds : multiply-adds of convolutions, dense layers and matrix products
    weights : number of their weights
    least : values that these operators read and write, including weights, each counted once; this
        is what remains if all other operators are fused into them
    moved : values that all operators read and write one by one, as MXNet runs them
    """

    multiply_adds: int = 0
    weights: int = 0
    least: int = 0
    moved: int = 0

    def plus(self, other: Cost) -> Cost:
        """Return the sum of two parts."""
        return Cost(*(a + b for a, b in zip(self, other)))

    def bound(self, device: Device, precision: str, fused: bool = True) -> float:
        """Return the minimum seconds on a device.

        ``fused`` : whether ``least`` values are moved, or ``moved``
        """
        moved = (self.least if fused else self.moved) * PRECISIONS[precision]
        return max(2e-12 * self.multiply_adds / device.flops[precision],
                   1e-9 * moved / device.bandwidth)

    def intensity(self, precision: str) -> float:
        """Return operations per byte, with everything fused; infinite if nothing moves."""
        bytes_ = self.least * PRECISIONS[precision]
        return 2 * self.multiply_adds / bytes_ if bytes_ else math.inf


def total(costs: Iterable[Cost]) -> Cost:
    """Return the total cost."""
    return functools.reduce(Cost.plus, costs, Cost())


def graph_costs(graph: Any, labels: Mapping[str, str], other: str) -> dict[str, Cost]:
    """Return the cost of each part of a graph (``adaptis.model.graph.Graph``).

    ``labels`` maps a parameter's name to its part.  An operator without parameters belongs to the
    part that its last input comes from, or to ``other`` if there is no such input.
    """
    from adaptis.model.graph import VIEWS, Graph, multiply_adds  # loads MXNet
    found: dict[str, Cost] = {}
    parts: list[str] = []
    seen: set[str] = set()
    for node in graph.nodes:
        if node.op == 'null':
            parts.append(labels.get(node.name, ''))
            continue
        parameters = [graph.nodes[number] for number in node.inputs
                      if graph.nodes[number].name in labels]
        given = [parts[number] for number in reversed(node.inputs)]
        part = labels[parameters[0].name] if parameters else next(filter(None, given), other)
        parts.append(part)
        if node.op in VIEWS:
            continue
        counted = multiply_adds(Graph([node], [], []))
        numbers = sum(map(math.prod, node.read)) + math.prod(node.shapes[0])
        weights = sum(math.prod(parameter.shapes[0]) for parameter in parameters
                      if parameter.name not in seen)   # a head may look at several maps
        seen.update(parameter.name for parameter in parameters)
        found[part] = found.get(part, Cost()).plus(
            Cost(counted, weights, numbers if counted else 0, numbers))
    return found


def network(recipe: Any) -> tuple[Any, Any, Taxonomy]:
    """Return the network of a config (uninitialised), its family and the classes of its data."""
    taxonomy, _ = data_facts(recipe)
    family = find_family(recipe.model['name'])
    options = {**family.class_counts(taxonomy), **recipe.model}
    for key in ('name', 'pretrained_base', 'pretrained'):
        options.pop(key, None)
    return family.get_model(recipe.model['name'], **options), family, taxonomy
