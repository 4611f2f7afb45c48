"""Read YAML that others wrote: plain data, every key once, and no more of it than memory holds."""
from __future__ import annotations

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from adaptis.errors import AdaptisError
from adaptis.files import PathLike

_Safe = getattr(yaml, 'CSafeLoader', yaml.SafeLoader)   # many times faster, if it is there
_SURROGATE = re.compile(r'\\u[dD][89a-fA-F]')
MOST_NODES = 1_000_000
"""Keys and values of a document with every alias written out."""


def read_yaml(path: PathLike) -> Any:
    """Return the content of a YAML file.

    Raises AdaptisError, naming the file, if it cannot be read, is not YAML, has a key twice, or
    grows beyond ``MOST_NODES`` by aliases.
    """
    try:
        text = Path(path).read_text(encoding='utf-8-sig')
    except OSError as error:
        raise AdaptisError(f'{path} cannot be read: {error.strerror}.') from error
    except UnicodeDecodeError as error:
        raise AdaptisError(f'{path} is not YAML: it is no text in UTF-8.') from error
    try:
        return parse_yaml(text)
    except ValueError as error:
        raise AdaptisError(f'{path} {error}.') from error


def parse_yaml(text: str) -> Any:
    """Return the data of a YAML document; ValueError, which says what the text is, if it is bad."""
    # Bytes of a file's name that are no UTF-8 are written as half a surrogate pair, which libyaml
    # refuses.
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
    except (ValueError, ArithmeticError) as error:   # a date or number that there is not
        raise yaml.YAMLError(str(error)) from error


def _check(node: yaml.Node, sizes: dict[int, int]) -> int:
    """Return how many nodes there are with every alias written out; check keys on the way."""
    if id(node) in sizes:
        return sizes[id(node)]
    sizes[id(node)] = MOST_NODES   # what a node that holds itself would grow to
    children = []
    if isinstance(node, yaml.MappingNode):
        _check_keys(node)
        children = [child for pair in node.value for child in pair]
    elif isinstance(node, yaml.SequenceNode):
        children = node.value
    sizes[id(node)] = size = 1 + sum(_check(child, sizes) for child in children)
    if size > MOST_NODES:
        raise ValueError(f'holds more than {MOST_NODES:,} values once its aliases are written out')
    return size


def _check_keys(node: yaml.MappingNode) -> None:
    seen: set[Hashable] = set()
    for key, _value in node.value:
        name = (key.tag, key.value) if isinstance(key, yaml.ScalarNode) else id(key)
        if name in seen:
            raise ValueError(f'has the key "{key.value}" twice in one place, the second time in '
                             f'line {key.start_mark.line + 1}')
        seen.add(name)
