"""The common part of AdaptIS for photographs: a backbone, and heads at a quarter of the image size.

Sections 4 and 7 of the paper; the official DeepLabV3+ and FPN networks.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Optional

from adaptis.model.adaptis import AdaptIS, Encoder, PointHead, make_coordinates
from adaptis.model.backbones import IMAGENET_MEAN, IMAGENET_STD, Trunk, make_trunk
from adaptis.model.layers import (
    COORDINATES,
    AdaIN,
    HybridBlock,
    Norm,
    Normalize,
    PointConv,
    nn,
    separable_unit,
    stack_dense,
    stack_separable,
)
from adaptis.model.options import (
    check_common,
    check_normalisation,
    check_type,
    check_width,
    make_norm,
)

PROPOSALS_DROPOUT = 0.35
"""Dropout of the proposal branch after its first unit, as in the official code."""


class ResNetAdaptIS(AdaptIS):
    """AdaptIS on a backbone of GluonCV; the maps are a quarter of the image's size.

    Parameters
    ----------
    backbone : a name in ``adaptis.model.backbones.BACKBONES``
    pretrained_base : start from ImageNet weights, which GluonCV downloads once
    width : channels of the features, 256 in the official networks; the widths of the heads are
        fractions of it
    num_classes, num_stuff : classes of the semantic branch, stuff first (Cityscapes: 19, 11)
    coordinates : 'relative' (Relative CoordConv), 'absolute' (CoordConv) or 'none'
    radius : extent of the relative coordinates, in image pixels
    epsilon : epsilon of AdaIN; ignored if ``official``
    official : reproduce the official code's AdaIN without epsilon
    proposals : whether there is a proposal branch; without it points are drawn at random
    mean, std : normalisation of the input, on a scale of 0 to 1
    norm_layer, norm_kwargs : 'BatchNorm' or 'SyncBatchNorm' and its options, for all layers
        including the backbone (``num_devices`` of SyncBatchNorm defaults to the number of GPUs)

    Raises AdaptisError for an invalid option, or if weights cannot be downloaded.
    """

    stride = 4
    dilated: bool
    """Whether the backbone is dilated, so that its last stages keep 1/8 of the image's size."""

    def __init__(self, *, backbone: str = 'resnet50', pretrained_base: bool = False,
                 width: int = 256, num_classes: int = 19, num_stuff: int = 11,
                 coordinates: str = 'relative', radius: float = 280.0, epsilon: float = 1e-5,
                 official: bool = False, proposals: bool = True,
                 mean: Sequence[float] = IMAGENET_MEAN, std: Sequence[float] = IMAGENET_STD,
                 norm_layer: str = 'BatchNorm', norm_kwargs: Optional[Mapping[str, Any]] = None):
        super().__init__()
        check_width(width, 8)
        check_common(num_classes, num_stuff, coordinates, radius, epsilon, official, proposals)
        check_normalisation(mean, std)
        check_type(bool, 'true or false', pretrained_base=pretrained_base)
        norm = make_norm(norm_layer, norm_kwargs)
        with self.name_scope():
            trunk = make_trunk(backbone, self.dilated, pretrained_base, norm_layer, norm_kwargs)
            branch = stack_separable([width, width // 2, width // 2], last=1, norm=norm,
                                     dropout=PROPOSALS_DROPOUT) if proposals else None
            encoder = Encoder(Normalize(mean, std), self._features(trunk, width, norm), None,
                              self._semantic(width, num_classes, norm), branch, self.min_side)
            epsilon = 0.0 if official else epsilon
            point_head = self._point_head(width, coordinates, radius, epsilon, norm)
            self._assemble(encoder, point_head, num_classes, num_stuff)

    def _features(self, trunk: Trunk, width: int, norm: Norm) -> HybridBlock:
        """Return the block that computes the features of normalised images.

        It returns ``width`` channels at a quarter of the size, or a tuple of maps that starts with
        them.  Its attribute ``trunk`` is the backbone.
        """
        raise NotImplementedError

    def _semantic(self, width: int, num_classes: int, norm: Norm) -> HybridBlock:
        """Return the block that computes the class logits from the output of ``_features``."""
        raise NotImplementedError

    def _point_head(self, width: int, coordinates: str, radius: float, epsilon: float,
                    norm: Norm) -> PointHead:
        half = width // 2
        before = nn.HybridSequential()
        before.add(nn.Activation('relu'), norm(half), separable_unit(half, half, norm),
                   nn.Conv2D(half, 1, in_channels=half), nn.LeakyReLU(0.2))
        return PointHead(
            self.stride, make_coordinates(coordinates, radius, self.stride),
            stack_dense([width, half, half, half], norm),
            PointConv(half, width, COORDINATES[coordinates]), before,
            AdaIN(half, half, epsilon),
            stack_separable([half, half, half // 2, half // 4], last=1, norm=norm))
