"""Dense detections (Hou et al. 2020): masks from the boxes that every pixel predicts for itself.

``DenseDetections`` is one graph from the image to all that suppression needs, hybridized once for
every size; training looks at a part of it::

    encoder                  what has parameters, one graph
      backbone               ResNet: stem.conv1, res2 ... res5 (layers/resnet.py)
      fpn                    lateral3 ... lateral5, output3 ... output5, p6, p7 (layers/fpn.py)
      head                   class_tower, box_tower (layers/fcos.py); class_logits, box_offsets,
                             scales, centerness, semantic, levelness

Suppression is NumPy's, masks are a graph again (layers/dense_boxes.py).
``panoptic_baselines.convert_dense`` has the official names.  Images are RGB, and the network turns
them round itself: ``stem.conv1`` has the official order of channels, BGR.
"""
from __future__ import annotations

from typing import Any, List, Mapping, NamedTuple, Optional, Sequence, Union

import cv2
import numpy as np

from adaptis.runtime import mx
from panoptic_baselines.arguments import demand_choice, demand_counts, demand_numbers
from panoptic_baselines.initializers import choose_initializers
from panoptic_baselines.layers.boxes import Size, clip, scale
from panoptic_baselines.layers.dense_boxes import GRID_STRIDE, MaskBuilder, dense_boxes
from panoptic_baselines.layers.dense_head import DenseHead, grid_like
from panoptic_baselines.layers.fcos import Candidates, best_scores, find_candidates
from panoptic_baselines.layers.fpn import FPN
from panoptic_baselines.layers.image_encoder import ImageEncoder
from panoptic_baselines.layers.interpolate import resize_like
from panoptic_baselines.layers.nms import nms
from panoptic_baselines.layers.resnet import ResNet, get_recipe
from panoptic_baselines.layers.upsample import labels_of_batch
from panoptic_baselines.merge import Instances
from panoptic_baselines.predictor import Segmentation, finite
from panoptic_baselines.settings import DENSE_PRESETS, DenseSettings

nn = mx.gluon.nn
HybridBlock = mx.gluon.HybridBlock

STRIDES = 8, 16, 32, 64, 128
MEAN = 122.7717, 115.9465, 102.9801
MASK_VALUES = 2 ** 20
"""Masks are made of so many values of the grid at a time: they bound the memory."""


class Maps(NamedTuple):
    """What the network learns to predict, for a batch.

    ``logits`` (B, num_things, h, w), ``offsets`` (B, 4, h, w) to the left, upper, right and lower
    side in pixels, ``centerness`` logits (B, 1, h, w), each for p3, ..., p7; ``semantic`` logits
    (B, num_stuff + num_things, H/8, W/8), or half that stride; ``levelness`` logits
    (B, 6, H/4, W/4), the background first, None without.
    """

    logits: List[Any]
    offsets: List[Any]
    centerness: List[Any]
    semantic: Any
    levelness: Optional[Any]


class Dense(NamedTuple):
    """Everything that the graph makes of a batch.

    ``maps`` ; ``boxes`` (B, 4, H/4, W/4) of every pixel, ``things`` (B, num_things, H/4, W/4),
    the probabilities of their classes.
    """

    maps: Maps
    boxes: Any
    things: Any


