"""The inference settings of Panoptic FPN and Mask R-CNN, with a preset per data set."""
from __future__ import annotations

from dataclasses import dataclass

from panoptic_baselines.rcnn.settings import TwoStageSettings
from panoptic_baselines.settings import CITYSCAPES, TOY, BaseSettings


@dataclass(frozen=True)
class PanopticFPNSettings(TwoStageSettings):
    """Settings of Panoptic FPN and of Mask R-CNN."""


PANOPTIC_FPN_PRESETS: dict[str, BaseSettings] = {
    'coco': PanopticFPNSettings(),
    'cityscapes': PanopticFPNSettings(**CITYSCAPES),
    'toy': PanopticFPNSettings(**TOY)}
"""Settings of Panoptic FPN by name."""
