"""The inference settings of dense detections, with a preset per data set."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from panoptic_baselines.settings import CITYSCAPES, TOY, BaseSettings, one_of


@dataclass(frozen=True)
class DenseDetectionsSettings(BaseSettings):
    """Settings of dense detections.

    The defaults come from the paper, or from the official code where the paper is silent.

    Attributes
    ----------
    score_threshold : threshold of the class probability, without centerness
    candidates_per_level : maximum number of candidates per level before NMS
    agnostic_nms_threshold : IoU threshold of a second NMS across classes; 1 = none, because the
        paper describes a single NMS (official code: 0.97)
    mask_threshold : sigma of equation 7 (appendix A; official code: 0.4)
    location : measure of the location probability: 'iou' (equation 6), or 'giou', the smoothed
        generalised IoU of the official code
    """

    nms_threshold: float = 0.6             # official
    mask_threshold: float = 0.3            # paper A
    candidates_per_level: int = 1000       # official
    agnostic_nms_threshold: float = 1.0    # paper 4.1
    location: str = one_of('iou', 'giou')  # paper 3.2, equation 6


_OFFICIAL: dict[str, Any] = dict(location='giou', mask_threshold=0.4, agnostic_nms_threshold=0.97)

DENSE_DETECTIONS_PRESETS: dict[str, BaseSettings] = {
    # paper 5.4: a longer side of 1333
    'coco': DenseDetectionsSettings(short_side=1333, max_side=1333),
    # paper 5.4: images at their own size; the minimum score is official
    'cityscapes': DenseDetectionsSettings(**CITYSCAPES, score_threshold=0.06),
    'cityscapes_official': DenseDetectionsSettings(**CITYSCAPES, **_OFFICIAL, score_threshold=0.06),
    'toy': DenseDetectionsSettings(**TOY)}
"""Settings of dense detections by name."""
