"""Every threshold of inference of dense detections, named, with a preset for each data set."""
from __future__ import annotations

from dataclasses import dataclass

from panoptic_baselines.settings import CITYSCAPES, TOY, BaseSettings, one_of


@dataclass(frozen=True)
class DenseDetectionsSettings(BaseSettings):
    """AdaptISSettings of dense detections; what the paper has otherwise is said.

    Attributes
    ----------
    score_threshold : of the class probability alone
    candidates_per_level : so many of the best ones enter the suppression
    agnostic_nms_threshold : afterwards, detections of whatever class suppress each other above
        this IoU (official code; the paper has one suppression)
    mask_threshold : sigma of equation 7 (0.4 of the official code; appendix A has 0.3)
    location : how the location probability of equation 6 is measured: by the smoothed generalised
        IoU of the official code, or by the IoU of the paper
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
"""AdaptISSettings of dense detections by name."""
