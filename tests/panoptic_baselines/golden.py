"""Reading the golden data of the official Panoptic FPN, and comparing with it."""
from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from adaptis.data.resize import SampledMap
from adaptis.runtime import mx
from panoptic_baselines.batches import measure_objects
from tests.golden.reading import Arrays, stored

LEVELS = range(2, 7)


class Case(NamedTuple):
    """Arrays and numbers of a case, and its image in RGB."""

    arrays: Arrays
    info: dict[str, Any]

    def image(self, key: str = 'image') -> np.ndarray:
        return np.ascontiguousarray(self.arrays[key][..., ::-1])

    def size(self, key: str) -> tuple[int, int]:
        return tuple(self.info[key])

    def nd(self, key: str) -> Any:
        return mx.nd.array(self.arrays.whole(key))


def load_case(kit: Path, name: str) -> Case:
    info = (kit / f'{name}.json').read_text()
    return Case(Arrays.load(kit / f'{name}.npz'), json.loads(info))


def unpack(bits: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """bool (N, H, W) of packed masks."""
    pixels = np.unpackbits(bits, axis=1)[:, :size[0] * size[1]]
    return pixels.reshape(-1, *size).astype(bool)


def mass_centers(masks: np.ndarray) -> np.ndarray:
    """The centers (G, 2) of masks (G, H, W), which may overlap: each is a layer of its own."""
    layers = masks * np.arange(1, 1 + len(masks))[:, None, None]
    whole = SampledMap(layers, *map(np.arange, layers.shape[1:]))
    return measure_objects(whole, len(masks)).centers


def gap(actual: Any, expected: np.ndarray) -> float:
    """The largest difference in standard deviations of what is expected."""
    actual, expected = stored(actual, expected)
    return float(np.abs(actual - expected).max() / expected.std())
