"""Reading the golden data of the official CondInst, and comparing with it."""
from __future__ import annotations

from typing import Any

import numpy as np

from adaptis.runtime import mx
from panoptic_baselines.fcos.decode import Candidates
from tests.golden.reading import Arrays, stored

LEVELS = range(3, 8)
STRIDES = tuple(2 ** level for level in LEVELS)


class Data(Arrays):
    """The arrays of a file."""

    def nd(self, key: str) -> Any:
        return mx.nd.array(self.whole(key))

    def size(self, key: str) -> tuple[int, int]:
        return tuple(self[key].tolist())

    def image(self) -> np.ndarray:
        """RGB."""
        return np.ascontiguousarray(self['image_bgr'][..., ::-1])

    def levels(self, key: str, image: int = 0) -> list[np.ndarray]:
        """Of each level the array whose name ``key`` makes."""
        return [self.whole(key.format(level))[image] for level in LEVELS]

    def dense(self) -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
        """Class logits, distances in pixels, centerness logits of a whole-network case."""
        distances = [x * stride for x, stride in zip(self.levels('reg_p{}'), STRIDES)]
        return self.levels('cls_logits_p{}'), distances, self.levels('ctr_p{}')

    def candidates(self, prefix: str) -> Candidates:
        """Official candidates or detections, their cells computed from the locations."""
        found = Candidates(*(self[f'{prefix}{part}'] for part in Candidates._fields[:-1]), None)
        return found._replace(cells=np.zeros(len(found.scores), int))


def close(actual: Any, expected: np.ndarray, tolerance: float) -> None:
    """Fails if shapes differ or a value does by more than ``tolerance``."""
    actual, expected = stored(actual, expected)
    assert np.isfinite(actual).all()
    difference = np.abs(actual.astype(float) - expected).max()
    assert difference <= tolerance, f'off by {difference:.3g}, allowed are {tolerance:.3g}'


def same_candidates(found: Candidates, expected: Candidates, boxes: float = 5e-3,
                    scores: float = 1e-5) -> np.ndarray:
    """Compares sets, matched by level, location and class; returns rows of ``expected``."""
    keys = [list(zip(c.levels.tolist(), *c.locations.T.tolist(), c.classes.tolist()))
            for c in (found, expected)]
    assert sorted(keys[0]) == sorted(keys[1])
    row = {key: i for i, key in enumerate(keys[1])}
    rows = np.array([row[key] for key in keys[0]], int)
    close(found.boxes, expected.boxes[rows], boxes)
    close(found.scores, expected.scores[rows], scores)
    return rows
