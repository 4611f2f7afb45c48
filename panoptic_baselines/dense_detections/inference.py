"""Inference of dense detections between the stages: NMS and full-size masks."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Optional

import numpy as np

from adaptis.arrays import as_numpy
from adaptis.types import Taxonomy
from panoptic_baselines.dense_detections.masks import full_masks
from panoptic_baselines.dense_detections.settings import (
    DENSE_DETECTIONS_PRESETS,
    DenseDetectionsSettings,
)
from panoptic_baselines.exported import ExportedNetwork
from panoptic_baselines.fcos.decode import Candidates, find_candidates, keep_top_scores
from panoptic_baselines.layers.boxes import Size, clip, scale
from panoptic_baselines.layers.nms import nms
from panoptic_baselines.layers.upsample import labels_of_batch
from panoptic_baselines.merge import Instances
from panoptic_baselines.predictor import Predictor, Segmentation, check_finite

STRIDES = 8, 16, 32, 64, 128
MASK_VALUES = 2 ** 20
"""Number of grid values that are processed at a time, which limits the memory."""


class Maps(NamedTuple):
    """The outputs that the network learns to predict, for a batch.

    ``logits`` (B, num_things, h, w), ``distances`` (B, 4, h, w) to the left, upper, right and lower
    side in pixels, ``centerness`` logits (B, 1, h, w), each for p3, ..., p7; ``semantic`` logits
    (B, num_stuff + num_things, H/8, W/8), or H/4, W/4; ``levelness`` logits (B, 6, H/4, W/4), the
    background first, or None if the network has no levelness.
    """

    logits: list[Any]
    distances: list[Any]
    centerness: list[Any]
    semantic: Any
    levelness: Optional[Any]


class DenseOutputs(NamedTuple):
    """All outputs of the graph for a batch.

    ``maps``; ``boxes`` (B, 4, H/4, W/4) of every pixel, or (B, 4 * levels, H/4, W/4) without
    levelness; ``things`` (B, num_things, H/4, W/4), the probabilities of the thing classes.
    """

    maps: Maps
    boxes: Any
    things: Any


class DenseDetectionsInference:
    """Inference of ``DenseDetections``, given the outputs of its stages.

    They are 'network', the complete network, and 'giou_masks' and 'iou_masks', which make masks.
    """

    presets, divisor = DENSE_DETECTIONS_PRESETS, 1
    has_instances = has_semantic = True
    merge_things = False
    attributes = {'num_things': int, 'num_stuff': int, 'mean': list, 'divisor': int,
                  'semantic_stride': int}

    if TYPE_CHECKING:
        semantic_stride: int

        def run(self, stage: str, **inputs: Any) -> list[Any]: ...

    def encode(self, x: Any) -> DenseOutputs:
        """Run the network on images (B, 3, H, W) and return its outputs by name."""
        *outputs, boxes, things = self.run('network', image=x)
        return DenseOutputs(to_maps(outputs), boxes, things)

    def detect(self, maps: Maps, sizes: Sequence[Size], settings: DenseDetectionsSettings
               ) -> list[Candidates]:
        """Return the detections of each image by descending score, without masks.

        Boxes are in pixels of the network's input and end at the last pixel of the image;
        ``sizes`` are (H, W) without padding.
        """
        levels = [[check_finite(level, what) for level in part] for part, what in zip(
            maps[:3], ('class logits', 'boxes', 'centerness logits'))]
        if maps.levelness is not None:
            check_finite(maps.levelness, 'levelness logits')
        return [self._detect([[level[i] for level in part] for part in levels], size, settings)
                for i, size in enumerate(sizes)]

    def _detect(self, levels: Sequence[Sequence[np.ndarray]], size: Size,
                settings: DenseDetectionsSettings) -> Candidates:
        found = find_candidates(
            *levels, STRIDES, threshold=settings.score_threshold,
            per_level=settings.candidates_per_level, thresh_with_ctr=False, sqrt_scores=False)
        found = found._replace(boxes=clip(found.boxes, (size[0] - 1, size[1] - 1)))
        return select_detections(found, settings)

    def mask_probabilities(self, dense: DenseOutputs, image: int, found: Candidates,
                           kind: str = 'giou') -> np.ndarray:
        """Return float32 (N, h, w) on the levelness grid, for N detections of an image.

        See ``location_probability`` for ``kind``.
        """
        boxes, things = dense.boxes[image], dense.things[image]
        probabilities = np.empty((len(found.scores), *boxes.shape[1:]), np.float32)
        step = max(1, MASK_VALUES // boxes[0].size)
        for begin in range(0, len(found.scores), step):
            part = found.take(slice(begin, begin + step))
            made, = self.run(f'{kind}_masks', boxes=boxes, things=things, queries=part.boxes,
                             classes=part.classes)
            probabilities[begin:begin + step] = as_numpy(made)
        return probabilities

    def segment(self, x: Any, sizes: Sequence[Size], output_sizes: Sequence[Size],
                settings: DenseDetectionsSettings,
                min_score: Optional[float] = 0.0) -> list[Segmentation]:
        """See ``panoptic_baselines.predictor.Network``."""
        dense = self.encode(x)
        instances: list[Optional[Instances]] = [None] * len(sizes)
        semantic = check_finite(dense.maps.semantic, 'semantic logits')
        if min_score is not None:
            for i, found in enumerate(self.detect(dense.maps, sizes, settings)):
                found = found.take(found.scores >= min_score)
                masks = full_masks(
                    self.mask_probabilities(dense, i, found, settings.location), sizes[i],
                    output_sizes[i], settings.mask_threshold)
                instances[i] = Instances(scale(found.boxes, sizes[i], output_sizes[i]),
                                         found.scores, found.classes, masks)
        labels = labels_of_batch(semantic, self.semantic_stride, sizes, output_sizes)
        return [Segmentation(*parts) for parts in zip(instances, labels)]


class ExportedDenseDetections(DenseDetectionsInference, ExportedNetwork):
    """An exported ``DenseDetections``."""


def make_exported(runner: Any, attributes: Mapping[str, Any], settings: DenseDetectionsSettings,
                  taxonomy: Taxonomy) -> Predictor:
    """Return a predictor with an exported network, see ``ModelFamily.exported_predictor``."""
    return Predictor(ExportedDenseDetections(runner, attributes), taxonomy, settings)


def to_maps(outputs: Sequence[Any]) -> Maps:
    """Return the outputs of ``Encoder`` by name."""
    count = len(STRIDES)
    *_, semantic, levelness = [*outputs, None][:3 * count + 2]
    return Maps(*(list(outputs[i * count:(i + 1) * count]) for i in range(3)), semantic, levelness)


def select_detections(candidates: Candidates, settings: DenseDetectionsSettings) -> Candidates:
    """Return the candidates by descending score after NMS in every class, then among all classes.

    Candidates that tie with the last one are kept as well.
    """
    limit, order = settings.detections_per_image, np.argsort(-candidates.scores, kind='stable')
    # Boxes with a lower score do not affect which of the best remain, so try a few first.
    count = 4 * limit
    while True:
        found = _suppress(candidates.take(order[:count]), settings)
        if count >= len(order) or (len(found.scores) >= limit and found.scores[limit - 1]
                                   > candidates.scores[order[count]]):
            return found.take(keep_top_scores(found.scores, np.arange(len(found.scores)), limit))
        count *= 2


def _suppress(candidates: Candidates, settings: DenseDetectionsSettings) -> Candidates:
    found = candidates.take(nms(candidates.boxes, candidates.scores, settings.nms_threshold,
                                candidates.classes))
    return found.take(nms(found.boxes, found.scores, settings.agnostic_nms_threshold))
