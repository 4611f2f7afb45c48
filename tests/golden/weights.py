"""The weights of golden cases, generated from the official names instead of being stored.

``names.json`` of a case lists ``{"name", "shape", "rule"}`` in the official order.  The rules:

``weight`` or ``weight:GAIN``
    normal, of deviation ``sqrt(GAIN / fan in)``
``scale``
    ``1 + 0.1 * normal``
``bias``, ``mean``
    ``0.1 * normal``
``var``
    ``1 + 0.25 * uniform``
``const:VALUE``, ``linspace``, ``bilinear``
    one value; ``i / size``; the kernel that doubles a map
"""
from __future__ import annotations

import json
import lzma
import zlib
from pathlib import Path
from typing import Any

import numpy as np

PACKED = '.xz'   # after the name of a file
_FIXED = {
    'const': lambda shape, value: np.full(shape, float(value)),
    'linspace': lambda shape, _: np.arange(np.prod(shape)).reshape(shape) / np.prod(shape),
    'bilinear': lambda shape, _: np.broadcast_to(np.outer(*[[0.25, 0.75, 0.75, 0.25]] * 2), shape),
}
_RANDOM = {
    'weight': lambda random, shape, gain: random.standard_normal(shape) * np.sqrt(
        float(gain or 1) / (int(np.prod(shape[1:])) or 1)),
    'scale': lambda random, shape, _: 1 + 0.1 * random.standard_normal(shape),
    'bias': lambda random, shape, _: 0.1 * random.standard_normal(shape),
    'mean': lambda random, shape, _: 0.1 * random.standard_normal(shape),
    'var': lambda random, shape, _: 1 + 0.25 * random.random_sample(shape),
}


def fill(name: str, shape: list[int] | tuple[int, ...], rule: str) -> np.ndarray:
    """float32 of this shape: the parameter of this official name; a KeyError for another rule."""
    kind, _, value = rule.partition(':')
    shape = tuple(int(side) for side in shape)
    if kind in _FIXED:
        return _FIXED[kind](shape, value).astype(np.float32)
    random = np.random.RandomState(zlib.crc32(name.encode()) & 0x7FFFFFFF)
    return np.asarray(_RANDOM[kind](random, shape, value), np.float32)


def entries(names: Path) -> list[dict[str, Any]]:
    """What ``names.json`` lists; the small set holds it compressed."""
    packed = names.with_name(names.name + PACKED)
    text = lzma.decompress(packed.read_bytes()) if packed.exists() else names.read_text()
    return json.loads(text)


def load(names: Path) -> dict[str, np.ndarray]:
    """What an official checkpoint of these names would hold: official name -> float32 array."""
    return {entry['name']: fill(**entry) for entry in entries(names)}
