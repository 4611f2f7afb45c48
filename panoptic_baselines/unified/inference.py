"""Inference of the unified network between its stages (Li, Qi, Torr 2020).

Section numbers are the paper's.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Optional

from adaptis.arrays import expit
from adaptis.errors import AdaptisError
from adaptis.types import Taxonomy
from panoptic_baselines.exported import ExportedNetwork
from panoptic_baselines.layers.boxes import Size
from panoptic_baselines.layers.upsample import SEMANTIC_STRIDE
from panoptic_baselines.predictor import check_finite
from panoptic_baselines.rcnn.inference import (
    NUM_LEVELS,
    TwoStageInference,
    filter_by_score,
)
from panoptic_baselines.rcnn.proposals import Detections
from panoptic_baselines.unified.predictor import (
    MaskLogits,
    PanopticLogits,
    UnifiedPredictor,
    UnifiedSegmentation,
)
from panoptic_baselines.unified.settings import UNIFIED_PRESETS, UnifiedSettings


class Maps(NamedTuple):
    """Outputs of the dense part for a batch; ``affinity`` is None without that head.

    ``features`` p2, ..., p6, from which the RoI heads pool; ``rpn_logits`` (B, A, h, w) and
    ``rpn_deltas`` (B, 4 * A, h, w) per level; ``semantic`` logits (B, stuff + things, H/4, W/4);
    ``affinity``, the features Q (B, C, H/4, W/4).
    """

    features: list[Any]
    rpn_logits: list[Any]
    rpn_deltas: list[Any]
    semantic: Any
    affinity: Optional[Any]


class UnifiedInference(TwoStageInference):
    """Inference of ``Unified``, given the outputs of its stages.

    The stages are those of ``TwoStageInference``, 'encoder', 'probabilities', 'potential' and, with
    an affinity head, 'affinity'.
    """

    presets, divisor = UNIFIED_PRESETS, 32
    has_instances = has_semantic = True
    merge_things = False
    attributes = {'num_things': int, 'num_stuff': int, 'mean': list, 'divisor': int,
                  'anchor_sizes': list, 'has_masks': bool, 'has_affinity': bool}

    if TYPE_CHECKING:
        num_stuff: int
        has_masks: bool
        has_affinity: bool

        def encode(self, x: Any) -> Maps: ...

    def to_maps(self, outputs: Sequence[Any]) -> Maps:
        """Return the outputs of the encoder by name."""
        outputs = list(outputs)
        affinity = outputs.pop() if self.has_affinity else None
        semantic = outputs.pop()
        return Maps(outputs[:NUM_LEVELS], outputs[NUM_LEVELS:2 * NUM_LEVELS],
                    outputs[2 * NUM_LEVELS:], semantic, affinity)

    def panoptic_logits(self, maps: Maps, index: int, size: Size, boxes: Any, classes: Any,
                        scores: Any, masks: Any = None) -> Any:
        """Return the logits of image ``index`` of a batch: (1, D + stuff, ceil(H/4), ceil(W/4)).

        The channels of the D detections come first, then those of stuff.  The result is
        differentiable in the maps, the scores and the masks.

        Parameters
        ----------
        size : (H, W) of the image without its padding, which has no effect
        boxes : (D, 4) in pixels of the network's input; D may be 0
        classes : (D,), 0 = the first thing class
        scores : (D,)
        masks : (D, m, m), mask probabilities, for a network with masks

        The arrays may be from NumPy or MXNet.
        """
        height, width = (-(-side // SEMANTIC_STRIDE) for side in size)
        logits = maps.semantic[index:index + 1, :, :height, :width]
        probabilities, = self.run('probabilities', logits=logits)
        potentials = self.potentials(probabilities, boxes, classes, scores, masks)
        if not self.has_affinity:
            return potentials
        features = maps.affinity[index:index + 1, :, :height, :width]
        return self.run('affinity', features=features, potentials=potentials)[0]

    def potentials(self, probabilities: Any, boxes: Any, classes: Any, scores: Any,
                   masks: Any = None) -> Any:
        """Return the output of ``Potential`` for one image, which may have no detections."""
        if not len(boxes):
            return probabilities[:, :self.num_stuff]
        return self.run('potential', probabilities=probabilities, boxes=boxes, classes=classes,
                        scores=scores, masks=masks)[0]

    def segment(self, x: Any, sizes: Sequence[Size], output_sizes: Sequence[Size],
                settings: UnifiedSettings,
                min_score: Optional[float] = 0.0) -> list[UnifiedSegmentation]:
        """See ``panoptic_baselines.predictor.Network``."""
        maps = self.encode(x)
        semantic = check_finite(maps.semantic, 'class logits')
        found = [UnifiedSegmentation(*parts) for parts in zip(semantic, sizes, output_sizes)]
        if min_score is None:
            return found
        self.check_masks(settings)
        unified = settings.merge == 'unified'
        least = min(min_score, settings.instance_score) if unified else min_score
        detections = [filter_by_score(each, least) for each in self.detect(maps, sizes, settings)]
        if self.has_masks:
            for image, seen, masks in zip(found, detections, self.mask_logits(maps, detections)):
                image.masks = MaskLogits(seen, masks, settings.mask_threshold)
        if unified:
            for i, (image, seen) in enumerate(zip(found, detections)):
                self._add_panoptic_logits(maps, i, image, seen, settings.instance_score)
        return found

    def check_masks(self, settings: UnifiedSettings) -> None:
        """Raise AdaptisError if the settings need masks and there is no mask head."""
        if settings.merge == 'heuristic' and not self.has_masks:
            raise AdaptisError('The heuristic needs masks, but this network has no mask head: '
                               'set merge to unified.')

    def _add_panoptic_logits(self, maps: Maps, index: int, image: UnifiedSegmentation,
                             seen: Detections, instance_score: float) -> None:
        """Add the panoptic logits of an image, with channels for the detections above a score."""
        count = int((seen.scores > instance_score).sum())   # these come first
        sure = Detections(*(part[:count] for part in seen))
        masks = expit(image.masks.logits[:count]) if image.masks else None
        logits = self.panoptic_logits(maps, index, image.size, sure.boxes, sure.classes,
                                      sure.scores, masks)
        image.channels = PanopticLogits(sure, check_finite(logits, 'panoptic logits')[0])


class ExportedUnified(UnifiedInference, ExportedNetwork):
    """An exported ``Unified``."""


def make_exported(runner: Any, attributes: Mapping[str, Any], settings: UnifiedSettings,
                  taxonomy: Taxonomy) -> UnifiedPredictor:
    """Return a predictor with an exported network, see ``ModelFamily.exported_predictor``."""
    return UnifiedPredictor(ExportedUnified(runner, attributes), taxonomy, settings)
