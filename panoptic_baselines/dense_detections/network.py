"""Dense detections (Hou et al. 2020): masks from the boxes that every pixel predicts for itself.

``DenseDetections`` is one graph from the image to everything that NMS needs.  It is hybridized once
and then runs at any size.  Training uses a part of it::

    encoder                  all layers with parameters, one graph
      backbone               ResNet: stem.conv1, res2 ... res5 (layers/resnet.py)
      fpn                    lateral3 ... lateral5, output3 ... output5, p6, p7 (layers/fpn.py)
      head                   class_tower, box_tower (fcos/head.py); class_logits, box_offsets,
                             scales, centerness, semantic, levelness (dense_detections/head.py)

NMS runs in NumPy, and a second graph makes the masks (dense_detections/boxes.py).
``panoptic_baselines.dense_detections.convert`` knows the official names.  Images are RGB, and the
network reverses their channels itself: ``stem.conv1`` keeps the official channel order, BGR.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Optional, Union

from adaptis.runtime import mx
from panoptic_baselines.arguments import check_choice, check_counts, check_numbers
from panoptic_baselines.base_network import BaseNetwork
from panoptic_baselines.dense_detections.boxes import MaskBuilder, dense_boxes, level_boxes
from panoptic_baselines.dense_detections.head import DenseHead, levelness_grid
from panoptic_baselines.dense_detections.inference import (  # noqa: F401  (all are part of it)
    STRIDES,
    DenseDetectionsInference,
    DenseOutputs,
    Maps,
    select_detections,
    to_maps,
)
from panoptic_baselines.dense_detections.interpolate import resize_like
from panoptic_baselines.dense_detections.masks import (  # noqa: F401
    GRID_STRIDE,
    full_map,
    full_masks,
)
from panoptic_baselines.initializers import set_initializers
from panoptic_baselines.layers.fpn import FPN
from panoptic_baselines.layers.image_encoder import ImageEncoder
from panoptic_baselines.layers.resnet import ResNet, get_resnet_spec
from panoptic_baselines.layers.softmax import channel_softmax

HybridBlock = mx.gluon.HybridBlock

MEAN = 122.7717, 115.9465, 102.9801


class DenseDetections(DenseDetectionsInference, BaseNetwork):
    """Dense detections.  ``net(x)`` returns a flat list, ``net.encode(x)`` a ``DenseOutputs``.

    Parameters
    ----------
    backbone : 'resnet18', 34, 50, 101, 152; the stride is in the 3x3 convolutions
    num_things, num_stuff : numbers of thing and stuff classes
    towers : 2, or 1 tower for boxes and classes together, as wide as the box tower (table 3)
    levelness : whether to predict levelness; without it, every pixel has a box from each level,
        and each detection uses the one that fits best (table 3, appendix B)
    fpn_channels, class_channels, box_channels : widths of the pyramid and the towers
    semantic_stride : 8 (official code) or 4 (paper, section 4.2)
    mean, std : RGB mean and standard deviation of the image
    norm_layer, norm_kwargs : norm of the backbone; the official frozen norm has no epsilon

    Images are (B, 3, H, W), RGB, 0..255, of any size.  Raises AdaptisError for an invalid argument.
    """

    def __init__(self, *, backbone: str = 'resnet50', num_things: int = 8, num_stuff: int = 11,
                 towers: int = 2, levelness: bool = True, fpn_channels: int = 256,
                 class_channels: int = 128, box_channels: int = 256, semantic_stride: int = 8,
                 mean: Sequence[float] = MEAN, std: Sequence[float] = (1.0, 1.0, 1.0),
                 norm_layer: Union[str, type] = 'FrozenBatchNorm',
                 norm_kwargs: Optional[Mapping[str, Any]] = None):
        super().__init__()
        spec = get_resnet_spec(backbone)._replace(stride_in_1x1=False)
        check_counts(num_things=num_things, num_stuff=num_stuff, fpn_channels=fpn_channels,
                     class_channels=class_channels, box_channels=box_channels)
        check_choice('towers', towers, (1, 2))
        check_choice('levelness', levelness, (False, True))
        check_choice('semantic_stride', semantic_stride, (4, 8))
        if norm_layer == 'FrozenBatchNorm' and isinstance(norm_kwargs or {}, Mapping):
            norm_kwargs = {'epsilon': 0.0, **(norm_kwargs or {})}
        self.num_things, self.num_stuff = num_things, num_stuff
        self.num_semantic = num_stuff + num_things
        self.semantic_stride = semantic_stride
        self.mean = check_numbers('mean', mean, 3)
        self.std = check_numbers('std', std, 3, positive=True)
        with self.name_scope():
            self.encoder = Encoder(
                ResNet(spec, norm_layer, norm_kwargs), fpn_channels,
                DenseHead(fpn_channels, num_things, self.num_semantic, class_channels,
                          box_channels, towers == 2, levelness, semantic_stride),
                self.mean, self.std)
            self.giou_masks, self.iou_masks = (MaskBuilder(kind, self.box_levels)
                                               for kind in ('giou', 'iou'))
        set_initializers(self)

    @property
    def has_levelness(self) -> bool:
        """Whether the network predicts levelness."""
        return self.encoder.head.levelness is not None

    @property
    def box_levels(self) -> int:
        """Number of boxes per pixel: 1, or without levelness one per level."""
        return 1 if self.has_levelness else len(STRIDES)

    def maps(self, x: Any) -> Maps:
        """Run only the layers with parameters, for training, on images (B, 3, H, W)."""
        return to_maps(self.encoder(x))

    def hybrid_forward(self, F, x):
        outputs = self.encoder(x)
        maps = to_maps(outputs)
        grid = levelness_grid(F, maps.logits[0])
        if maps.levelness is None:
            boxes = level_boxes(F, maps.distances, grid)
        else:
            boxes = dense_boxes(F, maps.distances,
                                F.slice_axis(maps.levelness, axis=1, begin=1, end=None))
        semantic = maps.semantic
        if self.semantic_stride != GRID_STRIDE:
            semantic = resize_like(F, semantic, grid)
        things = F.slice_axis(channel_softmax(F, semantic), axis=1, begin=self.num_stuff, end=None)
        return [*outputs, boxes, things]


class Encoder(ImageEncoder):
    """All layers with parameters as one graph: images -> flat list in the order of ``Maps``."""

    def __init__(self, backbone: ResNet, channels: int, head: HybridBlock,
                 mean: Sequence[float], std: Sequence[float]):
        super().__init__(mean, std)
        with self.name_scope():
            self.backbone = backbone
            self.fpn = FPN(channels, backbone.channels[1:], 'p6p7')
            self.head = head

    def hybrid_forward(self, F, x):
        return self.head(*self.fpn(*self.backbone(self.normalize(F, x))[1:]))
