"""What Panoptic FPN and the unified network have in common: the thresholds of proposals."""
from __future__ import annotations

from dataclasses import dataclass

from panoptic_baselines.settings import BaseSettings


@dataclass(frozen=True)
class TwoStageSettings(BaseSettings):
    """AdaptISSettings of a system that refines proposals.

    Attributes
    ----------
    proposals_per_level, proposals : boxes that enter and leave the proposals' suppression
    proposal_nms : proposals of a level suppress each other above this IoU
    """

    proposals_per_level: int = 1000
    proposals: int = 1000
    proposal_nms: float = 0.7
