"""Simplify an ONNX graph: remove the duplicates that converters of single operators create."""
from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any


def simplify(nodes: Sequence[Any], constants: Sequence[Any],
             outputs: Sequence[str]) -> tuple[list[Any], list[Any]]:
    """Return the nodes and constants (weights included) that are needed, each only once.

    ``outputs`` keep their names; other tensors may get the names of equal ones.  The nodes are
    changed in place.
    """
    same: dict[str, str] = {}
    constants = _once(constants, same)
    kept = []
    seen: dict[bytes, Any] = {}
    for node in nodes:
        node.input[:] = [same.get(name, name) for name in node.input]
        if node.output[0] in outputs:
            kept.append(node)
        elif node.op_type == 'Identity':
            same[node.output[0]] = node.input[0]
        else:
            first = seen.setdefault(_content(node, 'name', 'output'), node)
            if first is node:
                kept.append(node)
            same.update(zip(node.output, first.output))
    kept = _needed(kept, outputs)
    read = {name for node in kept for name in node.input}
    return kept, [constant for constant in constants if constant.name in read]


def _once(constants: Sequence[Any], same: dict[str, str]) -> list[Any]:
    """Return the constants without duplicates; ``same`` gets the names of the removed ones."""
    kept: dict[bytes, Any] = {}
    for constant in constants:
        same[constant.name] = kept.setdefault(_content(constant, 'name'), constant).name
    return list(kept.values())


def _content(message: Any, *names: str) -> bytes:
    """Return a digest of a node or constant without its own names."""
    nameless = type(message)()
    nameless.CopyFrom(message)
    for name in names:
        nameless.ClearField(name)
    return hashlib.sha256(nameless.SerializeToString(deterministic=True)).digest()


def _needed(nodes: Sequence[Any], outputs: Sequence[str]) -> list[Any]:
    """Return the nodes on which some output depends, in their order."""
    wanted, kept = set(outputs), []
    for node in reversed(nodes):
        if wanted.intersection(node.output):
            wanted.update(node.input)
            kept.append(node)
    return kept[::-1]
