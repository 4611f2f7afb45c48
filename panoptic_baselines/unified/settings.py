"""The inference settings of the unified network, with a preset per data set."""
from __future__ import annotations

from dataclasses import dataclass

from panoptic_baselines.rcnn.settings import TwoStageSettings
from panoptic_baselines.settings import CITYSCAPES, TOY, BaseSettings, one_of


@dataclass(frozen=True)
class UnifiedSettings(TwoStageSettings):
    """Settings of the unified network.

    Attributes
    ----------
    instance_score : detections with a score above this get a channel (appendix B)
    merge : 'unified' takes the most likely channel of each pixel; 'heuristic' merges like Panoptic
        FPN, with the same network (models C1 and D1 of table 1)
    stuff_area_limit : stuff segments with fewer pixels become void (appendix C); 0 = off
    """

    instance_score: float = 0.75
    stuff_area_limit: int = 0
    merge: str = one_of('unified', 'heuristic')


UNIFIED_PRESETS: dict[str, BaseSettings] = {
    'coco': UnifiedSettings(),
    'cityscapes': UnifiedSettings(**{**CITYSCAPES, 'stuff_area_limit': 0}, instance_score=0.5),
    'toy': UnifiedSettings(**TOY, instance_score=0.5)}
"""Settings of the unified network by name."""
