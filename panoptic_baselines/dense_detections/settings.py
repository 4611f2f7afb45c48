"""The inference settings of dense detections, with a preset per data set."""
from __future__ import annotations

from dataclasses import dataclass

from panoptic_baselines.settings import CITYSCAPES, TOY, BaseSettings, one_of


@dataclass(frozen=True)
class DenseDetectionsSettings(BaseSettings):
    """Settings of dense detections; where the paper differs, the attribute says so.

    Attributes
    ----------
    score_threshold : of the class probability alone
    candidates_per_level : number of the best candidates that enter the suppression
    agnostic_nms_threshold : afterwards, detections of different classes also suppress each other
        above this IoU (official code; the paper has one suppression)
    mask_threshold : sigma of equation 7 (official code: 0.4; appendix A: 0.3)
    location : measure of the location probability of equation 6: 'giou', the smoothed generalised
        IoU of the official code, or 'iou', the IoU of the paper
    """

    nms_threshold: float = 0.6
    mask_threshold: float = 0.4
    candidates_per_level: int = 1000
    agnostic_nms_threshold: float = 0.97
    location: str = one_of('giou', 'iou')


DENSE_DETECTIONS_PRESETS: dict[str, BaseSettings] = {
    'coco': DenseDetectionsSettings(),
    'cityscapes': DenseDetectionsSettings(**CITYSCAPES, score_threshold=0.06),
    'toy': DenseDetectionsSettings(**TOY)}
"""Settings of dense detections by name."""
