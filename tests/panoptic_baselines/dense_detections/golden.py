"""Reading the golden data of the official dense detections, and comparing with it."""
from __future__ import annotations

from typing import Any

import numpy as np

from adaptis.runtime import mx
from adaptis.types import Category, Taxonomy
from tests.golden import reading
from tests.panoptic_baselines.golden import unpack

LEVELS = [f'P{level}' for level in range(3, 8)]
CITYSCAPES = Taxonomy([Category(i, f'class {i}', i >= 11) for i in range(19)])


class Arrays(reading.Arrays):
    """The arrays of a file."""

    def nd(self, key: str) -> Any:
        """One of them as a batch of one."""
        return mx.nd.array(self.whole(key)[None])

    def levels(self, name: str) -> Any:
        """Those of all levels, each a batch of one."""
        return [self.nd(f'{name}_{level}') for level in LEVELS]

    def size(self) -> tuple[int, int]:
        """Height and width of the image of a case."""
        return tuple(self['masks_shape'][1:].tolist())

    def masks(self) -> np.ndarray:
        """bool (N, H, W): the packed ones of a case."""
        return unpack(self['masks_bits'], self.size())


def close(actual: Any, expected: np.ndarray, tolerance: float) -> None:
    """No value differs by more; a batch of one counts as its only member."""
    actual = actual.asnumpy()[0] if hasattr(actual, 'asnumpy') else actual
    actual, expected = reading.stored(actual, expected)
    assert np.abs(actual - expected).max() <= tolerance
