"""The input of the greedy algorithm: the maps of one image, and masks on demand."""
from __future__ import annotations

from typing import Optional

import numpy as np


class EncodedImage:
    """One image after the feature extractor.  Subclasses set the maps and compute masks at points.

    Attributes
    ----------
    stuff_prob : float32 (S, H, W), probabilities of the stuff classes
    things_prob : float32 (T, H, W), probabilities of the thing classes
    proposals_prob : float32 (H, W) in [0, 1], or None if the network has no proposal branch
    batch_size : maximum number of points that are computed together; None = no limit
    """

    stuff_prob: np.ndarray
    things_prob: np.ndarray
    proposals_prob: Optional[np.ndarray] = None
    batch_size: Optional[int] = None

    def masks_at(self, points: np.ndarray) -> np.ndarray:
        """Return the probability that a pixel belongs to the object at each point.

        ``points`` is float32 (N, 2): (row, col) in pixels of the image.  The result is float32
        (N, H, W); the caller may change it.
        """
        raise NotImplementedError

    def drop_maps(self) -> None:
        """Drop the maps; only masks are needed from now on."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the image."""
        return self.things_prob.shape[1:]


class FlipAveraged(EncodedImage):
    """The average of an image and its mirror image.

    Parameters
    ----------
    plain, mirrored : the image, and the image flipped left to right, each in its own coordinates;
        their maps are dropped
    official : mirror a point's column to W - col as the official code does, not to W - 1 - col
    """

    def __init__(self, plain: EncodedImage, mirrored: EncodedImage, official: bool = False):
        self._plain, self._mirrored = plain, mirrored
        self.batch_size = plain.batch_size
        self._mirror = np.float32(plain.size[1] - (0 if official else 1))
        self.stuff_prob = _average(plain.stuff_prob, mirrored.stuff_prob)
        self.things_prob = _average(plain.things_prob, mirrored.things_prob)
        if plain.proposals_prob is not None:
            self.proposals_prob = _average(plain.proposals_prob, mirrored.proposals_prob)
        plain.drop_maps()
        mirrored.drop_maps()

    def masks_at(self, points: np.ndarray) -> np.ndarray:
        points = np.asarray(points, dtype=np.float32)
        there = np.stack([points[:, 0], self._mirror - points[:, 1]], axis=1)
        masks = self._plain.masks_at(points)
        return _average(masks, self._mirrored.masks_at(there), out=masks)


def _average(plain: np.ndarray, mirrored: np.ndarray,
             out: Optional[np.ndarray] = None) -> np.ndarray:
    total = np.add(plain, mirrored[..., ::-1], out=out)
    total *= np.float32(0.5)
    return total
