"""Helpers with which the systems describe the stages of a network for export.

Images are (1, 3, H, W), RGB, 0..255, padded (see ``Predictor``).  The graphs themselves subtract
the mean and divide by the standard deviation.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from adaptis.deploy.stages import Signature, Stage

IMAGE = Signature('image', (1, 3, 'H', 'W'))
BOXES = Signature('boxes', ('N', 4))
CLASSES = Signature('classes', ('N',))
EXAMPLE = {'H': 128, 'W': 256, 'h': 16, 'w': 24, 'N': 3, 'K': 5}


def make_stage(name: str, block: Any, inputs: Sequence[Signature],
               outputs: Sequence[str]) -> Stage:
    """Return a stage with an example size for every dynamic dimension."""
    varying: list[Any] = sorted({part for signature in inputs for part in signature.shape
                                 if isinstance(part, str)})
    example = {part: EXAMPLE[part] for part in varying}
    return Stage(name, block, tuple(inputs), tuple(outputs), example)


def level_names(name: str, first: int, last: int) -> list[str]:
    """Return the names of the maps of levels ``first`` to ``last``; each ends with its level."""
    return [f'{name}{level}' for level in range(first, last + 1)]
