"""Read untrusted YAML: only plain data, with unique keys and a limited size."""
from __future__ import annotations

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from adaptis.errors import AdaptisError
from adaptis.files import PathLike

_Safe = getattr(yaml, 'CSafeLoader', yaml.SafeLoader)   # many times faster, if available
_SURROGATE = re.compile(r'\\u[dD][89a-fA-F]')
MOST_NODES = 1_000_000
"""Limit of the number of keys and values of a document with all aliases expanded."""


def read_yaml(path: PathLike) -> Any:
    """Return the content of a YAML file.

    Raises AdaptisError, naming the file, if it cannot be read, is not YAML, has a duplicate key, or
    expands beyond ``MOST_NODES`` through aliases.
    """
    try:
        text = Path(path).read_text(encoding='utf-8-sig')
    except OSError as error:
        raise AdaptisError(f'{path} cannot be read: {error.strerror}.') from error
    except UnicodeDecodeError as error:
        raise AdaptisError(f'{path} is not YAML: it is not UTF-8 text.') from error
    try:
        return parse_yaml(text)
    except ValueError as error:
        raise AdaptisError(f'{path} {error}.') from error


def parse_yaml(text: str) -> Any:
    """Return the data of a YAML document; ValueError ('is not YAML ...') if it is invalid."""
    # Bytes of a file name that are not UTF-8 appear as half a surrogate pair, which libyaml
    # rejects.
    loader = (yaml.SafeLoader if _SURROGATE.search(text) else _Safe)(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _check(node, {})
        return _construct(loader, node)
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(f'is not YAML: {" ".join(str(error).split())}') from error
    finally:
        loader.dispose()


def _construct(loader: Any, node: yaml.Node) -> Any:
    try:
        return loader.construct_document(node)
    except (ValueError, ArithmeticError) as error:   # an impossible date or number
        raise yaml.YAMLError(str(error)) from error


def _check(node: yaml.Node, sizes: dict[int, int]) -> int:
    """Return the number of nodes with all aliases expanded, and check the keys."""
    if id(node) in sizes:
        return sizes[id(node)]
    sizes[id(node)] = MOST_NODES   # in case the node contains itself
    children = []
    if isinstance(node, yaml.MappingNode):
        _check_keys(node)
        children = [child for pair in node.value for child in pair]
    elif isinstance(node, yaml.SequenceNode):
        children = node.value
    sizes[id(node)] = size = 1 + sum(_check(child, sizes) for child in children)
    if size > MOST_NODES:
        raise ValueError(f'has more than {MOST_NODES:,} values with its aliases expanded')
    return size


def _check_keys(node: yaml.MappingNode) -> None:
    seen: set[Hashable] = set()
    for key, _value in node.value:
        name = (key.tag, key.value) if isinstance(key, yaml.ScalarNode) else id(key)
        if name in seen:
            raise ValueError(f'has the duplicate key "{key.value}" in line '
                             f'{key.start_mark.line + 1}')
        seen.add(name)
