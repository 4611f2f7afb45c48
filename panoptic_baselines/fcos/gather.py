"""Join the outputs of all levels of a pyramid, and gather those of some locations."""
from __future__ import annotations

from typing import Any

from adaptis.runtime import mx


def flatten_levels(F: Any, maps: Any) -> Any:
    """Return (B, N, C) of maps (B, C, h, w), level by level, by row and column."""
    return F.transpose(F.concat(*[F.reshape(x, (0, 0, -1)) for x in maps], dim=2), (0, 2, 1))


class GatherLocations(mx.gluon.HybridBlock):
    """The outputs (P, C) of L maps (B, C, h, w) at some locations.

    ``index`` (2, P) has their images and their numbers, counted over all levels.
    """

    def hybrid_forward(self, F, index, *maps):
        return F.gather_nd(flatten_levels(F, maps), index)
