"""The settings that Panoptic FPN and the unified network share: the thresholds of proposals."""
from __future__ import annotations

from dataclasses import dataclass

from panoptic_baselines.settings import BaseSettings


@dataclass(frozen=True)
class TwoStageSettings(BaseSettings):
    """Settings of a system that refines proposals.

    Attributes
    ----------
    proposals_per_level, proposals : numbers of boxes before and after the proposals' suppression
    proposal_nms : proposals of a level suppress each other above this IoU
    """

    proposals_per_level: int = 1000
    proposals: int = 1000
    proposal_nms: float = 0.7
