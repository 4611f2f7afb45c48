"""Exported networks; each system's ``inference.py`` builds the predictor for its own network.

An exported network consists of a runner of its stages (``adaptis.deploy.backends``) and its
``attributes``, the numbers that an export stores beside the graphs.
"""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from adaptis.deploy.attributes import check_attributes
from adaptis.deploy.backends import named_input
from adaptis.errors import AdaptisError


class ExportedNetwork:
    """A network whose stages are files; a subclass knows what to do with their outputs.

    Parameters
    ----------
    runner : runs the stages
    attributes : what ``export_attributes`` returned

    Raises AdaptisError if an attribute is missing or has the wrong type.
    """

    attributes: Mapping[str, type]

    def __init__(self, runner: Any, attributes: Mapping[str, Any]):
        check_attributes(self.attributes, attributes)
        self._runner = runner
        for name in self.attributes:
            setattr(self, name, attributes[name])

    def run(self, stage: str, **inputs: Any) -> list[Any]:
        """Run a stage and return its outputs; ``inputs`` that it does not have are ignored."""
        if stage not in self._runner.stages:
            raise AdaptisError(f'The exported network has no stage "{stage}": export it again.')
        arrays = [named_input(stage, inputs, signature.name)
                  for signature in self._runner.stages[stage].inputs]
        outputs: list[Any] = self._runner.run(stage, *(
            a.astype(np.float32, copy=False) if isinstance(a, np.ndarray) else a for a in arrays))
        return outputs

    def encode(self, x: Any) -> Any:
        """Run the dense part on an image (1, 3, H, W) and return its outputs by name."""
        return self.to_maps(self.run('encoder', image=x))   # type: ignore[attr-defined]

    def to_device(self, images: np.ndarray, ctx: Any = None) -> np.ndarray:
        """Return the images unchanged: the runner copies them to its device."""
        return images

    def check_weights(self) -> None:
        """Do nothing: non-finite weights are refused at export, and outputs are checked."""


def export_attributes(net: Any) -> dict[str, Any]:
    """Return the numbers that a network's exported stages need at inference, as plain data."""
    values = {name: getattr(net, name) for name in net.attributes}
    return {name: list(value) if isinstance(value, tuple) else value
            for name, value in values.items()}
