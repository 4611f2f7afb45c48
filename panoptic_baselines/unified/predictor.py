"""From the outputs of the unified network to a panoptic result.

Each pixel belongs to its likeliest channel, and that is all (section 3.4.2), unless the heuristic
of Panoptic FPN is asked for.
"""
from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Optional, Union

import numpy as np

from adaptis.types import PanopticResult, Segment, Taxonomy
from panoptic_baselines.classes import thing_index
from panoptic_baselines.layers.boxes import Size, clip, scale
from panoptic_baselines.layers.upsample import SEMANTIC_STRIDE, upsampled_labels
from panoptic_baselines.merge import Instances
from panoptic_baselines.predictor import Predictor
from panoptic_baselines.rcnn.inference import to_instances
from panoptic_baselines.rcnn.proposals import Detections
from panoptic_baselines.settings import BaseSettings


class Masks(NamedTuple):
    """Detections of an image with mask logits (N, m, m), and the threshold of probabilities."""

    detections: Detections
    logits: np.ndarray
    threshold: float


class Channels(NamedTuple):
    """Panoptic logits (D + stuff, h, w) of an image, and the D detections that come first."""

    detections: Detections
    logits: np.ndarray


@dataclass
class Found:
    """What the network finds in one image; serves as a ``Segmentation``.

    What is wanted at the size of the image is computed when it is asked for: the panoptic result
    needs neither the masks nor the semantic labels.

    Attributes
    ----------
    semantic : class logits (stuff + things, h, w) of the padded image
    size, output_size : (H, W) of the image in the network without padding, and of the results
    masks, channels : None where there are none
    """

    semantic: np.ndarray
    size: Size
    output_size: Size
    masks: Optional[Masks] = None
    channels: Optional[Channels] = None

    @cached_property
    def labels(self) -> np.ndarray:
        """int32 (H, W): class indices by the semantic branch alone."""
        return self._upsampled(self.semantic)

    @cached_property
    def winners(self) -> np.ndarray:
        """int32 (H, W): the channel that each pixel belongs to."""
        return self._upsampled(self.channels.logits)

    @cached_property
    def instances(self) -> Optional[Instances]:
        """Instances by the mask head; without one, the detections with their part of the panoptic
        result, which may be nothing."""
        if self.masks is not None:
            return to_instances(self.masks.detections, self.masks.logits, self.size,
                                self.output_size, self.masks.threshold)
        if self.channels is None:
            return None
        seen = self.channels.detections
        masks = self.winners == np.arange(len(seen.scores), dtype=np.int32)[:, None, None]
        boxes = clip(scale(seen.boxes, self.size, self.output_size), self.output_size)
        return Instances(boxes, seen.scores, seen.classes, masks)

    def _upsampled(self, logits: np.ndarray) -> np.ndarray:
        return upsampled_labels(logits, SEMANTIC_STRIDE, self.size, self.output_size)


class UnifiedPredictor(Predictor):
    """Segments images with the unified network; see ``Predictor``.

    Raises AdaptisError also if the heuristic is asked for that this network has no masks for.
    """

    def __init__(self, net: Any, taxonomy: Taxonomy,
                 settings: Union[str, BaseSettings] = 'coco', ctx: Any = None):
        super().__init__(net, taxonomy, settings, ctx)
        net.demand_masks(self.settings)

    def _merge(self, found: Any) -> PanopticResult:
        if self.settings.merge == 'heuristic':
            return super()._merge(found)
        return to_result(found.winners, found.channels.detections, self.taxonomy,
                         self.settings.stuff_area_limit)


def to_result(winners: np.ndarray, detections: Detections, taxonomy: Taxonomy,
              stuff_area_limit: int = 0) -> PanopticResult:
    """The panoptic result of the channels (H, W) that win: those of detections, then of stuff.

    Segments of stuff with fewer pixels than ``stuff_area_limit`` become void (appendix C).
    Segments count from 1 and have the scores of detections, those of stuff 1.
    """
    things = len(detections.scores)
    classes = [*thing_index(detections.classes, taxonomy), *range(taxonomy.num_stuff)]
    areas = np.bincount(winners.ravel(), minlength=len(classes))
    ids = np.zeros(len(classes), np.int32)
    segments: list[Segment] = []
    for channel in np.flatnonzero(areas):
        is_thing = bool(channel < things)
        if not is_thing and areas[channel] < stuff_area_limit:
            continue
        ids[channel] = len(segments) + 1
        segments.append(Segment(len(segments) + 1, taxonomy.categories[classes[channel]].id,
                                is_thing, float(detections.scores[channel]) if is_thing else 1.0,
                                int(areas[channel])))
    return PanopticResult(ids[winners], segments)
