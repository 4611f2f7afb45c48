"""Imports follow the layers, have no cycles, and are inside a function only for a reason."""
from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
LAYERS = ('toy_data', 'adaptis', 'panoptic_baselines', 'experiments')
MODULES = {'.'.join(path.relative_to(ROOT).with_suffix('').parts).removesuffix('.__init__'): path
           for layer in LAYERS for path in sorted((ROOT / layer).rglob('*.py'))}


class Import(NamedTuple):
    """A module that is imported, on which line, and whether inside a function."""

    name: str
    line: int
    local: bool


def imports_of(module: str) -> list[Import]:
    """Everything that a module imports, its functions' imports included."""
    tree = ast.parse(MODULES[module].read_text(encoding='utf-8'))
    local = {child for node in ast.walk(tree)
             if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
             for child in ast.walk(node)}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = '.'.join(filter(None, [_package(module, node.level), node.module]))
            names = [f'{start}.{alias.name}' for alias in node.names]
        else:
            names = []
        found += [Import(name, node.lineno, node in local) for name in names]
    return found


def _package(module: str, level: int) -> str:
    """The package that the dots of a relative import stand for, '' without dots."""
    is_package = MODULES[module].name == '__init__.py'
    return '.'.join(module.split('.')[:1 - level - (not is_package) or None]) if level else ''


IMPORTS = {module: imports_of(module) for module in MODULES}


def loaded_by(module: str) -> set[str]:
    """The modules of this project that one loads: what it imports, and the packages around that.

    A package that holds the module itself is being loaded already.
    """
    found = set()
    for name, *_ in IMPORTS[module]:
        while name and name not in MODULES:
            name = name.rpartition('.')[0]
        while name and not f'{module}.'.startswith(f'{name}.'):
            found.add(name)
            name = name.rpartition('.')[0]
    return found


@pytest.mark.parametrize('module', MODULES)
def test_imports_run_downwards(module: str) -> None:
    layer = LAYERS.index(module.split('.')[0])
    assert {name for name in loaded_by(module)
            if LAYERS.index(name.split('.')[0]) > layer} == set()


def test_no_modules_import_each_other_in_a_circle() -> None:
    try:
        TopologicalSorter({module: loaded_by(module) for module in MODULES}).prepare()
    except CycleError as error:
        pytest.fail('a circle of imports: ' + ' <- '.join(error.args[1]))


@pytest.mark.parametrize('module', MODULES)
def test_an_import_inside_a_function_has_its_reason_beside_it(module: str) -> None:
    """The reason is a comment on the line, or above the first of several such lines."""
    lines = MODULES[module].read_text(encoding='utf-8').splitlines()
    local = {entry.line for entry in IMPORTS[module] if entry.local}
    bare = []
    for line in sorted(local):
        first = line
        while first - 1 in local:
            first -= 1
        above = lines[first - 2].strip()
        if not any('#' in lines[k - 1] for k in range(first, line + 1)) and above[:1] != '#':
            bare.append(f'{module}:{line}')
    assert bare == []
