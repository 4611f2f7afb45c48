"""The settings that Panoptic FPN and the unified network share: thresholds of proposals."""
from __future__ import annotations

from dataclasses import dataclass

from panoptic_baselines.settings import BaseSettings


@dataclass(frozen=True)
class TwoStageSettings(BaseSettings):
    """Settings of a system that refines proposals.

    Attributes
    ----------
    proposals_per_level, proposals : maximum numbers of proposals before and after NMS
    proposal_nms : IoU threshold of NMS among the proposals of a level
    """

    proposals_per_level: int = 1000
    proposals: int = 1000
    proposal_nms: float = 0.7
