"""The AdaptIS network (Sofiiuk, Barinova, Konushin, ICCV 2019; official code saic-vul/adaptis).

This module contains the parts that all networks share.  ``unet``, ``deeplab`` and ``fpn`` combine
them.
"""
from __future__ import annotations

from typing import Any, Optional

from adaptis.errors import AdaptisError
from adaptis.model.layers import (
    COORDINATES,
    AdaIN,
    CoordinateMaps,
    HybridBlock,
    Normalize,
    ResizeLike,
    SamplePoints,
)
from adaptis.runtime import mx


class Encoder(HybridBlock):
    """The part of the network that is computed once per image.

    (B, 3, H, W) RGB 0..255 -> features (B, C, h, w), query map (B, Q, h, w), semantic logits
    (B, K, h, w) and, with the proposal branch, proposal logits (B, 1, h, w).  The proposal branch
    does not propagate gradients to the features (AdaptIS, section 5).

    Parameters
    ----------
    normalize : normalises the image
    backbone : returns the features, or a tuple of maps that starts with the features
    controller : computes the query map; without one the features are the query map
    semantic : takes all maps of the backbone
    proposals : takes the features; None for a network without the branch
    min_side : smallest height and width of an image

    Raises AdaptisError if called with a smaller image.
    """

    def __init__(self, normalize: Normalize, backbone: HybridBlock,
                 controller: Optional[HybridBlock], semantic: HybridBlock,
                 proposals: Optional[HybridBlock], min_side: int = 1):
        super().__init__()
        self._min_side = min_side
        with self.name_scope():
            self.normalize = normalize
            self.backbone = backbone
            self.controller = controller
            self.semantic = semantic
            self.proposals = proposals

    def without_proposals(self) -> Encoder:
        """Return an encoder with the same blocks and parameters but without the proposal branch."""
        return Encoder(self.normalize, self.backbone, self.controller, self.semantic, None,
                       self._min_side)

    def forward(self, x: Any, *args: Any) -> Any:
        check_size(x, self._min_side)
        return super().forward(x, *args)

    def hybrid_forward(self, F, x):
        maps = self.backbone(self.normalize(x))
        maps = maps if isinstance(maps, (list, tuple)) else (maps,)
        features = maps[0]
        query_map = features if self.controller is None else self.controller(features)
        outputs = features, query_map, self.semantic(*maps)
        if self.proposals is None:
            return outputs
        return (*outputs, self.proposals(F.BlockGrad(features)))


class PointHead(HybridBlock):
    """Predicts the mask of the object at each point (AdaptIS, section 3, Figure 4).

    features (B, C, h, w), query map (B, Q, h, w), points (B, N, 2) -> logits (B*N, 1, h, w), image
    by image, then point by point.

    Parameters
    ----------
    stride : image pixels per pixel of the maps
    coordinates : computes the coordinate features, or None
    controller : dense layers on the query, or None
    first : (features, coordinates, points) -> maps of points, as ``PointConv`` does
    before, adain, after : the following layers; ``adain`` also takes the query
    scale, shift : applied to the logits
    """

    def __init__(self, stride: int, coordinates: Optional[CoordinateMaps],
                 controller: Optional[HybridBlock], first: HybridBlock, before: HybridBlock,
                 adain: AdaIN, after: HybridBlock, scale: float = 1.0, shift: float = 0.0):
        super().__init__()
        self._stride = stride
        self._output = scale, shift
        with self.name_scope():
            self.sample = SamplePoints(stride)
            self.coordinates = coordinates
            self.controller = controller
            self.first = first
            self.before = before
            self.adain = adain
            self.after = after

    def split(self) -> tuple[HybridBlock, PointHead]:
        """Return two blocks with the same parameters: one for the features, and one for the points.

        After ``share, head = point_head.split()``, ``head(share(features), query_map, points)``
        equals ``point_head(features, query_map, points)`` for one image.  For several calls on the
        same image, ``share`` needs to run only once.
        """
        share, first = self.first.split()
        head = PointHead(self._stride, self.coordinates, self.controller, first, self.before,
                         self.adain, self.after, *self._output)
        for block in (share, head):
            block.hybridize(self._active)
        return share, head

    def hybrid_forward(self, F, features, query_map, points):
        query = self.sample(query_map, points)
        if self.controller is not None:
            query = self.controller(query)
        coordinates = points if self.coordinates is None else self.coordinates(features, points)
        x = self.first(features, coordinates, points)
        x = self.after(self.adain(self.before(x), query))
        scale, shift = self._output
        return x if (scale, shift) == (1, 0) else x * scale + shift


class AdaptIS(HybridBlock):
    """Class-agnostic instance masks from points, with semantics and point proposals.

    The inputs are images (B, 3, H, W), RGB 0..255, and points (B, N, 2), (row, col) in pixels.  The
    outputs are instance logits (B*N, 1, H, W), semantic logits (B, K, H, W) and, with the proposal
    branch, proposal logits at the points (B*N, 1).

    Networks inherit from this class and pass their parts to ``_assemble``.

    Attributes
    ----------
    encoder, point_head : the parts; their maps are ``stride`` times smaller than the image
    num_classes, num_stuff : classes of the semantic branch, stuff first
    has_proposals : whether there is a proposal branch; without it points are drawn at random
    """

    stride: int = 1
    """Image pixels per pixel of the features and of all later maps."""
    min_side: int = 1
    """Minimum height and width of an image."""

    def _assemble(self, encoder: Encoder, point_head: PointHead, num_classes: int,
                  num_stuff: int) -> None:
        self.num_classes = num_classes
        self.num_stuff = num_stuff
        self.has_proposals = encoder.proposals is not None
        self.encoder = encoder
        self.point_head = point_head
        self.sample_proposals = SamplePoints(self.stride)
        self.resize = ResizeLike()

    def upsample(self, maps: Any, images: Any) -> Any:
        """Return logits (M, C, h, w) at the size of the images: bilinear, with aligned corners."""
        return maps if self.stride == 1 else self.resize(maps, images)

    def backbone_params(self) -> Any:
        """Return the parameters that can start from ImageNet weights; empty for the toy network."""
        trunk = getattr(self.encoder.backbone, 'trunk', None)
        return mx.gluon.ParameterDict() if trunk is None else trunk.collect_params()

    def forward(self, x: Any, *args: Any) -> Any:
        check_size(x, self.min_side)
        return super().forward(x, *args)

    def hybrid_forward(self, F, x, points):
        features, query_map, semantic, *proposals = self.encoder(x)
        instances = self.point_head(features, query_map, points)
        return (self.upsample(instances, x), self.upsample(semantic, x),
                *(self.sample_proposals(p, points) for p in proposals))


def make_coordinates(kind: str, radius: float, stride: int) -> Optional[CoordinateMaps]:
    """Return the coordinate features of a point head; None if it has none."""
    return CoordinateMaps(kind, radius, stride) if COORDINATES[kind] else None


def check_size(images: Any, least: int) -> None:
    """Raise AdaptisError if images (B, C, H, W) are smaller than ``least``; ignore symbols."""
    if isinstance(images, mx.nd.NDArray) and min(images.shape[2:]) < least:
        raise AdaptisError('The image is {}x{}, but this network needs images of at least '
                           '{least}x{least}.'.format(*images.shape[2:], least=least))
