"""Inference of Panoptic FPN between its stages, with one branch or both."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Optional

import numpy as np

from adaptis.types import Taxonomy
from panoptic_baselines.exported import ExportedNetwork
from panoptic_baselines.layers.boxes import Size
from panoptic_baselines.layers.upsample import SEMANTIC_STRIDE, labels_of_batch
from panoptic_baselines.merge import Instances
from panoptic_baselines.panoptic_fpn.settings import PANOPTIC_FPN_PRESETS, PanopticFPNSettings
from panoptic_baselines.predictor import Predictor, Segmentation, check_finite
from panoptic_baselines.rcnn.inference import (
    NUM_LEVELS,
    TwoStageInference,
    filter_by_score,
    to_instances,
)


class Maps(NamedTuple):
    """Outputs of the dense part for a batch; those of a missing branch are empty or None.

    ``features`` p2, ..., p6, from which the RoI heads pool; ``rpn_logits`` (B, A, h, w) and
    ``rpn_deltas`` (B, 4 * A, h, w) per level; ``semantic`` logits (B, num_semantic, H/4, W/4).
    """

    features: list[Any]
    rpn_logits: list[Any]
    rpn_deltas: list[Any]
    semantic: Optional[Any]


class PanopticFPNInference(TwoStageInference):
    """Inference of ``PanopticFPN``, given the outputs of its stages; the first one is 'encoder'."""

    presets, divisor = PANOPTIC_FPN_PRESETS, 32
    attributes = {'num_things': int, 'num_stuff': int, 'has_instances': bool, 'has_semantic': bool,
                  'merge_things': bool, 'mean': list, 'divisor': int, 'anchor_sizes': list}

    if TYPE_CHECKING:
        has_instances: bool
        has_semantic: bool

        def encode(self, x: Any) -> Maps: ...

    def to_maps(self, outputs: Sequence[Any]) -> Maps:
        """Return the outputs of the encoder by name."""
        outputs = list(outputs)
        semantic = outputs.pop() if self.has_semantic else None
        return Maps(outputs[:NUM_LEVELS], outputs[NUM_LEVELS:2 * NUM_LEVELS],
                    outputs[2 * NUM_LEVELS:], semantic)

    def segment(self, x: Any, sizes: Sequence[Size], output_sizes: Sequence[Size],
                settings: PanopticFPNSettings,
                min_score: Optional[float] = 0.0) -> list[Segmentation]:
        """See ``panoptic_baselines.predictor.Network``."""
        maps = self.encode(x)
        instances: list[Optional[Instances]] = [None] * len(sizes)
        if self.has_instances and min_score is not None:
            found = [filter_by_score(d, min_score) for d in self.detect(maps, sizes, settings)]
            instances = [to_instances(*parts, settings.mask_threshold) for parts in zip(
                found, self.mask_logits(maps, found), sizes, output_sizes)]
        labels: list[Optional[np.ndarray]] = [None] * len(sizes)
        if self.has_semantic:
            logits = check_finite(maps.semantic, 'class logits')
            labels = labels_of_batch(logits, SEMANTIC_STRIDE, sizes, output_sizes)
        return [Segmentation(*parts) for parts in zip(instances, labels)]


class ExportedPanopticFPN(PanopticFPNInference, ExportedNetwork):
    """An exported ``PanopticFPN``."""

    def encode(self, x: Any) -> Maps:
        """Run the dense part on an image (1, 3, H, W) and return its outputs by name."""
        outputs = self.run('encoder', image=x)
        if 'semantic_encoder' in self._runner.stages:
            outputs = [*outputs, self.run('semantic_encoder', image=x)[-1]]
        return self.to_maps(outputs)


def make_exported(runner: Any, attributes: Mapping[str, Any], settings: PanopticFPNSettings,
                  taxonomy: Taxonomy) -> Predictor:
    """Return a predictor with an exported network, see ``ModelFamily.exported_predictor``."""
    return Predictor(ExportedPanopticFPN(runner, attributes), taxonomy, settings)
