"""Join the outputs of all levels of a pyramid, and gather the outputs at some locations."""
from __future__ import annotations

from typing import Any

from adaptis.runtime import mx


def flatten_levels(F: Any, maps: Any) -> Any:
    """Join maps (B, C, h, w) to (B, N, C), level by level, row by row."""
    return F.transpose(F.concat(*[F.reshape(x, (0, 0, -1)) for x in maps], dim=2), (0, 2, 1))


class GatherLocations(mx.gluon.HybridBlock):
    """Gathers the outputs (P, C) of L maps (B, C, h, w) at some locations.

    ``index`` (2, P) holds their images and their numbers, counted over all levels.
    """

    def hybrid_forward(self, F, index, *maps):
        return F.gather_nd(flatten_levels(F, maps), index)
