"""The extension of Griffe, the reader behind mkdocstrings, that rewrites docstrings."""
from __future__ import annotations

from typing import Any

import griffe

from docs.generate.docstrings import to_numpydoc


class Docstrings(griffe.Extension):
    """Rewrites every docstring; see ``to_numpydoc``."""

    def on_instance(self, *, obj: Any, **_: Any) -> None:
        """Rewrite the docstring of an object that Griffe has read."""
        if obj.docstring is not None:
            obj.docstring.value = to_numpydoc(obj.docstring.value)
