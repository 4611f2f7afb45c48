"""Sample images, drawn by ``toy_data`` on demand, and always the same."""
from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from adaptis.toy_data import ToySettings, render

COUNT = 6
SPLIT = 'test'
SEED = 2019


class Samples(NamedTuple):
    """The sample images of one data set.

    Attributes
    ----------
    version : version of ``toy_data``: 'v1', 'v2' or 'street'
    """

    version: str

    @property
    def names(self) -> Sequence[str]:
        """Their names on the page."""
        return [f'Sample {number}' for number in range(1, COUNT + 1)]

    def png(self, index: int) -> bytes:
        """Return a sample as a PNG file."""
        return _png(self.version, index)

    def ids(self, index: int) -> np.ndarray:
        """Return the ground-truth ids of a sample, (H, W), 0 = none."""
        return _draw(self.version, index)[1]


def _draw(version: str, index: int) -> tuple[np.ndarray, np.ndarray]:
    return render(ToySettings.default(version, seed=SEED), SPLIT, index)


@functools.lru_cache(maxsize=64)
def _png(version: str, index: int) -> bytes:
    image, _ = _draw(version, index)
    return cv2.imencode('.png', cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes()
