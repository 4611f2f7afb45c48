"""Outputs of all levels of a pyramid as one array, location after location."""
from __future__ import annotations

from typing import Any

from adaptis.runtime import mx


def flatten_levels(F: Any, maps: Any) -> Any:
    """(B, N, C) of maps (B, C, h, w)."""
    return F.transpose(F.concat(*[F.reshape(x, (0, 0, -1)) for x in maps], dim=2), (0, 2, 1))


class GatherLocations(mx.gluon.HybridBlock):
    """(P, C): some cells of L maps (B, C, h, w); (2, P) has their images and their numbers."""

    def hybrid_forward(self, F, index, *maps):
        return F.gather_nd(flatten_levels(F, maps), index)