class DenseDetections(HybridBlock):
    """The network.  ``net(x)`` gives a flat list, ``net.read(x)`` the same as ``Dense``.

    Parameters
    ----------
    backbone : 'resnet18', 34, 50, 101, 152; the stride is in the 3x3 convolutions
    num_things, num_stuff : classes of the two kinds
    towers : 2, or 1 for boxes and classes together, of the width of the box tower (table 3)
    levelness : whether there is such a prediction; without it a pixel takes the box of the level
        that is surest of some thing there (table 3, appendix B)
    fpn_channels, class_channels, box_channels : widths of pyramid and towers
    semantic_stride : 8 (official code) or 4 (paper, section 4.2)
    mean, std : of the image, RGB
    norm_layer, norm_kwargs : of the backbone; the official frozen norm has no epsilon

    Images are (B, 3, H, W), RGB, 0..255, of any size.  Raises AdaptisError for an argument that
    makes no sense.
    """

    presets, divisor = DENSE_PRESETS, 1
    has_instances = has_semantic = True
    merge_things = False

    def __init__(self, *, backbone: str = 'resnet50', num_things: int = 8, num_stuff: int = 11,
                 towers: int = 2, levelness: bool = True, fpn_channels: int = 256,
                 class_channels: int = 128, box_channels: int = 256, semantic_stride: int = 8,
                 mean: Sequence[float] = MEAN, std: Sequence[float] = (1.0, 1.0, 1.0),
                 norm_layer: Union[str, type] = 'FrozenBatchNorm',
                 norm_kwargs: Optional[Mapping[str, Any]] = None):
        super().__init__()
        recipe = get_recipe(backbone)._replace(stride_in_1x1=False)
        demand_counts(num_things=num_things, num_stuff=num_stuff, fpn_channels=fpn_channels,
                      class_channels=class_channels, box_channels=box_channels)
        demand_choice('towers', towers, (1, 2))
        demand_choice('levelness', levelness, (False, True))
        demand_choice('semantic_stride', semantic_stride, (4, 8))
        if norm_layer == 'FrozenBatchNorm' and isinstance(norm_kwargs or {}, Mapping):
            norm_kwargs = {'epsilon': 0.0, **(norm_kwargs or {})}
        self.num_things, self.num_stuff = num_things, num_stuff
        self.num_semantic = num_stuff + num_things
        self.semantic_stride = semantic_stride
        self.mean = demand_numbers('mean', mean, 3)
        self.std = demand_numbers('std', std, 3, positive=True)
        with self.name_scope():
            self.encoder = Encoder(
                ResNet(recipe, norm_layer, norm_kwargs), fpn_channels,
                DenseHead(fpn_channels, num_things, self.num_semantic, class_channels,
                          box_channels, towers == 2, levelness, semantic_stride),
                self.mean, self.std)
            self.giou_masks, self.iou_masks = MaskBuilder('giou'), MaskBuilder('iou')
        choose_initializers(self)

    def backbone_params(self) -> Any:
        """The part that starts from ImageNet."""
        return self.encoder.backbone.collect_params()

    def maps(self, x: Any) -> Maps:
        """What training needs of images (B, 3, H, W)."""
        return to_maps(self.encoder(x))

    def read(self, x: Any) -> Dense:
        """Everything dense of images (B, 3, H, W)."""
        *outputs, boxes, things = self(x)
        return Dense(to_maps(outputs), boxes, things)

    def hybrid_forward(self, F, x):
        outputs = self.encoder(x)
        maps = to_maps(outputs)
        grid = grid_like(F, maps.logits[0])
        if maps.levelness is None:
            levels = F.concat(*(resize_like(F, F.max(x, axis=1, keepdims=True), grid)
                                for x in maps.logits), dim=1)
        else:
            levels = F.slice_axis(maps.levelness, axis=1, begin=1, end=None)
        semantic = maps.semantic
        if self.semantic_stride != GRID_STRIDE:
            semantic = resize_like(F, semantic, grid)
        things = F.slice_axis(F.softmax(semantic, axis=1), axis=1, begin=self.num_stuff, end=None)
        return [*outputs, dense_boxes(F, maps.offsets, levels), things]

    def detect(self, maps: Maps, sizes: Sequence[Size], settings: DenseSettings
               ) -> List[Candidates]:
        """Detections of every image by descending score, in pixels of the network's input.

        ``sizes`` (H, W) without padding, at whose last pixels boxes end.  No masks yet.
        """
        levels = [[finite(level, what) for level in part] for part, what in zip(
            maps[:3], ('class logits', 'boxes', 'centerness logits'))]
        if maps.levelness is not None:
            finite(maps.levelness, 'levelness logits')
        return [self._detect([[level[i] for level in part] for part in levels], size, settings)
                for i, size in enumerate(sizes)]

    def _detect(self, levels: Sequence[Sequence[np.ndarray]], size: Size,
                settings: DenseSettings) -> Candidates:
        found = find_candidates(
            *levels, STRIDES, threshold=settings.score_threshold,
            per_level=settings.candidates_per_level, weigh_first=False, root=False)
        found = found._replace(boxes=clip(found.boxes, (size[0] - 1, size[1] - 1)))
        return select(found, settings)

    def mask_probabilities(self, dense: Dense, image: int, found: Candidates,
                           kind: str = 'giou') -> np.ndarray:
        """float32 (N, h, w) on the levelness grid, for N detections of one image of the batch.

        ``kind`` of the location probability: see ``location_probability``.
        """
        boxes, things = dense.boxes[image], dense.things[image]
        probabilities = np.empty((len(found.scores), *boxes.shape[1:]), np.float32)
        step = max(1, MASK_VALUES // boxes[0].size)
        builder = {'giou': self.giou_masks, 'iou': self.iou_masks}[kind]
        for begin in range(0, len(found.scores), step):
            part = found.take(slice(begin, begin + step))
            queries, classes = (mx.nd.array(a, ctx=boxes.context)
                                for a in (part.boxes, part.classes))
            probabilities[begin:begin + step] = builder(boxes, things, queries, classes).asnumpy()
        return probabilities

    def segment(self, x: Any, sizes: Sequence[Size], output_sizes: Sequence[Size],
                settings: DenseSettings, min_score: Optional[float] = 0.0) -> List[Segmentation]:
        """Everything in a batch of images; see ``predictor.Network``."""
        dense = self.read(x)
        instances: List[Optional[Instances]] = [None] * len(sizes)
        semantic = finite(dense.maps.semantic, 'semantic logits')
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


class Encoder(ImageEncoder):
    """What has parameters as one graph: images -> flat list in the order of ``Maps``."""

    def __init__(self, backbone: ResNet, channels: int, head: HybridBlock,
                 mean: Sequence[float], std: Sequence[float]):
        super().__init__(mean, std)
        with self.name_scope():
            self.backbone = backbone
            self.fpn = FPN(channels, backbone.channels[1:], 'p6p7')
            self.head = head

    def hybrid_forward(self, F, x):
        return self.head(*self.fpn(*self.backbone(self.normalize(F, x))[1:]))


def to_maps(outputs: Sequence[Any]) -> Maps:
    """The outputs of ``Encoder`` by name."""
    count = len(STRIDES)
    *_, semantic, levelness = [*outputs, None][:3 * count + 2]
    return Maps(*(list(outputs[i * count:(i + 1) * count]) for i in range(3)), semantic, levelness)


def select(candidates: Candidates, settings: DenseSettings) -> Candidates:
    """Candidates by descending score after suppression in every class, then among all.

    Kept is what scores no less than the last one that may be kept.
    """
    limit, order = settings.detections_per_image, np.argsort(-candidates.scores, kind='stable')
    # What remains among the best is no matter of the others: so look at a few first.
    count = 4 * limit
    while True:
        found = _suppress(candidates.take(order[:count]), settings)
        if count >= len(order) or (len(found.scores) >= limit and found.scores[limit - 1]
                                   > candidates.scores[order[count]]):
            return found.take(best_scores(found.scores, np.arange(len(found.scores)), limit))
        count *= 2


def _suppress(candidates: Candidates, settings: DenseSettings) -> Candidates:
    found = candidates.take(nms(candidates.boxes, candidates.scores, settings.nms_threshold,
                                candidates.classes))
    return found.take(nms(found.boxes, found.scores, settings.agnostic_nms_threshold))


def full_masks(probabilities: np.ndarray, size: Size, output_size: Size,
               threshold: float) -> np.ndarray:
    """bool (N, H, W) of ``output_size``: (N, h, w) on the grid, at least ``threshold``.

    Upsampled by 4, cut to ``size``, resized to ``output_size``, bilinearly.  OpenCV does one
    mask after the other, ten times as fast as MXNet does them at once.
    """
    masks = np.empty((len(probabilities), *output_size), bool)
    for probability, mask in zip(probabilities, masks):
        np.greater_equal(full_map(probability, size, output_size), threshold, out=mask)
    return masks


def full_map(probability: np.ndarray, size: Size, output_size: Size) -> np.ndarray:
    """float32 (H, W) of ``output_size`` for one map (h, w) on the grid; see ``full_masks``."""
    height, width = probability.shape
    full = cv2.resize(probability, (GRID_STRIDE * width, GRID_STRIDE * height),
                      interpolation=cv2.INTER_LINEAR)[:size[0], :size[1]]
    if size == output_size:
        return full
    return cv2.resize(full, output_size[::-1], interpolation=cv2.INTER_LINEAR)
