"""The image normalisation with which the dense parts of all networks begin."""
from __future__ import annotations

from collections.abc import Sequence

from adaptis.runtime import mx


class ImageEncoder(mx.gluon.HybridBlock):
    """The dense part of a network as one graph; ``mean`` and ``std`` are RGB."""

    def __init__(self, mean: Sequence[float], std: Sequence[float]):
        super().__init__()
        self._mean, self._std = mean, std

    def normalize(self, F, x):
        """Convert RGB 0..255 (B, 3, H, W) to BGR, subtract the mean, divide by the deviation."""
        channels = [(F.slice_axis(x, axis=1, begin=i, end=i + 1) - mean) / std
                    for i, (mean, std) in enumerate(zip(self._mean, self._std))]
        return F.concat(*reversed(channels), dim=1)
