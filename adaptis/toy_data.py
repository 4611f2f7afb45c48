"""Import the package ``toy_data``, which draws the toy problems, from the source tree or a wheel.

A wheel contains it inside this package instead of at the top level, where another package may have
the same name.  In the source tree it is beside this package.
"""
from __future__ import annotations

from pathlib import Path

if (Path(__file__).parent / '_toy_data').is_dir():
    from adaptis._toy_data import (
        COUNTS,
        DEFAULTS,
        SPLITS,
        ToySettings,
        degrade,
        generate,
        render,
    )
    from adaptis._toy_data.contact_sheet import street_sheet, write_contact_sheet, write_sheet
    from adaptis._toy_data.spawn import spawn_context
else:
    from toy_data import COUNTS, DEFAULTS, SPLITS, ToySettings, degrade, generate, render
    from toy_data.contact_sheet import street_sheet, write_contact_sheet, write_sheet
    from toy_data.spawn import spawn_context

__all__ = ['COUNTS', 'DEFAULTS', 'SPLITS', 'ToySettings', 'degrade', 'generate', 'render',
           'spawn_context', 'street_sheet', 'write_contact_sheet', 'write_sheet']
