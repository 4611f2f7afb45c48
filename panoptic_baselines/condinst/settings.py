"""The inference settings of CondInst, with a preset per data set."""
from __future__ import annotations

from dataclasses import dataclass

from panoptic_baselines.settings import CITYSCAPES, TOY, BaseSettings, one_of


@dataclass(frozen=True)
class CondInstSettings(BaseSettings):
    """Settings of CondInst.

    The IoU of suppression, the number of detections and the thresholds of the panoptic result are
    from sections 2.4 and 2.5, the others from the official code.

    Attributes
    ----------
    score_threshold : of class probability times centerness, before the square root
    candidates_per_level : number of the best candidates that enter the suppression
    nms : whether detections suppress each other by the IoU of their 'box' or 'mask'
    """

    nms_threshold: float = 0.6
    instance_score: float = 0.45
    overlap_threshold: float = 0.4
    candidates_per_level: int = 1000
    nms: str = one_of('box', 'mask')


CONDINST_PRESETS: dict[str, BaseSettings] = {
    'coco': CondInstSettings(), 'cityscapes': CondInstSettings(**CITYSCAPES),
    'toy': CondInstSettings(**TOY)}
"""Settings of CondInst by name."""
