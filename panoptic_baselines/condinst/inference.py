"""Inference of CondInst between its stages: select detections and compute their masks."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Optional

import numpy as np

from adaptis.arrays import as_numpy, expit
from adaptis.types import Taxonomy
from panoptic_baselines.condinst.full_masks import full_masks
from panoptic_baselines.condinst.mask_nms import mask_nms
from panoptic_baselines.condinst.settings import CONDINST_PRESETS, CondInstSettings
from panoptic_baselines.exported import ExportedNetwork
from panoptic_baselines.fcos.decode import Candidates, find_candidates, select_detections
from panoptic_baselines.layers.boxes import Size, clip, nonempty, scale
from panoptic_baselines.layers.upsample import SEMANTIC_STRIDE, labels_of_batch
from panoptic_baselines.merge import Instances
from panoptic_baselines.predictor import Predictor, Segmentation, check_finite


class Maps(NamedTuple):
    """Outputs of the dense part for a batch.

    Per level: ``logits`` of classes (B, num_things, h, w), ``distances`` in strides (B, 4, h, w),
    ``centerness`` logits (B, 1, h, w), ``params`` of the mask head (B, num_params, h, w).  At
    stride 8: ``mask_features`` (B, C, H/8, W/8), where only the size matters if the network has no
    mask branch; ``things``, auxiliary logits (B, num_things, H/8, W/8) when training with the
    auxiliary task, else None.  ``semantic`` logits (B, 1 + num_stuff, H/4, W/4) or None.
    """

    logits: list[Any]
    distances: list[Any]
    centerness: list[Any]
    params: list[Any]
    mask_features: Any
    things: Optional[Any]
    semantic: Optional[Any]


class CondInstInference:
    """Inference of ``CondInst``, given the outputs of its stages 'encoder' and 'mask_head'."""

    presets, divisor = CONDINST_PRESETS, 32
    has_instances = merge_things = True
    attributes = {'num_things': int, 'num_stuff': int, 'has_semantic': bool, 'mean': list,
                  'divisor': int, 'strides': list, 'sizes': list, 'mask_stride': int}

    if TYPE_CHECKING:
        has_semantic: bool
        strides: Sequence[int]
        sizes: Sequence[int]
        mask_stride: int

        def run(self, stage: str, **inputs: Any) -> list[Any]: ...

        def encode(self, x: Any) -> Maps: ...

    def to_maps(self, outputs: Sequence[Any]) -> Maps:
        """Return the encoder's outputs by name, except the first (p3), which only training uses."""
        _, mask_features, *levels = outputs
        semantic = levels.pop() if self.has_semantic else None
        count = len(self.strides)
        return Maps(*(levels[i * count:(i + 1) * count] for i in range(4)), mask_features, None,
                    semantic)

    def detect(self, maps: Maps, settings: CondInstSettings) -> list[Candidates]:
        """Return the detections of each image, in pixels of the network's input, without masks."""
        logits = [check_finite(level, 'class logits') for level in maps.logits]
        distances = [check_finite(level, 'boxes') * np.float32(stride)
                     for level, stride in zip(maps.distances, self.strides)]
        centerness = [check_finite(level, 'centerness logits') for level in maps.centerness]
        candidates = [find_candidates(
            *([level[i] for level in part] for part in (logits, distances, centerness)),
            self.strides, threshold=settings.score_threshold,
            per_level=settings.candidates_per_level) for i in range(len(logits[0]))]
        if settings.nms == 'mask':
            return [self._select_by_masks(maps, i, found, settings)
                    for i, found in enumerate(candidates)]
        return [select_detections(found, settings.nms_threshold, settings.detections_per_image)
                for found in candidates]

    def _select_by_masks(self, maps: Maps, image: int, found: Candidates,
                         settings: CondInstSettings) -> Candidates:
        """Return the detections that remain after mask NMS at ``mask_stride``."""
        def masks(rows: np.ndarray) -> np.ndarray:
            return (expit(self.mask_logits(maps, image, found.take(rows)))
                    > settings.mask_threshold)
        return found.take(mask_nms(masks, found.scores, settings.nms_threshold, found.classes,
                                   settings.detections_per_image))

    def mask_logits(self, maps: Maps, image: int, found: Candidates) -> np.ndarray:
        """Return float32 (N, h, w) at ``mask_stride`` for N detections of an image of the batch."""
        features = maps.mask_features[image:image + 1]
        if not len(found.scores):   # MXNet has no empty batches
            factor = self.strides[0] // self.mask_stride
            return np.zeros((0, *(factor * side for side in features.shape[2:])), np.float32)
        logits, = self.run('mask_head', features=features,
                           params=self.params_at(maps, image, found), locations=found.locations,
                           sizes=np.float32(self.sizes)[found.levels][:, None])
        return check_finite(logits, 'mask logits')

    def params_at(self, maps: Maps, image: int, found: Candidates) -> np.ndarray:
        """Return float32 (N, num_params): the mask head's weights for N detections of an image."""
        params = np.empty((len(found.scores), maps.params[0].shape[1]), np.float32)
        for level in np.unique(found.levels):
            rows = found.levels == level
            flat = as_numpy(maps.params[level][image]).reshape(params.shape[1], -1)
            params[rows] = flat[:, found.cells[rows]].T
        return params

    def segment(self, x: Any, sizes: Sequence[Size], output_sizes: Sequence[Size],
                settings: CondInstSettings, min_score: Optional[float] = 0.0
                ) -> list[Segmentation]:
        """See ``panoptic_baselines.predictor.Network``."""
        maps = self.encode(x)
        instances: list[Optional[Instances]] = [None] * len(sizes)
        if min_score is not None:
            for i, found in enumerate(self.detect(maps, settings)):
                found = found.take(found.scores >= min_score)
                instances[i] = to_instances(
                    found, self.mask_logits(maps, i, found), self.mask_stride, sizes[i],
                    output_sizes[i], settings.mask_threshold)
        labels: list[Optional[np.ndarray]] = [None] * len(sizes)
        if self.has_semantic:
            logits = check_finite(maps.semantic, 'semantic logits')
            labels = labels_of_batch(logits, SEMANTIC_STRIDE, sizes, output_sizes)
        return [Segmentation(*parts) for parts in zip(instances, labels)]


class ExportedCondInst(CondInstInference, ExportedNetwork):
    """An exported ``CondInst``."""


def make_exported(runner: Any, attributes: Mapping[str, Any], settings: CondInstSettings,
                  taxonomy: Taxonomy) -> Predictor:
    """Return a predictor with an exported network, see ``ModelFamily.exported_predictor``."""
    return Predictor(ExportedCondInst(runner, attributes), taxonomy, settings)


def to_instances(found: Candidates, mask_logits: np.ndarray, stride: int, size: Size,
                 output_size: Size, threshold: float) -> Instances:
    """Convert detections in an image of ``size`` to instances of the image at ``output_size``."""
    boxes = clip(scale(found.boxes, size, output_size), output_size)
    left = nonempty(boxes)
    masks = full_masks(expit(mask_logits[left]), stride, size, output_size, threshold)
    return Instances(boxes[left], found.scores[left], found.classes[left], masks)
