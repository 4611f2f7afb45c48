"""Docstrings as mkdocstrings wants them.

The code writes ``name : what it is, and its type`` in one line, and plain paragraphs after a
section.  numpydoc's form, which mkdocstrings reads, has a type behind the colon and the meaning in
the lines below, and nothing after the sections.
"""
from __future__ import annotations

import inspect
import re

SECTION = re.compile(r'^(Parameters|Attributes|Other Parameters)$')
RULE = re.compile(r'^-{3,}$')
ROLE = re.compile(r':\w+:`')   # :func:`name`, as Sphinx has it
ENTRY = re.compile(r'^(\*{0,2}\w[\w, *]*?) : (.+)$')


def to_numpydoc(text: str) -> str:
    """A docstring with the meaning of each entry below its name, and prose before the sections."""
    prose: list[str] = []
    sections: list[str] = []
    inside = False
    lines = inspect.cleandoc(text).splitlines()
    for number, line in enumerate(lines):
        following = lines[number + 1] if number + 1 < len(lines) else ''
        entry = ENTRY.match(line)
        if SECTION.match(line) and RULE.match(following):
            inside = True
            sections += ['', line]
        elif not inside:
            prose.append(line)
        elif entry:
            sections += [entry[1], f'    {entry[2]}']
        elif RULE.match(line) or not line.strip() or line.startswith(' '):
            sections.append(line)
        else:
            inside = False
            prose += ['', line]
    return ROLE.sub('`', '\n'.join([*prose, *sections]).replace('``', '`'))
