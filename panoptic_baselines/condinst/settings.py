"""Every threshold of inference of CondInst, named, with a preset for each data set."""
from __future__ import annotations

from dataclasses import dataclass

from panoptic_baselines.settings import CITYSCAPES, TOY, BaseSettings, one_of


@dataclass(frozen=True)
class CondInstSettings(BaseSettings):
    """AdaptISSettings of CondInst.

    The suppression is section 2.4's, the thresholds of the panoptic result are section 2.5's; the
    others are official.

    Attributes
    ----------
    score_threshold : of class times centre-ness probability, before the root is taken of it
    candidates_per_level : so many of the best ones enter the suppression
    nms : whether the IoU of boxes or of masks decides which detections suppress each other
    """

    nms_threshold: float = 0.6          # paper 2.4, as the 100 detections
    instance_score: float = 0.45        # paper 2.5
    overlap_threshold: float = 0.4      # paper 2.5
    candidates_per_level: int = 1000    # official
    nms: str = one_of('box', 'mask')


CONDINST_PRESETS: dict[str, BaseSettings] = {
    'coco': CondInstSettings(), 'cityscapes': CondInstSettings(**CITYSCAPES),
    'toy': CondInstSettings(**TOY)}
"""AdaptISSettings of CondInst by name."""
