"""Turn the outputs of the unified network into a panoptic result.

Each pixel belongs to its most likely channel (section 3.4.2), unless the settings ask for the
heuristic of Panoptic FPN.
"""
from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Optional, Union

import numpy as np

from adaptis.types import PanopticResult, Segment, Taxonomy
from panoptic_baselines.classes import thing_to_class_index
from panoptic_baselines.layers.boxes import Size, clip, scale
from panoptic_baselines.layers.upsample import SEMANTIC_STRIDE, upsampled_labels
from panoptic_baselines.merge import Instances
from panoptic_baselines.predictor import Predictor
from panoptic_baselines.rcnn.inference import to_instances
from panoptic_baselines.rcnn.proposals import Detections
from panoptic_baselines.settings import BaseSettings


class MaskLogits(NamedTuple):
    """Detections of an image, mask logits (N, m, m), and the threshold of mask probabilities."""

    detections: Detections
    logits: np.ndarray
    threshold: float


class PanopticLogits(NamedTuple):
    """Panoptic logits (D + stuff, h, w) of an image, and the D detections that come first."""

    detections: Detections
    logits: np.ndarray


@dataclass
class UnifiedSegmentation:
    """What the network finds in one image; it can be used as a ``Segmentation``.

    Results at the size of the image are computed on demand, because the panoptic result needs
    neither the masks nor the semantic labels.

    Attributes
    ----------
    semantic : class logits (stuff + things, h, w) of the padded image
    size, output_size : (H, W) of the network's input without padding, and of the results
    masks, channels : mask logits and panoptic logits, or None
    """

    semantic: np.ndarray
    size: Size
    output_size: Size
    masks: Optional[MaskLogits] = None
    channels: Optional[PanopticLogits] = None

    @cached_property
    def labels(self) -> np.ndarray:
        """int32 (H, W): class indices according to the semantic branch alone."""
        return self._upsampled(self.semantic)

    @cached_property
    def channel_map(self) -> np.ndarray:
        """int32 (H, W): the channel that each pixel belongs to."""
        return self._upsampled(self.channels.logits)

    @cached_property
    def instances(self) -> Optional[Instances]:
        """Instances of the mask head; without a mask head, the things of the panoptic result."""
        if self.masks is not None:
            return to_instances(self.masks.detections, self.masks.logits, self.size,
                                self.output_size, self.masks.threshold)
        if self.channels is None:
            return None
        seen = self.channels.detections
        masks = self.channel_map == np.arange(len(seen.scores), dtype=np.int32)[:, None, None]
        boxes = clip(scale(seen.boxes, self.size, self.output_size), self.output_size)
        left = masks.any(axis=(1, 2))
        return Instances(boxes[left], seen.scores[left], seen.classes[left], masks[left])

    def _upsampled(self, logits: np.ndarray) -> np.ndarray:
        return upsampled_labels(logits, SEMANTIC_STRIDE, self.size, self.output_size)


class UnifiedPredictor(Predictor):
    """Segments images with the unified network; see ``Predictor``.

    Also raises AdaptisError if the settings ask for the heuristic and the network has no masks.
    """

    def __init__(self, net: Any, taxonomy: Taxonomy,
                 settings: Union[str, BaseSettings] = 'coco', ctx: Any = None):
        super().__init__(net, taxonomy, settings, ctx)
        net.check_masks(self.settings)

    def _merge(self, found: Any) -> PanopticResult:
        if self.settings.merge == 'heuristic':
            return super()._merge(found)
        return to_result(found.channel_map, found.channels.detections, self.taxonomy,
                         self.settings.stuff_area_limit)


def to_result(channel_map: np.ndarray, detections: Detections, taxonomy: Taxonomy,
              stuff_area_limit: int = 0) -> PanopticResult:
    """Convert a channel map (H, W) to a panoptic result; detections come first, then stuff.

    Stuff segments with fewer pixels than ``stuff_area_limit`` become void (appendix C).  Segment
    ids start at 1.  Things have the scores of their detections, and stuff has score 1.
    """
    things = len(detections.scores)
    classes = [*thing_to_class_index(detections.classes, taxonomy), *range(taxonomy.num_stuff)]
    areas = np.bincount(channel_map.ravel(), minlength=len(classes))
    ids = np.zeros(len(classes), np.int32)
    segments: list[Segment] = []
    for channel in np.flatnonzero(areas):
        is_thing = bool(channel < things)
        if not is_thing and areas[channel] < stuff_area_limit:
            continue
        ids[channel] = len(segments) + 1
        category = taxonomy.categories[classes[channel]]
        segments.append(Segment(len(segments) + 1, category.id, is_thing,
                                float(detections.scores[channel]) if is_thing else 1.0,
                                int(areas[channel]), category.name))
    return PanopticResult(ids[channel_map], segments)
