"""The inference settings of CondInst, with a preset per data set."""
from __future__ import annotations

from dataclasses import dataclass

from panoptic_baselines.settings import CITYSCAPES, TOY, BaseSettings, one_of


@dataclass(frozen=True)
class CondInstSettings(BaseSettings):
    """Settings of CondInst.

    The NMS threshold, the number of detections and the thresholds of the panoptic result come from
    sections 2.4 and 2.5, the others from the official code.

    Attributes
    ----------
    score_threshold : threshold of class probability times centerness, before the square root
    candidates_per_level : maximum number of candidates per level before NMS
    nms : whether NMS compares the IoU of a 'box' or of a 'mask'
    """

    nms_threshold: float = 0.6          # paper 2.4, like the 100 detections
    instance_score: float = 0.45        # paper 2.5
    overlap_threshold: float = 0.4      # paper 2.5
    candidates_per_level: int = 1000    # official
    nms: str = one_of('box', 'mask')


CONDINST_PRESETS: dict[str, BaseSettings] = {
    'coco': CondInstSettings(), 'cityscapes': CondInstSettings(**CITYSCAPES),
    'toy': CondInstSettings(**TOY)}
"""Settings of CondInst by name."""
